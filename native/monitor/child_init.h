// A container's init, from its clone until its program takes over.
#pragma once

#include <string>
#include <vector>

#include "monitor/cgroup.h"
#include "monitor/child_channel.h"
#include "monitor/entry.h"
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
  const TasksFiles& tasks;
  const HookVectors& create_hooks;
  const HookVectors& start_hooks;
  int root_fd;
  const std::vector<int>& mount_fds;  // for each mount of the plan, or -1
  int pid_namespace_fd;               // pidfd of a process whose PID namespace is joined; -1: none
  int mounts_fd;                      // the pod's mount namespace
  Entry entry;                        // into the PID namespace
  const UserNamespace& users;         // the pod's
  const char* directory;              // of the pod: where the root is attached when the host's mounts are needed
  pid_t expected_parent;              // as die_with_parent has it
};

// Runs in the clone, which already has a PID namespace if it gets one of its own. Where it shares one with others it becomes
// a process of it only at the start, as the program. In a pod with a user namespace it enters that one, and clones the init
// with its namespaces.
[[noreturn]] void run_init(const InitOrders& orders);

// cgroup v1: the first step of a container and of an exec.
void join_cgroups(const TasksFiles& tasks, const ChildChannel& channel);

}  // namespace berth
