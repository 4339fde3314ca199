// A container's init, from its clone until its program takes over.
#pragma once

#include <string>
#include <vector>

#include "monitor/child_channel.h"
#include "monitor/hooks.h"
#include "monitor/messages.h"
#include "monitor/program.h"
#include "monitor/user_namespace.h"

namespace berth {

struct InitOrders {
  const Plan& plan;
  ChildChannel channel;
  const ProgramVectors& vectors;
  const Descriptors& descriptors;  // the streams, and all that is named below
  const HookVectors& create_hooks;
  const HookVectors& start_hooks;
  int root_fd;
  const std::vector<int>& mount_fds;  // for each mount of the plan, or -1
  int pid_namespace_fd;               // pidfd of a process whose PID namespace is joined; -1: none
  const UserNamespace& users;         // the pod's
  const char* directory;              // of the pod: where the root is attached, in the container's own mount namespace
  pid_t expected_parent;              // as die_with_parent has it
};

// Runs in the clone, which already has a mount namespace of its own (and a PID namespace, if it gets one of its own). In a
// pod with a user namespace it has neither yet: it enters that one, and clones the init with them.
[[noreturn]] void run_init(const InitOrders& orders);

// cgroup v1: the caller writes itself into each. Also the first step of an exec.
void join_cgroups(const Cgroup& cgroup, const ChildChannel& channel);

// Goes on in a second clone inside of the PID namespace that the caller has entered with setns; the caller itself ends.
// The second is the monitor's own child (CLONE_PARENT), and says Hello first.
//
// Nothing of the host can be reached through the second one in /proc: when it appears there, the caller's descriptors are
// closed and its root is the container's. In a user namespace they need not be: see enter_user_namespace.
//
// `namespaces`: CLONE_NEW* of further namespaces for the second one.
void continue_inside(uint64_t namespaces, const ChildChannel& channel);

}  // namespace berth
