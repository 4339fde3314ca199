// The end of a container: of its init, of its last output, and by force.
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include <utility>

#include "monitor/cgroup.h"
#include "monitor/container.h"
#include "monitor/exit_file.h"

namespace berth {

namespace {

// How long the last output of an ended container is awaited when somebody else still holds its pipe, and how long it may
// take to reach a slow disk.
constexpr uint64_t kAwaitEndMs = 100;
constexpr uint64_t kAwaitDiskMs = 900;
constexpr int kSignalExit = 128;

}  // namespace

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
  if (killed_) {
    return failure(ErrorKind::kNotRunning, "create the container", id_, "it was deleted, or its pod stopped, meanwhile");
  }
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
  // Not what its runtime is at: `start` may not have told yet that it has gone well.
  if (!own_pid_namespace_) kill_others();
  if (foreign_ && phase_ == Phase::kStarting && starter_ && !failure_) {
    // What the runtime's `start` says decides whether the program ever ran.
    ended_at_start_ = info;
    return;
  }
  if (phase_ == Phase::kStarting && failure_) {
    if (failure_->kind != ErrorKind::kNotRunning) return end_unstarted();
    started_at_ = 0;
    return end_with(kSignalExit + SIGKILL, SIGKILL);
  }
  if (phase_ == Phase::kStarting) on_running();
  if (by_signal) {
    end_with(kSignalExit + info.si_status, info.si_status);
  } else {
    end_with(info.si_status, 0);
  }
}

// The program never ran: its start has failed.
void Container::end_unstarted() {
  started_at_ = 0;
  exit_.start_error = failure_;
  end_with(kStartFailedExit, 0);
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
  tasks_.close();
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

void Container::kill_processes() {
  if (pid_ != 0) kill(pid_, SIGKILL);
  if (foreign_) foreign_->kill();
  kill_others();
}

void Container::kill_others() {
  if (builder_pid_ != 0) kill(builder_pid_, SIGKILL);
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
  killed_ = true;
  // While its log is being opened there is nothing yet; then nothing is begun any more.
  if (phase_ == Phase::kExited || phase_ == Phase::kOpeningLog) return;
  if (phase_ == Phase::kCreated && is_unstartable()) {
    exit_.finished_at = realtime_ns();
    return end_with(kSignalExit + SIGKILL, SIGKILL);
  }
  kill_processes();
}

}  // namespace berth
