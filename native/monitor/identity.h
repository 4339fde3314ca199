// Who a program is and what it may do: ids, capabilities, limits, seccomp, labels. The same for a container's init and for
// an exec. For children between clone and exec: nothing allocates, and credentials change by raw system calls (clone3.h).
#pragma once

#include "monitor/child_channel.h"
#include "monitor/messages.h"

namespace berth {

// Written with the host's /proc, so before the host's root is left. When the kernel does not let the monitor go so low, the
// monitor's own value stays.
void set_oom_score_adj(const Process& process, const ChildChannel& channel);

// The AppArmor profile and the SELinux label that the program gets at its exec; what is cloned meanwhile inherits them. With
// the host's /proc, so before the host's root is left: what a container has at /proc may be anything.
void set_labels(const Process& process, const ChildChannel& channel);

// A hard limit above the monitor's own is cut to it when the kernel does not let it be raised.
void set_rlimits(const Process& process, const ChildChannel& channel);

// The last steps before exec, in this order.
//
// The working directory, ids and capabilities; without no_new_privileges the seccomp filter, too, which then needs
// CAP_SYS_ADMIN. What is called from here on must be allowed by the filter.
void assume_credentials(const Process& process, const ChildChannel& channel);
// After the last change of credentials, which would clear it, in the process that executes. `expected_parent`: the monitor's
// number in the process's own PID namespace; 0 when it is in an outer one (then the kernel ends the process with the
// monitor's namespace).
void die_with_parent(pid_t expected_parent, const ChildChannel& channel);
// With no_new_privileges: that, and the seccomp filter.
void forbid_new_privileges(const Process& process, const ChildChannel& channel);

}  // namespace berth
