#include "monitor/exec.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "common/clone3.h"
#include "monitor/child_init.h"
#include "monitor/entry.h"
#include "monitor/host_pid.h"
#include "monitor/identity.h"
#include "monitor/program.h"
#include "monitor/terminal.h"
#include "monitor/user_namespace.h"

namespace berth {

namespace {

constexpr size_t kOutputChunk = 64 << 10;
// What has been killed and does not end (it hangs in the kernel) is no longer waited for.
constexpr uint64_t kOverdueMs = 100;
// How often is looked whether what was killed together with the program has ended, too.
constexpr uint64_t kLingerMs = 2;
constexpr int kSignalExit = 128;

struct ExecOrders {
  const Process& process;
  const TasksFiles& tasks;
  ChildChannel channel;
  const ProgramVectors& vectors;
  const Descriptors& descriptors;
  int container_pidfd;
  bool has_user_namespace;
  pid_t expected_parent;
  Entry entry;
};

[[noreturn]] void run_exec(const ExecOrders& orders) {
  const ChildChannel& channel = orders.channel;
  keep_only(orders.descriptors, channel);
  umask(0);
  join_cgroups(orders.tasks, channel);
  set_oom_score_adj(orders.process, channel);
  set_labels(orders.process, channel);
  // The net, IPC and UTS namespaces are the pod's, where the monitor is already.
  if (orders.has_user_namespace) raise_hard_limits(orders.process);
  const int user = orders.has_user_namespace ? CLONE_NEWUSER : 0;
  if (setns(orders.container_pidfd, user | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWCGROUP) != 0) {
    channel.fail(errno == ESRCH ? ErrorKind::kNotRunning : ErrorKind::kInternal, "join the container's namespaces", "",
                 errno);
  }
  use_own_null_device(channel);
  keep_only_channel(channel);
  if (orders.has_user_namespace) become_root_inside(channel);
  if (orders.process.terminal) {
    const UniqueFd terminal = open_terminal_in_container(orders.process, channel);
    for (int stream = 0; stream < 3; ++stream) {
      if (dup2(terminal.get(), stream) < 0) channel.break_off("dup2");
    }
  }
  assume_identity(orders.process, orders.entry, orders.expected_parent, channel);
  reset_signals();
  execute(orders.process, orders.vectors, channel);
}

bool has_ended(int pidfd) {
  pollfd process = {pidfd, POLLIN, 0};
  return poll(&process, 1, 0) == 1;
}

}  // namespace

ExecSession::ExecSession(ExecHost& host, const Caller& caller)
    : host_(host), caller_(caller), timeout_(host.loop(), *this), overdue_(host.loop(), *this), linger_(host.loop(), *this) {
  stdout_.stream = 1;
  stderr_.stream = 2;
}

ExecSession::~ExecSession() {
  release();
  if (!cgroup_.path.empty()) host_.cgroup_leftovers().remove(std::move(cgroup_.path));
}

std::optional<Failure> ExecSession::start(Container& container, const Exec& exec) {
  output_left_ = exec.output_limit == 0 ? UINT64_MAX : exec.output_limit;
  const Cgroup& cgroup = container.cgroup();
  // An OCI runtime that sees cgroup2 puts the program where it thinks best, unless it can be told.
  const bool has_own_cgroup = container.foreign() == nullptr || container.joins_cgroup2_by_clone() ||
                              container.foreign()->runtime().exec_cgroups;
  if (!cgroup.cgroup2_directory.empty() && has_own_cgroup &&
      !make_exec_cgroup(cgroup.cgroup2_directory, container.exec_counter(), cgroup_)) {
    const Failure failed = failure(ErrorKind::kInternal, last_error("make the exec's cgroup", cgroup_.path));
    cgroup_.path.clear();
    return failed;
  }
  if (container.foreign() != nullptr && cgroup_.directory && !takes_processes(cgroup_.directory.get())) drop_cgroup();
  UniqueFd in;
  UniqueFd out;
  UniqueFd err;
  if (!make_streams(exec, in, out, err)) return failure(ErrorKind::kInternal, last_error("pipe2"));
  if (container.foreign() != nullptr) {
    return start_by_runtime(container, exec, std::move(in), std::move(out), std::move(err));
  }
  UniqueFd child_end;
  if (!channel_.open(child_end)) return failure(ErrorKind::kInternal, last_error("socketpair"));
  Descriptors descriptors;
  descriptors.stdin_fd = in ? in.get() : host_.null_fd();
  descriptors.stdout_fd = out ? out.get() : host_.null_fd();
  descriptors.stderr_fd = err ? err.get() : host_.null_fd();
  descriptors.kept = {child_end.get(), container.pidfd()};
  container.tasks().list(descriptors.kept);
  descriptors.sort();
  const ProgramVectors vectors(exec.process);
  const ExecOrders orders = {
      .process = exec.process,
      .tasks = container.tasks(),
      .channel = ChildChannel(child_end.get()),
      .vectors = vectors,
      .descriptors = descriptors,
      .container_pidfd = container.pidfd(),
      .has_user_namespace = host_.users().exists(),
      .expected_parent = container.in_host_pid_namespace() ? getpid() : 0,
      .entry = entry_into_shared(exec.process),
  };
  CloneOptions options;
  options.cgroup_fd = cgroup_.directory.get();
  pid_t pid = clone3_fork(options);
  UniqueFd shared;
  if (pid < 0 && errno == EOPNOTSUPP && cgroup_.directory && !takes_processes(cgroup_.directory.get())) {
    drop_cgroup();
    shared.reset(open(cgroup.cgroup2_directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    options.cgroup_fd = shared.get();
    if (shared) pid = clone3_fork(options);
  }
  if (pid == 0) run_exec(orders);
  if (pid < 0) {
    const Failure failed = failure(ErrorKind::kInternal, last_error("clone3", cgroup_.path));
    channel_.close();
    return failed;
  }
  helper_pid_ = pid;
  if (!host_.loop().add(channel_.fd(), EPOLLIN, on_report_)) {
    // Its reports are still read before its end is looked at.
    cancel();
  }
  hand_streams_over(exec.process.terminal);
  if (exec.timeout_ms != 0) timeout_.arm_in(exec.timeout_ms);
  return std::nullopt;
}

// ---- streams ----

bool ExecSession::make_streams(const Exec& exec, UniqueFd& in, UniqueFd& out, UniqueFd& err) {
  streams_ = exec.streams;
  if (exec.process.terminal) return true;
  const uid_t owner = host_.users().uids.to_host(exec.process.uid);
  if (streams_ && exec.stdin && !make_stream(in, stdin_, owner)) return false;
  const auto make_output = [owner](Output& output, UniqueFd& child_end) {
    return make_stream(output.fd, child_end, owner) && fcntl(output.fd.get(), F_SETFL, O_NONBLOCK) == 0;
  };
  if ((!streams_ || exec.stdout) && !make_output(stdout_, out)) return false;
  return (streams_ && !exec.stderr) || make_output(stderr_, err);
}

// To the caller, or into the loop.
void ExecSession::hand_streams_over(bool terminal) {
  if (!streams_) {
    watch(stdout_, on_stdout_);
    watch(stderr_, on_stderr_);
    return;
  }
  // It comes later.
  if (terminal && !stdout_.fd) return;
  std::vector<UniqueFd> descriptors;
  const auto number = [&descriptors](UniqueFd& fd) {
    if (!fd) return 0U;
    descriptors.push_back(std::move(fd));
    return static_cast<uint32_t>(descriptors.size());
  };
  StreamNumbers numbers;
  numbers.stdin = number(stdin_);
  (terminal ? numbers.terminal : numbers.stdout) = number(stdout_.fd);
  numbers.stderr = number(stderr_.fd);
  host_.server().send(caller_.connection, encode_exec_started_event(caller_.request, numbers), std::move(descriptors));
}

void ExecSession::take_terminal(UniqueFd terminal) {
  stdout_.fd = std::move(terminal);
  if (fcntl(stdout_.fd.get(), F_SETFL, O_NONBLOCK) != 0) stdout_.fd.reset();
  hand_streams_over(true);
}

// ---- by an OCI runtime ----

// The container's own one will do.
void ExecSession::drop_cgroup() {
  cgroup_.directory.reset();
  host_.cgroup_leftovers().remove(std::move(cgroup_.path));
  cgroup_.path.clear();
}

std::optional<Failure> ExecSession::start_by_runtime(Container& container, const Exec& exec, UniqueFd in, UniqueFd out,
                                                     UniqueFd err) {
  ForeignRuntime& foreign = *container.foreign();
  if (exec.oci_process.empty()) {
    return failure(ErrorKind::kInvalid, "exec", container.id(), "the request has no oci_process for its OCI runtime");
  }
  RuntimeOrders orders;
  // It does not wait for the program, which becomes the monitor's own child.
  orders.command = {"exec", "--detach"};
  if (container.joins_cgroup2_by_clone()) {
    orders.cgroup2_fd = cgroup_.directory.get();
  } else if (cgroup_.directory) {
    orders.command.insert(orders.command.end(), {"--cgroup", cgroup_.path.substr(cgroup_.path.rfind('/') + 1)});
  }
  orders.container_id = foreign.container_id();
  orders.stdin_fd = in ? in.get() : host_.null_fd();
  orders.stdout_fd = out ? out.get() : host_.null_fd();
  orders.stderr_fd = err ? err.get() : host_.null_fd();
  orders.process = &exec.process;
  orders.starts_program = true;
  orders.terminal = terminal_ = exec.process.terminal;
  orders.input_option = "--process";
  orders.input = exec.oci_process;
  command_ = std::make_unique<RuntimeCommand>(host_.loop(), host_.orphan_ends(), *this);
  container_init_.reset(fcntl(container.pidfd(), F_DUPFD_CLOEXEC, 0));
  if (auto failed = command_->start(foreign.runtime(), orders, foreign.next_number())) return failed;
  hand_streams_over(terminal_);
  if (exec.timeout_ms != 0) timeout_.arm_in(exec.timeout_ms);
  return std::nullopt;
}

void ExecSession::on_runtime_ended() {
  if (command_->result()) {
    // Killed together with the container, it is as if the program were; else it found nothing to enter.
    if (!cancelled_ && !command_->was_killed()) {
      failure_ = has_ended(container_init_.get())
                     ? failure(ErrorKind::kNotRunning, "exec", {}, "the container is not running")
                     : *command_->result();
    }
    reply_.exit_code = kSignalExit + SIGKILL;
    return end();
  }
  pid_ = command_->program();
  // Also that of a program that has ended before the runtime: its output waits there, and the caller waits for streams.
  if (terminal_) take_terminal(command_->take_terminal());
  if (command_->program_end()) {
    on_reaped(*command_->program_end());
    return;
  }
  send_early_signal();
  if (cancelled_) kill_tree();
}

// ---- reports and output ----

void ExecSession::on_report(uint32_t) {
  while (channel_) {
    Report report;
    pid_t sender = 0;
    UniqueFd descriptor;
    const ChildLink::Result result = channel_.receive(report, sender, descriptor);
    if (result == ChildLink::Result::kWouldBlock) return;
    if (result == ChildLink::Result::kEnd) {
      close_channel();
      send_early_signal();
      return fail_without_program();
    }
    if (report.kind == ReportKind::kHello && pid_ == 0) {
      pid_ = sender;
      if (cancelled_) kill_tree();
    } else if (report.kind == ReportKind::kTerminal) {
      take_terminal(std::move(descriptor));
    } else if (report.kind == ReportKind::kFailed) {
      failure_ = to_failure(report);
    }
  }
}

void ExecSession::watch(Output& output, EventSource& source) {
  if (!output.fd || output.watched) return;
  output.watched = host_.loop().add(output.fd.get(), EPOLLIN, source);
}

void ExecSession::close(Output& output, EventSource& source) {
  if (output.watched) host_.loop().remove(output.fd.get(), source);
  output.watched = false;
  output.fd.reset();
}

void ExecSession::read_while_room(Output& output, EventSource& source) {
  if (!host_.server().has_room(caller_.connection)) {
    // Not merely without EPOLLIN: the end of the pipe would be told all the same, again and again.
    host_.loop().remove(output.fd.get(), source);
    output.watched = false;
    return;
  }
  read_once(output, source);
}

void ExecSession::resume() {
  watch(stdout_, on_stdout_);
  watch(stderr_, on_stderr_);
}

bool ExecSession::read_once(Output& output, EventSource& source) {
  static char chunk[kOutputChunk];
  ssize_t count;
  do {
    count = read(output.fd.get(), chunk, sizeof chunk);
  } while (count < 0 && errno == EINTR);
  if (count < 0 && errno == EAGAIN) return false;
  if (count <= 0) {
    close(output, source);
    return false;
  }
  const auto length = static_cast<uint64_t>(count);
  const uint64_t sent = std::min(length, output_left_);
  if (output_left_ != UINT64_MAX) output_left_ -= sent;
  reply_.dropped_bytes += length - sent;
  if (sent > 0 && !answered_) {
    host_.server().send(caller_.connection, encode_exec_output(caller_.request, output.stream, {chunk, sent}));
  }
  return true;
}

// What is in the pipe at this moment; others may go on writing to it.
void ExecSession::drain(Output& output, EventSource& source) {
  int waiting = 0;
  if (!output.fd || ioctl(output.fd.get(), FIONREAD, &waiting) != 0) return;
  for (int left = waiting; left > 0 && output.fd && read_once(output, source);) {
    left -= static_cast<int>(kOutputChunk);
  }
}

// ---- the end ----

void ExecSession::kill_tree() {
  if (helper_pid_ != 0) kill(helper_pid_, SIGKILL);
  if (command_) command_->kill();
  if (pid_ != 0) kill(pid_, SIGKILL);
  if (cgroup_.directory) {
    kill_cgroup2(cgroup_.directory.get());
  } else if (pid_ != 0) {
    // Without cgroup2 what has left the exec's session is not found.
    const UniqueFd leader(static_cast<int>(syscall(SYS_pidfd_open, pid_, 0)));
    if (leader) kill_session(host_pid_of(leader.get()));
  }
}

void ExecSession::cancel() {
  cancelled_ = true;
  kill_tree();
  if (!overdue_.armed()) overdue_.arm_in(kOverdueMs);
}

// To the program's process group, which is there once it is executed: what comes before waits for that.
void ExecSession::signal(int number) {
  early_signal_ = number;
  if (!channel_) send_early_signal();
}

void ExecSession::send_early_signal() {
  if (pid_ == 0 || early_signal_ == 0) return;
  const int number = std::exchange(early_signal_, 0);
  kill(-pid_, number);
  // As the kernel hangs a terminal up: who is stopped would hear of it no sooner than it goes on.
  if (number == SIGHUP) kill(-pid_, SIGCONT);
}

void ExecSession::abandon() {
  answered_ = true;
  timeout_.disarm();
  cancel();
}

void ExecSession::on_timeout() {
  reply_.timed_out = true;
  cancel();
}

void ExecSession::on_overdue() {
  // The session stays until its processes have ended after all.
  if (answered_) return;
  reply_.exit_code = kSignalExit + SIGKILL;
  answer();
}

bool ExecSession::on_reaped(const siginfo_t& info) {
  if (command_ && command_->on_reaped(info)) {
    on_runtime_ended();
    return true;
  }
  if (info.si_pid == helper_pid_) {
    helper_pid_ = 0;
    // As for a container's builder: with code 0 the program was cloned.
    if (pid_ == 0 && (info.si_code != CLD_EXITED || info.si_status != 0)) close_channel();
    fail_without_program();
    return true;
  }
  if (pid_ == 0 || info.si_pid != pid_) return false;
  pid_ = 0;
  reply_.exit_code = info.si_code == CLD_EXITED ? info.si_status : kSignalExit + info.si_status;
  end();
  return true;
}

void ExecSession::fail_without_program() {
  if (command_ || pid_ != 0 || helper_pid_ != 0 || channel_) return;
  // Killed before it could become the program: by this session, or together with the container.
  if (!failure_) reply_.exit_code = kSignalExit + SIGKILL;
  end();
}

void ExecSession::answer() {
  timeout_.disarm();
  overdue_.disarm();
  drain(stdout_, on_stdout_);
  drain(stderr_, on_stderr_);
  answered_ = true;
  if (failure_ && !reply_.timed_out) return host_.server().fail(caller_, *failure_);
  host_.server().send(caller_.connection, encode_exec_reply(caller_.request, reply_));
}

void ExecSession::end() {
  // Each of them ends when a CPU has time for it: the answer is that all are gone.
  if (cancelled_ && overdue_.armed() && cgroup_.directory && is_populated(cgroup_.directory.get())) {
    return linger_.arm_in(kLingerMs);
  }
  if (!answered_) answer();
  // It is destroyed a little later: no more events until then.
  release();
  host_.forget(*this);
}

void ExecSession::close_channel() {
  if (channel_) host_.loop().remove(channel_.fd(), on_report_);
  channel_.close();
}

void ExecSession::release() {
  timeout_.disarm();
  overdue_.disarm();
  linger_.disarm();
  close_channel();
  close(stdout_, on_stdout_);
  close(stderr_, on_stderr_);
}

}  // namespace berth
