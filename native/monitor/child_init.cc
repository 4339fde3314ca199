#include "monitor/child_init.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "common/clone3.h"
#include "monitor/identity.h"
#include "monitor/root_fs.h"

namespace berth {

void join_cgroups(const Cgroup& cgroup, const ChildChannel& channel) {
  for (const std::string& tasks : cgroup.tasks_files) {
    const UniqueFd file(open(tasks.c_str(), O_WRONLY | O_CLOEXEC));
    if (!file || write(file.get(), "0", 1) != 1) channel.break_off("join the cgroup", tasks.c_str());
  }
}

void continue_inside(const ChildChannel& channel) {
  const pid_t pid = clone_fork(CLONE_PARENT);
  if (pid < 0) {
    // ENOMEM: the namespace's init is ending, and it takes no more processes.
    const bool ending = errno == ENOMEM;
    channel.fail(ending ? ErrorKind::kNotRunning : ErrorKind::kInternal, "clone", "", errno);
  }
  if (pid > 0) _exit(0);
  channel.send(ReportKind::kHello);
}

void run_init(const InitOrders& orders) {
  const Plan& plan = orders.plan;
  const ChildChannel& channel = orders.channel;
  keep_only(orders.descriptors, channel);
  umask(0);
  join_cgroups(plan.cgroup, channel);
  // Only now: the namespace's root is where the process is at this moment.
  if (plan.cgroup_namespace && unshare(CLONE_NEWCGROUP) != 0) channel.break_off("unshare the cgroup namespace");
  set_oom_score_adj(plan.process, channel);

  RootFs root(plan, orders.root_fd, orders.mount_fds, channel);
  root.attach(orders.directory);
  if (orders.pid_namespace_fd >= 0) {
    root.pivot();
    if (setns(orders.pid_namespace_fd, CLONE_NEWPID) != 0) {
      channel.fail(errno == ESRCH ? ErrorKind::kNotRunning : ErrorKind::kInternal, "join the PID namespace", "", errno);
    }
    close(orders.pid_namespace_fd);
    continue_inside(channel);
    root.fill();
  } else {
    root.fill();
    root.pivot();
  }
  UniqueFd terminal;
  if (plan.process.terminal) terminal = root.open_terminal();
  root.make_working_directory();
  root.finish();
  if (terminal) {
    for (int stream = 0; stream < 3; ++stream) {
      if (dup2(terminal.get(), stream) < 0) channel.break_off("dup2");
    }
    terminal.reset();
  }
  keep_only_channel(channel);
  channel.send(ReportKind::kReady);
  if (!channel.wait_for_go()) _exit(1);

  set_rlimits(plan.process, channel);
  start_session(plan.process.terminal, channel);
  assume_credentials(plan.process, channel);
  die_with_parent(orders.expected_parent, channel);
  forbid_new_privileges(plan.process, channel);
  reset_signals();
  execute(plan.process, orders.vectors, channel);
}

}  // namespace berth
