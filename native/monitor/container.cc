#include "monitor/container.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "common/clone3.h"
#include "monitor/cgroup.h"
#include "monitor/child_init.h"
#include "monitor/exit_file.h"
#include "monitor/host_pid.h"
#include "monitor/plan_check.h"
#include "monitor/user_namespace.h"

namespace berth {

namespace {

// How long the last output of an ended container is awaited when somebody else still holds its pipe, and how long it may
// take to reach a slow disk.
constexpr uint64_t kAwaitEndMs = 100;
constexpr uint64_t kAwaitDiskMs = 900;
constexpr int kSignalExit = 128;
constexpr int kStartFailedExit = 128;

}  // namespace

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
  log_ = host_.logs().open(plan_->log.path, plan_->log.max_line_bytes, *this);
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
  if (!removers_.empty()) {
    return fail_create(failure(ErrorKind::kInternal, "create the container", id_, "it was deleted meanwhile"));
  }
  phase_ = Phase::kBuilding;
  if (auto failed = foreign_ ? create_by_runtime() : spawn()) return fail_create(*failed);
  // The child has its own copy of them.
  plan_.reset();
  descriptors_.clear();
}

std::optional<Failure> Container::make_streams(ChildStreams& streams) {
  if (terminal_) return std::nullopt;
  const uid_t owner = host_.users().uids.to_host(plan_->process.uid);
  if ((plan_->stdin && !make_stream(streams.in, stdin_, owner)) || !make_stream(stdout_, streams.out, owner) ||
      !make_stream(stderr_, streams.err, owner) || fcntl(stdout_.get(), F_SETFL, O_NONBLOCK) != 0 ||
      fcntl(stderr_.get(), F_SETFL, O_NONBLOCK) != 0) {
    return failure(ErrorKind::kInternal, last_error("pipe2"));
  }
  return std::nullopt;
}

std::optional<Failure> Container::collect_mounts(std::vector<int>& mount_fds, std::vector<UniqueFd>& shm_mounts) {
  for (const Mount& mount : plan_->mounts) {
    if (mount.source_fd != 0) {
      mount_fds.push_back(descriptors_[mount.source_fd - 1].get());
    } else if (mount.type == "shm") {
      if (auto failed = host_.open_shm(shm_mounts.emplace_back())) return failed;
      mount_fds.push_back(shm_mounts.back().get());
    } else {
      mount_fds.push_back(-1);
    }
  }
  return std::nullopt;
}

