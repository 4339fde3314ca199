// What writing a layer's entries and making the directories that they are in have in common.
#pragma once

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "common/unique_fd.h"

namespace berth::unpack {

// with the host's path of the layer before it, it has to stay below PATH_MAX: otherwise nobody could delete it
inline constexpr size_t kMaxDepthBytes = 3800;
inline constexpr uint64_t kBlock = 4096;
// as many as the kernel follows
inline constexpr int kMaxLinks = 40;

// Within the root, wherever links lead; an empty descriptor: errno says why.
UniqueFd open_in_root(int root, const std::string& path, int flags, uint64_t resolve);

// Of what comes from the layers below: an entry describes it completely.
void drop_attributes(int fd, const std::string& path);

inline bool is_whiteout(const struct stat& status) { return S_ISCHR(status.st_mode) && status.st_rdev == makedev(0, 0); }

}  // namespace berth::unpack
