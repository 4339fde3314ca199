#include "monitor/entry.h"

#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "common/clone3.h"
#include "monitor/identity.h"
#include "monitor/program.h"
#include "monitor/seccomp_answer.h"

namespace berth {

// The filter is then in force during all that is left to do.
Entry entry_into_shared(const Process& process) {
  if (process.seccomp_filter.empty()) return Entry::kCredentialsFirst;
  struct Call {
    int number;
    uint64_t first = 0;
    uint64_t second = 0;
  };
  static constexpr Call kCalls[] = {
      {SYS_clone, CLONE_PARENT | SIGCHLD}, {SYS_exit_group}, {SYS_write}, {SYS_setsid}, {SYS_ioctl, 0, TIOCSCTTY},
      {SYS_prctl, PR_SET_PDEATHSIG, SIGKILL}, {SYS_getppid}, {SYS_rt_sigaction}, {SYS_rt_sigprocmask}, {SYS_execve},
  };
  for (const Call& call : kCalls) {
    if (!filter_allows(process.seccomp_filter, call.number, call.first, call.second)) return Entry::kCloneFirst;
  }
  return Entry::kCredentialsFirst;
}

void continue_inside(uint64_t namespaces, const ChildChannel& channel) {
  const pid_t pid = clone_fork(CLONE_PARENT | namespaces);
  if (pid < 0) {
    // ENOMEM: the namespace's init is ending, and it takes no more processes.
    const bool ending = errno == ENOMEM;
    channel.fail(ending ? ErrorKind::kNotRunning : ErrorKind::kInternal, "clone", "", errno);
  }
  if (pid > 0) _exit(0);
  channel.send(ReportKind::kHello);
}

void assume_identity(const Process& process, Entry entry, pid_t expected_parent, const ChildChannel& channel) {
  if (entry == Entry::kCloneFirst) continue_inside(0, channel);
  set_rlimits(process, channel);
  if (entry == Entry::kCredentialsFirst) {
    assume_credentials(process, channel);
    forbid_new_privileges(process, channel);
    continue_inside(0, channel);
    start_session(process.terminal, channel);
    die_with_parent(expected_parent, channel);
  } else {
    start_session(process.terminal, channel);
    assume_credentials(process, channel);
    die_with_parent(expected_parent, channel);
    forbid_new_privileges(process, channel);
  }
}

}  // namespace berth