std::optional<Failure> Container::spawn() {
  const Plan& plan = *plan_;
  ChildStreams streams;
  if (auto failed = make_streams(streams)) return failed;
  const UserNamespace& users = host_.users();
  int pid_namespace_fd = -1;
  if (plan.pid_namespace == PidNamespace::kPod || plan.pid_namespace == PidNamespace::kTarget) {
    if (auto failed = host_.find_pid_namespace(plan, pid_namespace_fd)) return failed;
    joins_at_start_ = !users.exists();
    hooks_at_start_ = !plan.hooks.start_container.empty();
  }
  std::vector<int> mount_fds;
  std::vector<UniqueFd> shm_mounts;
  if (auto failed = collect_mounts(mount_fds, shm_mounts)) return failed;
  UniqueFd cgroup2;
  if (!cgroup_.cgroup2_directory.empty()) {
    cgroup2.reset(open(cgroup_.cgroup2_directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!cgroup2) return failure(ErrorKind::kInternal, last_error("open the cgroup", cgroup_.cgroup2_directory));
  }
  oom_kills_at_start_ = read_oom_kills(cgroup_.oom_kill_file);

  UniqueFd child_end;
  if (!channel_.open(child_end)) return failure(ErrorKind::kInternal, last_error("socketpair"));
  const int root_fd = descriptors_[plan.root_fd - 1].get();
  Descriptors descriptors;
  descriptors.stdin_fd = streams.in ? streams.in.get() : host_.null_fd();
  descriptors.stdout_fd = streams.out ? streams.out.get() : host_.null_fd();
  descriptors.stderr_fd = streams.err ? streams.err.get() : host_.null_fd();
  descriptors.kept = mount_fds;
  descriptors.kept.push_back(child_end.get());
  descriptors.kept.push_back(root_fd);
  descriptors.kept.push_back(pid_namespace_fd);
  descriptors.kept.push_back(host_.mounts_fd());
  descriptors.kept.push_back(users.fd.get());
  descriptors.sort();
  const ProgramVectors vectors(plan.process);
  const HookVectors create_hooks(plan.hooks.create_container);
  const HookVectors start_hooks(plan.hooks.start_container);
  const InitOrders orders = {
      .plan = plan,
      .channel = ChildChannel(child_end.get()),
      .vectors = vectors,
      .descriptors = descriptors,
      .create_hooks = create_hooks,
      .start_hooks = start_hooks,
      .root_fd = root_fd,
      .mount_fds = mount_fds,
      .pid_namespace_fd = pid_namespace_fd,
      .mounts_fd = host_.mounts_fd(),
      .entry = joins_at_start_ ? entry_into_shared(plan.process) : Entry::kStay,
      .users = users,
      .directory = host_.directory().c_str(),
      .expected_parent = in_host_pid_namespace_ ? getpid() : 0,
  };
  CloneOptions options;
  // In a user namespace it is made by a second clone, so that it belongs to it.
  if (!users.exists() && own_pid_namespace_) options.flags = CLONE_NEWPID;
  options.cgroup_fd = cgroup2.get();
  const pid_t pid = clone3_fork(options);
  if (pid < 0) {
    const Failure failed = failure(ErrorKind::kInternal, last_error("clone3", cgroup_.cgroup2_directory));
    channel_.close();
    return failed;
  }
  if (pid == 0) run_init(orders);

  if (users.exists()) {
    builder_pid_ = pid;
  } else {
    adopt_init(pid);
  }
  if (!host_.loop().add(channel_.fd(), EPOLLIN, on_report_)) {
    failure_ = failure(ErrorKind::kInternal, last_error("epoll_ctl"));
    kill_processes();
  }
  return std::nullopt;
}

void Container::adopt_init(pid_t pid) {
  pid_ = pid;
  // It is the monitor's child and not reaped yet: the number is still its own.
  pidfd_.reset(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  host_pid_ = pidfd_ ? host_pid_of(pidfd_.get()) : 0;
}

void Container::on_report(uint32_t) {
  while (channel_) {
    Report report;
    pid_t sender = 0;
    UniqueFd descriptor;
    const ChildLink::Result result = channel_.receive(report, sender, descriptor);
    if (result == ChildLink::Result::kWouldBlock) return;
    if (result == ChildLink::Result::kEnd) {
      close_channel();
      if (pid_ == 0 && joins_at_start_ && !entered_) return on_program_lost();
      // In any other case the end of the child itself follows.
      if (phase_ == Phase::kStarting && !failure_ && has_program()) on_running();
      return fail_without_init();
    }
    switch (report.kind) {
      case ReportKind::kHello:
        on_hello(sender);
        break;
      case ReportKind::kTerminal:
        stdout_ = std::move(descriptor);
        if (fcntl(stdout_.get(), F_SETFL, O_NONBLOCK) != 0) kill_processes();
        stdin_.reset(fcntl(stdout_.get(), F_DUPFD_CLOEXEC, 0));
        break;
      case ReportKind::kReady:
        if (phase_ == Phase::kBuilding && removers_.empty()) on_ready();
        break;
      case ReportKind::kPaused: {
        if (phase_ != Phase::kBuilding || !removers_.empty()) break;
        paused_ = true;
        answer_creator(host_pid_);
        break;
      }
      case ReportKind::kFailed:
        failure_ = to_failure(report);
        break;
    }
  }
}

void Container::on_hello(pid_t sender) {
  if (joins_at_start_ && phase_ == Phase::kStarting) {
    // What has built everything ends; 0: it has ended.
    builder_pid_ = pid_;
    entered_ = true;
    adopt_init(sender);
    if (hooks_at_start_ && !channel_.send_go(host_pid_)) kill_processes();
  } else if (pid_ == 0) {
    adopt_init(sender);
  }
  if (!removers_.empty()) kill_processes();
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

void Container::read_output() {
  host_.logs().read_from(log_, std::move(stdout_), std::move(stderr_));
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
  if (starter_) host_.server().send(starter_->connection, encode_start_reply(starter_->request, started_at_, host_pid_));
  starter_.reset();
}

// ---- the end ----

bool Container::on_reaped(const siginfo_t& info) {
  if (foreign_ && foreign_->on_reaped(info)) return true;
  if (info.si_pid == builder_pid_) {
    builder_pid_ = 0;
    // With code 0 it has cloned the init, whose Hello comes or has come. An init that it cloned just before it was killed
    // finds the channel closed, and ends.
    if (pid_ == 0 && (info.si_code != CLD_EXITED || info.si_status != 0)) close_channel();
    fail_without_init();
    return true;
  }
  if (info.si_pid != pid_) return false;
  if (phase_ == Phase::kStarting && !has_program() && info.si_code == CLD_EXITED && info.si_status == 0) {
    // It has cloned the program, whose Hello comes, unless that was killed before it could say it.
    pid_ = 0;
    if (!channel_) on_program_lost();
    return true;
  }
  on_init_ended(info);
  return true;
}

void Container::on_program_lost() {
  siginfo_t info = {};
  info.si_code = CLD_KILLED;
  info.si_status = SIGKILL;
  on_init_ended(info);
}

void Container::fail_without_init() {
  if (foreign_ || phase_ != Phase::kBuilding || pid_ != 0 || builder_pid_ != 0 || channel_) return;
  fail_create(why_not_created());
}

Failure Container::why_not_created() const {
  if (failure_) return *failure_;
  if (read_oom_kills(cgroup_.oom_kill_file) > oom_kills_at_start_) {
    return failure(ErrorKind::kInvalid, "create the container", id_,
                   "memory_limit_in_bytes is too little for its mounts and files: its init was killed for memory");
  }
  return failure(ErrorKind::kInternal, "create the container", id_, "its init was killed");
}

void Container::on_init_ended(const siginfo_t& info) {
  pid_ = 0;
  host_pid_ = 0;
  exit_.finished_at = realtime_ns();
  const bool by_signal = info.si_code != CLD_EXITED;
  if (phase_ == Phase::kBuilding) {
    return fail_create(why_not_created());
  }
  if (!own_pid_namespace_) kill_processes();
  if (foreign_ && phase_ == Phase::kStarting && starter_ && !failure_) {
    // What the runtime's `start` says decides whether the program ever ran.
    ended_at_start_ = info;
    return;
  }
  if (phase_ == Phase::kStarting && failure_) {
    started_at_ = 0;  // the program never ran
    return end_with(kStartFailedExit, 0);
  }
  if (phase_ == Phase::kStarting) on_running();
  if (by_signal) {
    end_with(kSignalExit + info.si_status, info.si_status);
  } else {
    end_with(info.si_status, 0);
  }
}

void Container::end_with(int exit_code, int signal) {
  phase_ = Phase::kEnding;
  exit_.exit_code = exit_code;
  exit_.signal = signal;
  exit_.started_at = started_at_;
  exit_.oom_killed = read_oom_kills(cgroup_.oom_kill_file) > oom_kills_at_start_;
  close_channel();
  if (log_finished_) return conclude();
  drain_timer_.arm_in(kAwaitEndMs);
}

void Container::on_log_finished() {
  log_finished_ = true;
  if (phase_ == Phase::kEnding) conclude();
}

void Container::on_drain_time() {
  if (drain_forced_) return conclude();
  drain_forced_ = true;
  host_.logs().finish(log_);
  drain_timer_.arm_in(kAwaitDiskMs);
}

void Container::conclude() {
  drain_timer_.disarm();
  oom_watch_.stop();
  if (foreign_ && !foreign_->cleaned()) {
    if (!foreign_->cleaning()) foreign_->clean_up([this] { conclude(); });
    return;
  }
  write_exit_file(host_.directory(), exit_);
  phase_ = Phase::kExited;
  stdin_.reset();
  pidfd_.reset();
  host_.logs().release(log_, false);
  log_ = nullptr;
  for (const Caller& caller : std::exchange(reopeners_, {})) {
    host_.server().fail(caller, failure(ErrorKind::kNotRunning, "reopen the log", id_, "the container has ended"));
  }
  host_.server().broadcast(encode_exit_event(exit_));
  if (starter_) host_.server().fail(*starter_, *failure_);
  starter_.reset();
  host_.on_container_ended(*this);
  if (removers_.empty()) return;
  answer_removals();
  host_.forget(*this);
}

// ---- signals, deletion, log ----

void Container::kill_processes() {
  if (pid_ != 0) kill(pid_, SIGKILL);
  if (builder_pid_ != 0) kill(builder_pid_, SIGKILL);
  if (foreign_) foreign_->kill();
  // Its own PID namespace ends with its init. (Since Linux 6.13 or so a cgroup that was killed once takes no clone any more:
  // the child is killed, too.)
  if (own_pid_namespace_ && !foreign_) return;
  if (!cgroup_.cgroup2_directory.empty()) {
    const UniqueFd directory(open(cgroup_.cgroup2_directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (directory && kill_cgroup2(directory.get())) return;
  }
  if (!cgroup_.tasks_files.empty()) {
    const std::string& tasks = cgroup_.tasks_files.front();
    kill_listed(tasks.substr(0, tasks.rfind('/')) + "/cgroup.procs");
  }
}

void Container::kill_all() {
  if (phase_ == Phase::kExited || phase_ == Phase::kOpeningLog) return;
  kill_processes();
}

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
    kill_processes();
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
