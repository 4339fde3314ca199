// Which extended attributes an image may bring.
#pragma once

#include <string_view>

namespace berth::unpack {

constexpr const char* kOpaque = "trusted.overlay.opaque";

// Of a hard link to what only the layers below have: the target's path. Whoever has these layers makes a copy of it.
constexpr const char* kBelow = "trusted.berth.below";

// trusted.* and user.overlay.* steer overlayfs, security.* other than capabilities belongs to the host's policy
inline bool attribute_is_kept(std::string_view name) {
  if (name.starts_with("user.")) return !name.starts_with("user.overlay.");
  return name == "security.capability" || name == "system.posix_acl_access" || name == "system.posix_acl_default";
}

}  // namespace berth::unpack
