// What a pod has once, in the monitor's own namespaces: hostname, sysctls, /dev/shm.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/unique_fd.h"
#include "monitor/messages.h"
#include "monitor/user_namespace.h"

namespace berth {

std::optional<Failure> set_hostname(const std::string& hostname);

// The directory of message queues belongs to the root of the pod's user namespace, if it has one.
std::optional<Failure> own_message_queues(const UserNamespace& users);

// All are checked before the first is written. Only such as belong to a namespace: kernel.shm*, kernel.msg*, kernel.sem,
// fs.mqueue.*, net.*.
// Those of the IPC namespace are its root's alone, even where the host's could do everything else.
std::optional<Failure> set_sysctls(const std::vector<std::pair<std::string, std::string>>& sysctls,
                                   const UserNamespace& users);
// "net.ipv4.ip_forward" → "net/ipv4/ip_forward"; "net/ipv4/conf/eth0.5/forwarding" stays. Empty: it is none that a pod may
// set.
std::string sysctl_path(const std::string& name);

// The pod's /dev/shm: a tmpfs without a name on the host, the root of a mount namespace that nothing but a descriptor keeps.
// (Before Linux 6.15 a detached mount cannot be copied: so it is attached, where nobody is.)
class PodShm {
 public:
  // Makes it, or changes its size. Main thread only.
  std::optional<Failure> set_size(uint64_t bytes, const UserNamespace& users);
  // A detached mount of it. Main thread only.
  std::optional<Failure> open(UniqueFd& mount);

 private:
  UniqueFd namespace_;
};

}  // namespace berth
