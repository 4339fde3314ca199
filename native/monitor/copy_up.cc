#include "monitor/copy_up.h"

#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdint>
#include <cstring>

#include "common/unique_fd.h"

namespace berth {

namespace {

constexpr int kMaxDepth = 64;

struct DirectoryEntry {
  uint64_t inode;
  int64_t offset;
  uint16_t length;
  uint8_t type;
  char name[];
};

bool copy_directory(int from, int to, int depth);

bool copy_owner_and_mode(int fd, const struct stat& status) {
  return fchown(fd, status.st_uid, status.st_gid) == 0 && fchmod(fd, status.st_mode & 07777) == 0;
}

bool copy_file(int from, const char* name, int to, const struct stat& seen) {
  // What was a regular file may have become something else, whose opening must not block.
  const UniqueFd source(openat(from, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  struct stat status = {};
  if (!source || fstat(source.get(), &status) != 0) return false;
  if (!S_ISREG(status.st_mode) || status.st_ino != seen.st_ino) {
    errno = ESTALE;
    return false;
  }
  const UniqueFd target(openat(to, name, O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY | O_CLOEXEC, 0600));
  if (!target) return false;
  for (;;) {
    const ssize_t count = sendfile(target.get(), source.get(), nullptr, 1 << 30);
    if (count == 0) break;
    if (count < 0 && errno != EINTR) return false;
  }
  return copy_owner_and_mode(target.get(), status);
}

bool copy_link(int from, const char* name, int to, const struct stat& status) {
  char target[PATH_MAX];
  const ssize_t length = readlinkat(from, name, target, sizeof target - 1);
  if (length < 0) return false;
  target[length] = '\0';
  return symlinkat(target, to, name) == 0 &&
         fchownat(to, name, status.st_uid, status.st_gid, AT_SYMLINK_NOFOLLOW) == 0;
}

bool copy_entry(int from, const char* name, int to, int depth) {
  struct stat status = {};
  if (fstatat(from, name, &status, AT_SYMLINK_NOFOLLOW) != 0) return false;
  switch (status.st_mode & S_IFMT) {
    case S_IFDIR: {
      const UniqueFd source(openat(from, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
      if (!source || mkdirat(to, name, 0700) != 0) return false;
      const UniqueFd target(openat(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
      return target && copy_directory(source.get(), target.get(), depth + 1);
    }
    case S_IFREG:
      return copy_file(from, name, to, status);
    case S_IFLNK:
      return copy_link(from, name, to, status);
    case S_IFSOCK:
      return true;
    default:
      return mknodat(to, name, status.st_mode, status.st_rdev) == 0 &&
             fchownat(to, name, status.st_uid, status.st_gid, AT_SYMLINK_NOFOLLOW) == 0;
  }
}

bool copy_directory(int from, int to, int depth) {
  if (depth > kMaxDepth) {
    errno = ELOOP;
    return false;
  }
  alignas(DirectoryEntry) char entries[4096];
  for (;;) {
    const long length = syscall(SYS_getdents64, from, entries, sizeof entries);
    if (length < 0) return false;
    if (length == 0) break;
    for (long at = 0; at < length;) {
      const auto* entry = reinterpret_cast<const DirectoryEntry*>(entries + at);
      at += entry->length;
      if (strcmp(entry->name, ".") == 0 || strcmp(entry->name, "..") == 0) continue;
      if (!copy_entry(from, entry->name, to, depth)) return false;
    }
  }
  struct stat status = {};
  return fstat(from, &status) == 0 && copy_owner_and_mode(to, status);
}

}  // namespace

bool copy_up(int from, int to) {
  // The descriptor of a new mount is a mere path: directories are written to through one that is open.
  const UniqueFd target(openat(to, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  return target && copy_directory(from, target.get(), 0);
}

}  // namespace berth
