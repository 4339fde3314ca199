#include "monitor/user_namespace.h"

#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>

namespace berth {

uint32_t IdMap::to_host(uint32_t id) const {
  if (length == 0) return id;
  const uint32_t wanted = id >= inside && id - inside < length ? id : 0;
  return outside + (wanted - inside);
}

bool parse_id_map(const char* text, IdMap& map) {
  const char* const end = text + strlen(text);
  const auto number = [&](uint32_t& value, char after) {
    const auto [rest, error] = std::from_chars(text, end, value);
    if (error != std::errc() || (after == '\0' ? rest != end : rest == end || *rest != after)) return false;
    text = rest + (after != '\0');
    return true;
  };
  return number(map.inside, ':') && number(map.outside, ':') && number(map.length, '\0') && map.inside == 0 &&
         map.length > 0;
}

void become_root_inside(const ChildChannel& channel) {
  // The ids are still the host's root's, which has no number here: nothing could be made by it.
  if (syscall(SYS_setresgid, 0, 0, 0) != 0 || syscall(SYS_setgroups, 0, nullptr) != 0 ||
      syscall(SYS_setresuid, 0, 0, 0) != 0) {
    channel.break_off("become root of the user namespace");
  }
  // A change of credentials sets this to what fs.suid_dumpable says.
  if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) channel.break_off("stay non-dumpable");
}

void enter_user_namespace(const UserNamespace& users, const ChildChannel& channel) {
  if (setns(users.fd.get(), CLONE_NEWUSER) != 0) channel.break_off("join the user namespace");
  become_root_inside(channel);
}

void raise_hard_limits(const Process& process) {
  for (const Rlimit& limit : process.rlimits) {
    rlimit64 own = {};
    if (syscall(SYS_prlimit64, 0, limit.resource, nullptr, &own) != 0 || own.rlim_max >= limit.hard) continue;
    own.rlim_max = limit.hard;
    // What is refused is clamped later, as for every container.
    syscall(SYS_prlimit64, 0, limit.resource, &own, nullptr);
  }
}

}  // namespace berth
