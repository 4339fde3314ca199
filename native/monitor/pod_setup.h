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

// A mount namespace that nothing but a descriptor keeps, with what a pod's containers begin from: an empty root with the
// pod's /dev/shm, the host's null device, and a place for a container's root. A container's own namespace is a copy of this
// one, and so costs the same however much is mounted on the host. (They are attached here because before Linux 6.15 a
// detached mount cannot be copied.)
class PodMounts {
 public:
  static constexpr const char* kNull = "/null";  // read-only: nobody can change the node's mode or owner through it
  static constexpr const char* kRoot = "/root";

  // Main thread only, as all of these.
  std::optional<Failure> make();
  // Makes /dev/shm, or changes its size; 0: there is none. `label`: SELinux's, of its files.
  std::optional<Failure> set_shm(uint64_t bytes, const std::string& label, const UserNamespace& users);
  // A detached mount of it.
  std::optional<Failure> open_shm(UniqueFd& mount);

  int namespace_fd() const { return namespace_.get(); }
  // The host's /dev/null, for reading and writing.
  int null_fd() const { return null_.get(); }

 private:
  UniqueFd namespace_;
  UniqueFd null_;
  bool has_shm_ = false;
};

}  // namespace berth
