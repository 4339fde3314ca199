// How a container's init is cloned, and what it reports of its set-up: see child_init.h for what it does there.
#include <fcntl.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <utility>

#include "common/clone3.h"
#include "monitor/cgroup.h"
#include "monitor/child_init.h"
#include "monitor/container.h"
#include "monitor/host_pid.h"
#include "monitor/user_namespace.h"

namespace berth {

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
  std::string unopened;
  if (!tasks_.open(cgroup_.tasks_files, unopened)) {
    return failure(ErrorKind::kInternal, last_error("open the cgroup", unopened));
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
  tasks_.list(descriptors.kept);
  descriptors.sort();
  const ProgramVectors vectors(plan.process);
  const HookVectors create_hooks(plan.hooks.create_container);
  const HookVectors start_hooks(plan.hooks.start_container);
  const InitOrders orders = {
      .plan = plan,
      .channel = ChildChannel(child_end.get()),
      .vectors = vectors,
      .descriptors = descriptors,
      .tasks = tasks_,
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
        if (phase_ == Phase::kBuilding && !killed_) on_ready();
        break;
      case ReportKind::kPaused: {
        if (phase_ != Phase::kBuilding || killed_) break;
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
  if (killed_) kill_processes();
}

}  // namespace berth
