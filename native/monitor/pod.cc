#include "monitor/pod.h"

#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>

#include "monitor/exit_file.h"
#include "monitor/plan_check.h"

namespace berth {

namespace {

constexpr uint64_t kSweepMs = 5000;

Failure malformed() { return failure(ErrorKind::kInvalid, "read the request", {}, "the message is malformed"); }

template <typename Object>
void dispose_of(EventLoop& loop, std::vector<std::unique_ptr<Object>>& list, const Object& object) {
  const auto place =
      std::find_if(list.begin(), list.end(), [&object](const auto& other) { return other.get() == &object; });
  if (place == list.end()) return;
  loop.dispose(std::move(*place));
  list.erase(place);
}

}  // namespace

Pod::Pod(std::string sandbox_id, std::string directory, UserNamespace users)
    : directory_(std::move(directory)), users_(std::move(users)), server_(loop_, *this, std::move(sandbox_id)), logs_(loop_) {}

std::optional<Failure> Pod::open(UniqueFd listener) {
  if (!loop_.open()) return failure(ErrorKind::kInternal, last_error("epoll_create1"));
  if (auto failed = mounts_.make()) return failed;
  if (!make_exit_directory(directory_)) return failure(ErrorKind::kInternal, last_error("mkdir", directory_ + "/exits"));
  sigset_t child;
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  child_signal_.reset(signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!child_signal_ || !loop_.add(child_signal_.get(), EPOLLIN, on_child_signal_)) {
    return failure(ErrorKind::kInternal, last_error("signalfd"));
  }
  if (!logs_.start()) return failure(ErrorKind::kInternal, last_error("start the log writer"));
  if (!server_.listen(std::move(listener))) return failure(ErrorKind::kInternal, last_error("epoll_ctl", "the socket"));
  return std::nullopt;
}

// ---- calls ----

void Pod::on_call(const Caller& caller, const ToMonitor& call, std::vector<UniqueFd> descriptors) {
  if (!stoppers_.empty() && call.call != Call::kGetState && call.call != Call::kShutdown) {
    return server_.fail(caller, failure(ErrorKind::kNotRunning, "take the call", {}, "the pod is being shut down"));
  }
  switch (call.call) {
    case Call::kSetUpPod:
      if (auto failed = set_up(call.body)) return server_.fail(caller, *failed);
      return server_.send(caller.connection, encode_done(caller.request));
    case Call::kCreateContainer:
      return create_container(caller, call.body, std::move(descriptors));
    case Call::kContinueContainer:
      if (Container* container = find_for(caller, call.body)) container->resume(caller);
      return;
    case Call::kStartContainer:
      if (Container* container = find_for(caller, call.body)) container->start(caller);
      return;
    case Call::kSignalContainer: {
      SignalContainer request;
      if (!decode(call.body, request)) return server_.fail(caller, malformed());
      if (Container* container = find_for(caller, call.body)) container->signal(caller, request.signal, request.all);
      return;
    }
    case Call::kDeleteContainer:
      if (Container* container = find_for(caller, call.body)) container->remove(caller);
      return;
    case Call::kUpdateContainer: {
      UpdateContainer request;
      if (!decode(call.body, request)) return server_.fail(caller, malformed());
      if (Container* container = find_for(caller, call.body)) container->update(caller, std::move(request.resources));
      return;
    }
    case Call::kReopenLog:
      if (Container* container = find_for(caller, call.body)) container->reopen_log(caller);
      return;
    case Call::kAttach: {
      Attach request;
      if (!decode(call.body, request)) return server_.fail(caller, malformed());
      if (Container* container = find_for(caller, call.body)) container->attach(caller, request);
      return;
    }
    case Call::kExec:
      return exec(caller, call.body);
    case Call::kCancelExec:
      return cancel_exec(caller, call.body);
    case Call::kGetState:
      return get_state(caller);
    case Call::kShutdown:
      return shut_down(caller);
    case Call::kHello:
    case Call::kSendDescriptors:  // the server's
    case Call::kNone:
      break;
  }
  server_.fail(caller, failure(ErrorKind::kInvalid, "take the call", {}, "this monitor does not know the call"));
}

Container* Pod::find(std::string_view id) const {
  for (const auto& container : containers_) {
    if (container->id() == id) return container.get();
  }
  return nullptr;
}

Container* Pod::find_for(const Caller& caller, std::string_view body) {
  std::string id;
  if (!decode_container_id(body, id)) {
    server_.fail(caller, malformed());
    return nullptr;
  }
  Container* container = find(id);
  if (container == nullptr) {
    server_.fail(caller, failure(ErrorKind::kNotFound, "find the container", id, "there is no such container"));
  }
  return container;
}

std::optional<Failure> Pod::set_up(std::string_view body) {
  SetUpPod request;
  if (!decode(body, request)) return malformed();
  if (auto failed = set_sysctls(request.sysctls, users_)) return failed;
  if (auto failed = set_hostname(request.hostname)) return failed;
  if (auto failed = own_message_queues(users_)) return failed;
  return mounts_.set_shm(request.shm_bytes, request.mount_label, users_);
}

void Pod::create_container(const Caller& caller, std::string_view body, std::vector<UniqueFd> descriptors) {
  CreateContainer request;
  if (!decode(body, request)) return server_.fail(caller, malformed());
  if (auto failed = check_container_id(request.id)) return server_.fail(caller, *failed);
  if (find(request.id) != nullptr) {
    return server_.fail(caller, failure(ErrorKind::kAlreadyExists, "create the container", request.id,
                                        "there is a container of this id"));
  }
  if (auto failed = check_plan(request.plan, descriptors.size())) return server_.fail(caller, *failed);
  containers_.push_back(std::make_unique<Container>(*this, std::move(request.id)));
  containers_.back()->create(caller, std::move(request.plan), std::move(descriptors));
}

void Pod::exec(const Caller& caller, std::string_view body) {
  Exec request;
  if (!decode(body, request)) return server_.fail(caller, malformed());
  Container* container = find(request.container_id);
  if (container == nullptr) {
    return server_.fail(
        caller, failure(ErrorKind::kNotFound, "exec", request.container_id, "there is no such container"));
  }
  if (container->phase() != Container::Phase::kRunning) {
    return server_.fail(
        caller, failure(ErrorKind::kNotRunning, "exec", request.container_id, "the container is not running"));
  }
  if (auto failed = check_process(request.process)) return server_.fail(caller, *failed);
  auto session = std::make_unique<ExecSession>(*this, caller);
  if (auto failed = session->start(*container, request)) return server_.fail(caller, *failed);
  execs_.push_back(std::move(session));
}

void Pod::cancel_exec(const Caller& caller, std::string_view body) {
  CancelExec request;
  if (!decode(body, request)) return server_.fail(caller, malformed());
  for (const auto& session : execs_) {
    if (session->caller().connection != caller.connection || session->caller().request != request.id) continue;
    server_.send(caller.connection, encode_done(caller.request));
    return request.signal == 0 ? session->cancel() : session->signal(request.signal);
  }
  server_.fail(caller, failure(ErrorKind::kNotFound, "cancel the exec", {}, "there is no such exec on this connection"));
}

void Pod::get_state(const Caller& caller) {
  std::vector<ContainerState> states;
  for (const auto& container : containers_) states.push_back(container->state());
  server_.send(caller.connection, encode_state_reply(caller.request, states));
}

void Pod::shut_down(const Caller& caller) {
  stoppers_.push_back(caller);
  for (const auto& container : containers_) container->kill_all();
  stop_when_all_ended();
}

void Pod::stop_when_all_ended() {
  if (stoppers_.empty()) return;
  for (const auto& container : containers_) {
    if (container->alive()) return;
  }
  for (const Caller& caller : std::exchange(stoppers_, {})) {
    server_.send(caller.connection, encode_done(caller.request));
  }
  pod_init_.kill();
  leftovers_.sweep();
  server_.flush_before_exit();
  loop_.stop();
}

void Pod::on_disconnect(uint64_t connection) {
  for (const auto& session : execs_) {
    if (session->caller().connection == connection) session->abandon();
  }
}

void Pod::on_writable(uint64_t connection) {
  for (const auto& session : execs_) {
    if (session->caller().connection == connection) session->resume();
  }
}

// ---- what containers and execs ask for ----

CgroupLeftovers& Pod::cgroup_leftovers() {
  if (!sweep_timer_.armed()) sweep_timer_.arm_in(kSweepMs);
  return leftovers_;
}

void Pod::on_sweep_time() {
  leftovers_.sweep();
  // After a burst of work the heap's free pages go back, too.
  malloc_trim(0);
  if (!leftovers_.empty()) sweep_timer_.arm_in(kSweepMs);
}

std::optional<Failure> Pod::find_pid_namespace(const Plan& plan, int& pidfd) {
  if (plan.pid_namespace == PidNamespace::kPod) {
    if (auto failed = pod_init_.ensure(directory_, users_)) return failed;
    pidfd = pod_init_.pidfd();
    return std::nullopt;
  }
  const Container* target = find(plan.pid_target);
  if (target == nullptr) {
    return failure(ErrorKind::kNotFound, "join the PID namespace", plan.pid_target, "there is no such container");
  }
  if (target->phase() != Container::Phase::kRunning || target->pidfd() < 0) {
    return failure(ErrorKind::kNotRunning, "join the PID namespace", plan.pid_target, "the container is not running");
  }
  pidfd = target->pidfd();
  return std::nullopt;
}

void Pod::on_container_ended(Container&) { stop_when_all_ended(); }

void Pod::forget(Container& container) {
  dispose_of(loop_, containers_, container);
  leftovers_.sweep();
  stop_when_all_ended();
}

void Pod::forget(ExecSession& session) { dispose_of(loop_, execs_, session); }

// ---- children ----

void Pod::read_reports() {
  // What is read may end a session or a container, and change the list.
  for (size_t i = execs_.size(); i-- > 0;) {
    if (i < execs_.size()) execs_[i]->read_reports();
  }
  for (size_t i = containers_.size(); i-- > 0;) {
    if (i < containers_.size()) containers_[i]->read_reports();
  }
}

void Pod::on_child_signal(uint32_t) {
  signalfd_siginfo ignored[4];
  while (read(child_signal_.get(), ignored, sizeof ignored) > 0) continue;
  for (;;) {
    siginfo_t info = {};
    if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == 0) return;
    // Before its number is given back: a child that another has cloned makes itself known by a report, which precedes its
    // end.
    read_reports();
    if (waitid(P_PID, static_cast<id_t>(info.si_pid), &info, WEXITED | WNOHANG) == 0 && info.si_pid != 0) reap(info);
  }
}

void Pod::reap(const siginfo_t& info) {
  for (const auto& session : execs_) {
    if (session->on_reaped(info)) return;
  }
  for (const auto& container : containers_) {
    if (container->on_reaped(info)) return;
  }
  // Else an orphan, which had nobody but the pod's init: this process.
  if (!pod_init_.on_reaped(info.si_pid)) orphan_ends_.add(info);
}

}  // namespace berth
