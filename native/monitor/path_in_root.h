// Paths of a container, opened so that no link and no ".." leads out of its root. For children between clone and exec:
// nothing allocates.
#pragma once

#include <sys/types.h>

#include <cstdint>

#include "common/unique_fd.h"

namespace berth {

enum class Links : uint8_t {
  kWithinRoot,  // followed, with the root as "/"
  kRefused,     // ELOOP
};

// The links policy for a path: what the kernel itself provides (/proc, /sys, /dev) is never reached through a link of the
// image, which could put it, or what is masked in it, somewhere else.
Links links_for(const char* path);

// openat2 below `root`. Magic links are always refused. Invalid with errno when it fails.
UniqueFd open_in_root(int root, const char* path, uint64_t flags, Links links);

struct MakeMissing {
  bool as_file = false;          // the last component; all others are directories
  bool give_to_owner = false;    // the last component, when it was made
  uid_t uid = 0;
  gid_t gid = 0;
};

// An O_PATH descriptor of `path`, made when it is not there (0755, files 0644), also through links whose target is missing.
UniqueFd make_in_root(int root, const char* path, Links links, const MakeMissing& make);

}  // namespace berth
