#include "monitor/container.h"

#include <signal.h>

#include <cerrno>
#include <memory>
#include <utility>

#include "monitor/exit_file.h"

namespace berth {

Container::Container(ContainerHost& host, std::string id)
    : host_(host), id_(std::move(id)), drain_timer_(host.loop(), *this), oom_watch_(host.loop(), *this) {
  exit_.id = id_;
}

Container::~Container() {
  close_channel();
  if (log_ != nullptr) host_.logs().release(log_, false);
}

void Container::close_channel() {
  if (channel_) host_.loop().remove(channel_.fd(), on_report_);
  channel_.close();
}

// ---- create ----

void Container::create(const Caller& caller, Plan plan, std::vector<UniqueFd> descriptors) {
  creator_ = caller;
  plan_ = std::move(plan);
  if (!plan_->oci_runtime.path.empty()) {
    foreign_ = std::make_unique<ForeignRuntime>(host_.loop(), host_.orphan_ends(), host_.null_fd(), plan_->oci_runtime,
                                                id_);
  }
  descriptors_ = std::move(descriptors);
  cgroup_ = plan_->cgroup;
  own_pid_namespace_ = plan_->pid_namespace == PidNamespace::kContainer;
  in_host_pid_namespace_ = plan_->pid_namespace == PidNamespace::kHost;
  terminal_ = plan_->process.terminal;
  stdin_once_ = plan_->stdin_once;
  log_ = host_.logs().open(plan_->log, *this);
}

void Container::on_log_opened(int errno_value) {
  if (phase_ != Phase::kOpeningLog) {
    for (const Caller& caller : std::exchange(reopeners_, {})) {
      if (errno_value == 0) {
        host_.server().send(caller.connection, encode_done(caller.request));
      } else {
        host_.server().fail(caller, failure(ErrorKind::kInternal, SysError{"open the log", errno_value, log_->path()}));
      }
    }
    return;
  }
  if (errno_value != 0) {
    return fail_create(failure(ErrorKind::kInvalid, SysError{"open the log", errno_value, log_->path()}));
  }
  if (killed_) return fail_create(why_not_created());
  phase_ = Phase::kBuilding;
  if (auto failed = foreign_ ? create_by_runtime() : spawn()) return fail_create(*failed);
  // The child has its own copy of them.
  plan_.reset();
  descriptors_.clear();
}

void Container::answer_creator(int32_t host_pid) {
  if (creator_) host_.server().send(creator_->connection, encode_create_reply(creator_->request, host_pid));
  creator_.reset();
}

void Container::resume(const Caller& caller) {
  if (phase_ != Phase::kBuilding || !paused_) {
    return host_.server().fail(
        caller, failure(ErrorKind::kNotRunning, "continue the container", id_, "the container does not wait for hooks"));
  }
  paused_ = false;
  creator_ = caller;
  if (!channel_.send_go(host_pid_)) kill_processes();
}

void Container::on_ready() {
  phase_ = Phase::kCreated;
  oom_watch_.start(cgroup_.oom_kill_file, oom_kills_at_start_);
  read_output();
  answer_creator(host_pid_);
}

// Only when its processes are gone, or were never there.
void Container::fail_create(const Failure& failed) {
  if (foreign_ && !foreign_->cleaned()) {
    if (foreign_->cleaning()) return;
    foreign_->clean_up([this, failed] { fail_create(failed); });
    return;
  }
  close_channel();
  if (creator_) host_.server().fail(*creator_, failed);
  host_.logs().release(log_, true);
  log_ = nullptr;
  phase_ = Phase::kExited;
  answer_removals();
  host_.forget(*this);
}

// ---- start ----

void Container::start(const Caller& caller) {
  if (phase_ != Phase::kCreated) {
    return host_.server().fail(caller, failure(ErrorKind::kNotRunning, "start the container", id_,
                                               "the container is not in the state created"));
  }
  phase_ = Phase::kStarting;
  starter_ = caller;
  started_at_ = realtime_ns();
  if (is_unstartable()) {
    exit_.finished_at = realtime_ns();
    return end_unstarted();
  }
  if (foreign_) {
    RuntimeOrders orders;
    orders.command = {"start"};
    return foreign_->run(std::move(orders), [this](RuntimeCommand& command) { on_runtime_started(command); });
  }
  // When it cannot be told, it has ended: its end is the answer.
  if (!channel_.send_go(host_pid_)) kill_processes();
}

void Container::on_running() {
  phase_ = Phase::kRunning;
  host_.server().send(starter_->connection, encode_start_reply(starter_->request, started_at_, host_pid_));
  // An agent that was killed since has a successor, which waits for it.
  host_.server().broadcast(encode_started_event(id_, started_at_, host_pid_), starter_->connection);
  starter_.reset();
}

// ---- signals, deletion, log ----

void Container::signal(const Caller& caller, int number, bool all) {
  if (phase_ != Phase::kCreated && phase_ != Phase::kStarting && phase_ != Phase::kRunning) {
    return host_.server().fail(
        caller, failure(ErrorKind::kNotRunning, "signal the container", id_, "the container is not running"));
  }
  if (all && number != SIGKILL) {
    return host_.server().fail(caller, failure(ErrorKind::kInvalid, "signal the container", id_,
                                               "only SIGKILL can be sent to all processes"));
  }
  if (all) {
    kill_all();
  } else if (pid_ == 0 || kill(pid_, number) != 0) {
    const ErrorKind kind = pid_ == 0 || errno == ESRCH ? ErrorKind::kNotRunning : ErrorKind::kInvalid;
    return host_.server().fail(caller, failure(kind, last_error("kill", id_)));
  }
  host_.server().send(caller.connection, encode_done(caller.request));
}

void Container::reopen_log(const Caller& caller) {
  if (phase_ == Phase::kOpeningLog || phase_ == Phase::kExited) {
    return host_.server().fail(
        caller, failure(ErrorKind::kNotRunning, "reopen the log", id_, "the container is not running"));
  }
  reopeners_.push_back(caller);
  host_.logs().reopen(log_);
}

void Container::remove(const Caller& caller) {
  removers_.push_back(caller);
  if (phase_ == Phase::kExited) {
    answer_removals();
    return host_.forget(*this);
  }
  kill_all();
}

void Container::answer_removals() {
  // An init that failed before it was created has no exit file.
  remove_exit_file(host_.directory(), id_);
  for (const Caller& caller : std::exchange(removers_, {})) {
    host_.server().send(caller.connection, encode_done(caller.request));
  }
}

void Container::on_out_of_memory(uint64_t kills) {
  host_.server().broadcast(encode_out_of_memory_event(id_, kills));
}

ContainerState Container::state() const {
  ContainerState state;
  state.id = id_;
  state.pid = host_pid_;
  switch (phase_) {
    case Phase::kOpeningLog:
    case Phase::kBuilding:
    case Phase::kCreated:
      break;
    case Phase::kStarting:
    case Phase::kRunning:
    case Phase::kEnding:
      state.phase = ContainerPhase::kRunning;
      state.started_at = started_at_;
      state.starting = phase_ == Phase::kStarting || started_at_ == 0;
      break;
    case Phase::kExited:
      state.phase = ContainerPhase::kExited;
      state.started_at = started_at_;
      state.exit = exit_;
      break;
  }
  return state;
}

}  // namespace berth
