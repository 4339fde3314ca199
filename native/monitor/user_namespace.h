// The pod's user namespace. The monitor stays in the host's, where ids have the host's numbers; its children enter the pod's
// before they make anything of a container.
#pragma once

#include <sys/types.h>

#include <cstdint>

#include "common/unique_fd.h"
#include "monitor/child_channel.h"
#include "monitor/messages.h"

namespace berth {

// One run of ids, as /proc/PID/uid_map has it. Without length: every id is itself.
struct IdMap {
  uint32_t inside = 0;
  uint32_t outside = 0;
  uint32_t length = 0;

  // The host's number of an id inside. One without a number there gets that of the root inside.
  uint32_t to_host(uint32_t id) const;
};

// "inside:outside:length"; false: it is none, or has no root.
bool parse_id_map(const char* text, IdMap& map);

struct UserNamespace {
  UniqueFd fd;  // invalid: the pod has the host's
  IdMap uids;
  IdMap gids;

  bool exists() const { return static_cast<bool>(fd); }
};

// For children between clone and exec: the process becomes root of the namespace, with all capabilities in it and none
// outside, and stays non-dumpable. Its memory still belongs to the host's user namespace (since the monitor's exec), so
// that not even a process with all capabilities in the pod's can look into it through /proc.
void enter_user_namespace(const UserNamespace& users, const ChildChannel& channel);
// The second half, after a setns that has entered the namespace together with others.
void become_root_inside(const ChildChannel& channel);

// A directory of the host that everybody can enter, for mounts in mount namespaces of their own: the pod's directory is the
// host's root's alone. Nothing that is in it is needed once the host's /dev/null is open.
constexpr const char* kUnprivilegedPlace = "/dev";

// Limits that are raised inside would need a capability outside: the hard ones are raised before, as far as they go.
void raise_hard_limits(const Process& process);

}  // namespace berth
