// The init of the pod-wide PID namespace: it waits for children, and nothing else. Its root is an empty read-only file
// system, it has no descriptors and no capabilities, and may make four system calls: what the pod's containers can find
// through /proc/1 is of no use.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "common/unique_fd.h"
#include "monitor/messages.h"
#include "monitor/user_namespace.h"

namespace berth {

class PodInit {
 public:
  // Makes it when it is not there. Returns when its own root is in place.
  std::optional<Failure> ensure(const std::string& pod_directory, const UserNamespace& users);
  int pidfd() const { return pidfd_.get(); }
  // True: it was the process that has ended.
  bool on_reaped(pid_t pid);
  void kill();

 private:
  pid_t pid_ = 0;
  UniqueFd pidfd_;
};

}  // namespace berth
