// clone3 in the way fork works: the child runs on a copy of the caller's memory and stack.
#pragma once

#include <sys/types.h>

#include <cstdint>

namespace berth {

struct CloneOptions {
  uint64_t flags = 0;    // CLONE_NEW*, CLONE_PARENT; never CLONE_VM
  int* pidfd = nullptr;  // receives a close-on-exec descriptor
  int cgroup_fd = -1;    // CLONE_INTO_CGROUP: a cgroup2 directory
};

// 0 in the child, the child's number (in the caller's PID namespace) in the parent, -1 with errno.
//
// Only the calling thread exists in the child, and glibc is not told: the child must not take a lock that another thread
// may hold (the heap has one: the child must not allocate), and must change credentials by raw system calls (glibc's
// wrappers would signal threads that are not there).
pid_t clone3_fork(const CloneOptions& options);

// The same by the older call, which seccomp filters can look into and let pass. Flags as for clone3_fork.
pid_t clone_fork(unsigned long flags);

// This process was made by one of them, and has not executed a program since.
bool is_clone();

}  // namespace berth
