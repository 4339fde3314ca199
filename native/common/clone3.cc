#include "common/clone3.h"

#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace berth {

namespace {

bool in_clone = false;

pid_t told(long pid) {
  if (pid == 0) in_clone = true;
  return static_cast<pid_t>(pid);
}

}  // namespace

bool is_clone() { return in_clone; }

pid_t clone3_fork(const CloneOptions& options) {
  clone_args args = {};
  args.flags = options.flags;
  // With CLONE_PARENT the exit signal is the caller's own, and the kernel refuses another.
  args.exit_signal = (options.flags & CLONE_PARENT) != 0 ? 0 : SIGCHLD;
  if (options.pidfd != nullptr) {
    args.flags |= CLONE_PIDFD;
    args.pidfd = reinterpret_cast<uint64_t>(options.pidfd);
  }
  if (options.cgroup_fd >= 0) {
    args.flags |= CLONE_INTO_CGROUP;
    args.cgroup = static_cast<uint64_t>(options.cgroup_fd);
  }
  return told(syscall(SYS_clone3, &args, sizeof args));
}

pid_t clone_fork(unsigned long flags) {
  return told(syscall(SYS_clone, flags | SIGCHLD, nullptr, nullptr, nullptr, nullptr));
}

}  // namespace berth
