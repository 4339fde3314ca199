// From a process that has everything ready to the container's or the exec's program, by way of a second clone where the
// program belongs into a PID namespace that others are in, too. For children between clone and exec: nothing allocates.
#pragma once

#include <sys/types.h>

#include <cstdint>

#include "monitor/child_channel.h"
#include "monitor/messages.h"

namespace berth {

enum class Entry {
  kStay,              // the caller is in the PID namespace already
  kCredentialsFirst,  // the clone is made with the program's credentials and filter
  kCloneFirst,        // its filter would not let that pass: the clone is seen with the monitor's credentials for a moment
};

// How a program gets into a PID namespace of others. Before the clone: it looks at the whole filter.
Entry entry_into_shared(const Process& process);

// Limits, session, credentials and filter. But for kStay the caller has entered the namespace with setns, and ends here.
//
// A container with CAP_SYS_PTRACE can take over what it sees in its PID namespace: so nothing is seen there with more than
// the program's own credentials, if its filter allows that.
//
// `expected_parent`: as die_with_parent has it.
void assume_identity(const Process& process, Entry entry, pid_t expected_parent, const ChildChannel& channel);

// Goes on in a second clone inside of the PID namespace that the caller has entered with setns; the caller itself ends.
// The second is the monitor's own child (CLONE_PARENT), and says Hello first.
//
// Nothing of the host can be reached through the second one in /proc: when it appears there, the caller's descriptors are
// closed and its root is the container's. In a user namespace they need not be: see enter_user_namespace.
//
// `namespaces`: CLONE_NEW* of further namespaces for the second one.
void continue_inside(uint64_t namespaces, const ChildChannel& channel);

}  // namespace berth
