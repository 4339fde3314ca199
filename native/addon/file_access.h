// Small files of the kernel's, and paths within a root.
#pragma once

#include <sys/types.h>

#include <string>
#include <utility>
#include <vector>

#include "common/unique_fd.h"

namespace berth {

// All of these throw SystemError with the path as its subject.

UniqueFd open_file(const std::string& path, int flags, mode_t mode = 0);
// One write of the whole value, as cgroup files and sysctls want it.
void write_file(const std::string& path, const std::string& value);
// All of it in one write, as files of the kernel want it. `path` is for the error.
void write_whole(int fd, const std::string& value, const std::string& path);
// Fails with EFBIG when there is more.
std::string read_file(const std::string& path, size_t limit_bytes);
std::string read_descriptor(int fd, size_t limit_bytes, const std::string& subject);

// openat2(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS), O_PATH: nothing of the path can lead out of the root, and nothing is
// opened that acts when it is opened.
UniqueFd open_path_in_root(int root, const std::string& path);
// Opens for reading what an O_PATH descriptor points to.
UniqueFd reopen(int path_fd, int flags, const std::string& subject);

}  // namespace berth
