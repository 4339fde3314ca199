#include "monitor/child_init.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "monitor/identity.h"
#include "monitor/pod_setup.h"
#include "monitor/root_fs.h"

namespace berth {

void join_cgroups(const TasksFiles& tasks, const ChildChannel& channel) {
  if (const char* refused = tasks.join()) channel.break_off("join the cgroup", refused);
}

namespace {

// Where the OCI has createRuntime hooks, which run outside meanwhile, and then createContainer hooks.
void pause_for_hooks(const InitOrders& orders) {
  const Hooks& hooks = orders.plan.hooks;
  if (!hooks.pause) return;
  orders.channel.send(ReportKind::kPaused);
  int32_t host_pid = 0;
  if (!orders.channel.wait_for_go(host_pid)) _exit(1);
  // As the container sees it. Of a process that has still to join the namespace it sees none: there it is the host's.
  const bool joins_later = orders.pid_namespace_fd >= 0;
  run_hooks({"run the createContainer hook", hooks.create_container, orders.create_hooks, hooks.create_state},
            joins_later ? host_pid : getpid(), orders.channel);
}

void join_pid_namespace(int pidfd, const ChildChannel& channel) {
  if (setns(pidfd, CLONE_NEWPID) != 0) {
    channel.fail(errno == ESRCH ? ErrorKind::kNotRunning : ErrorKind::kInternal, "join the PID namespace", "", errno);
  }
  close(pidfd);
}

// The host's mounts are of use to hooks alone.
RootFs::Places enter_mount_namespace(const InitOrders& orders) {
  const ChildChannel& channel = orders.channel;
  const bool needs_host = orders.plan.hooks.pause;
  if (!needs_host && setns(orders.mounts_fd, CLONE_NEWNS) != 0) channel.break_off("join the pod's mount namespace");
  if (unshare(CLONE_NEWNS) != 0) channel.break_off("unshare the mount namespace");
  if (needs_host) return {"/dev/null", orders.directory};
  return {PodMounts::kNull, PodMounts::kRoot};
}

void build_in_host_user_namespace(const InitOrders& orders, RootFs& root) {
  const ChildChannel& channel = orders.channel;
  // Only now, after the cgroups are joined: the namespace's root is where the process is at this moment.
  if (orders.plan.cgroup_namespace && unshare(CLONE_NEWCGROUP) != 0) channel.break_off("unshare the cgroup namespace");
  set_oom_score_adj(orders.plan.process, channel);
  // The hooks do not get the labels; without any the host's procfs is left now.
  const bool has_hooks = orders.plan.hooks.pause;
  if (!has_hooks) set_labels(orders.plan.process, channel);
  root.attach(enter_mount_namespace(orders));
  root.fill();
  pause_for_hooks(orders);
  if (has_hooks) set_labels(orders.plan.process, channel);
  root.pivot();
  if (orders.pid_namespace_fd >= 0) join_pid_namespace(orders.pid_namespace_fd, channel);
}

// What only the host's root may do comes first. The init is a second clone, whose mount, PID and cgroup namespaces belong to
// the user namespace. The kernel lets it mount /proc and /sys as long as the host's are in its mount namespace: so the old
// root goes last.
void build_in_user_namespace(const InitOrders& orders, RootFs& root) {
  const Plan& plan = orders.plan;
  const ChildChannel& channel = orders.channel;
  set_oom_score_adj(plan.process, channel);
  raise_hard_limits(plan.process);
  root.make_nodes(orders.users);
  // By its pidfd the namespace can be joined from outside only: its init does not let the pod's root look at it.
  if (orders.pid_namespace_fd >= 0) join_pid_namespace(orders.pid_namespace_fd, channel);
  enter_user_namespace(orders.users, channel);
  close(orders.users.fd.get());
  const bool own_pid_namespace = plan.pid_namespace == PidNamespace::kContainer;
  continue_inside(CLONE_NEWNS | (plan.cgroup_namespace ? CLONE_NEWCGROUP : 0) | (own_pid_namespace ? CLONE_NEWPID : 0),
                  channel);
  root.attach({"/dev/null", orders.directory});
  root.fill();
  pause_for_hooks(orders);
  set_labels(plan.process, channel);
  root.pivot();
}

}  // namespace

void run_init(const InitOrders& orders) {
  const Plan& plan = orders.plan;
  const ChildChannel& channel = orders.channel;
  keep_only(orders.descriptors, channel);
  umask(0);
  join_cgroups(orders.tasks, channel);

  const bool in_user_namespace = orders.users.exists();
  RootFs root(plan, {orders.root_fd, orders.mount_fds, in_user_namespace ? -1 : orders.pid_namespace_fd}, channel);
  if (in_user_namespace) {
    build_in_user_namespace(orders, root);
  } else {
    build_in_host_user_namespace(orders, root);
  }
  UniqueFd terminal;
  if (plan.process.terminal) terminal = root.open_terminal();
  root.finish();
  if (terminal) {
    for (int stream = 0; stream < 3; ++stream) {
      if (dup2(terminal.get(), stream) < 0) channel.break_off("dup2");
    }
    terminal.reset();
  }
  use_own_null_device(channel);
  keep_only_channel(channel);
  channel.send(ReportKind::kReady);
  int32_t host_pid = 0;
  if (!channel.wait_for_go(host_pid)) _exit(1);

  assume_identity(plan.process, orders.entry, orders.expected_parent, channel);
  // By now the process may be another one than the monitor spoke of.
  if (orders.entry != Entry::kStay && !plan.hooks.start_container.empty() && !channel.wait_for_go(host_pid)) _exit(1);
  // Its path is the container's: it may do no more than the container's program.
  run_hooks({"run the startContainer hook", plan.hooks.start_container, orders.start_hooks, plan.hooks.start_state},
            getpid(), channel);
  reset_signals();
  execute(plan.process, orders.vectors, channel);
}

}  // namespace berth
