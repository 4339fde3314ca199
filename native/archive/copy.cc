#include "archive/copy.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "unpack/failure.h"

namespace berth::archive {
namespace {

using unpack::fail;

void set_attributes(int fd, const Attributes& attributes, const std::string& path) {
  for (const auto& [name, value] : attributes) {
    if (fsetxattr(fd, name.c_str(), value.data(), value.size(), 0) != 0) fail("setxattr " + name, path);
  }
}

// The owner before attributes and mode: changing it takes capabilities and set-user-id bits away.
void finish_file(int fd, const struct stat& status, const Attributes& attributes, const std::string& path) {
  if (fchown(fd, status.st_uid, status.st_gid) != 0) fail("chown", path);
  if (fchmod(fd, status.st_mode & 07777) != 0) fail("chmod", path);
  set_attributes(fd, attributes, path);
  const timespec times[2] = {status.st_atim, status.st_mtim};
  if (futimens(fd, times) != 0) fail("utimens", path);
}

void copy_bytes(int from, int to, uint64_t size, const std::string& path) {
  std::array<char, 65536> buffer;
  while (size > 0) {
    const ssize_t got = read(from, buffer.data(), std::min<uint64_t>(size, buffer.size()));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail("read", path);
    if (got == 0) return;
    for (ssize_t done = 0; done < got;) {
      const ssize_t count = write(to, buffer.data() + done, static_cast<size_t>(got - done));
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) fail("write", path);
      done += count;
    }
    size -= static_cast<uint64_t>(got);
  }
}

}  // namespace

void TreeCopy::run() {
  directories_.emplace_back();
  for (size_t index = 0; index < directories_.size(); index++) {
    // by value: the list grows meanwhile
    const std::string path = directories_[index];
    copy_directory(path);
  }
  // times of directories are the last to be set, because making a file in one changes them
  for (const std::string& path : directories_) finish_directory(path);
}

void TreeCopy::copy_directory(const std::string& path) {
  const Directory source(from_, path);
  const Directory target(to_, path);
  for (const Entry& entry : source.entries()) {
    if (S_ISDIR(entry.status.st_mode)) {
      if (mkdirat(target.fd(), entry.name.c_str(), 0700) != 0) fail("mkdir", source.path_of(entry.name));
      directories_.push_back(source.path_of(entry.name));
    } else if (!copy_link(source, target.fd(), entry)) {
      if (S_ISREG(entry.status.st_mode)) copy_file(source, target.fd(), entry);
      else copy_node(source, target.fd(), entry);
    }
  }
}

// True: it is a further name of something that is there.
bool TreeCopy::copy_link(const Directory& source, int target, const Entry& entry) {
  const char* name = entry.name.c_str();
  // EMLINK: the file system gives it no more names
  if (share_ && linkat(source.fd(), name, target, name, 0) == 0) return true;
  if (share_ && errno != EMLINK) fail("link", source.path_of(entry.name));
  if (entry.status.st_nlink < 2) return false;
  const auto [first, is_first] = linked_.try_emplace(entry.status.st_ino, source.path_of(entry.name));
  if (is_first) return false;
  if (linkat(to_, first->second.c_str(), target, name, 0) != 0) fail("link", source.path_of(entry.name));
  return true;
}

void TreeCopy::copy_file(const Directory& source, int target, const Entry& entry) {
  const std::string path = source.path_of(entry.name);
  const UniqueFd from = source.open_file(entry.name);
  const UniqueFd to(openat(target, entry.name.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!to) fail("create", path);
  copy_content(from.get(), to.get(), entry, path);
  finish_file(to.get(), entry.status, source.attributes(entry.name), path);
  struct stat made {};
  if (fstat(to.get(), &made) != 0) fail("stat", path);
  count(made);
}

void TreeCopy::copy_content(int from, int to, const Entry& entry, const std::string& path) {
  const off_t size = entry.status.st_size;
  if (size == 0) return;
  if (clones_) {
    if (ioctl(to, FICLONE, from) == 0) return;
    if (errno == ENOSPC || errno == EDQUOT) fail("ioctl FICLONE", path);
    // EXDEV: the trees are on different file systems; otherwise theirs cannot
    clones_ = false;
  }
  if (ftruncate(to, size) != 0) fail("ftruncate", path);
  // holes stay holes
  for (off_t begin = 0; begin < size;) {
    begin = lseek(from, begin, SEEK_DATA);
    if (begin < 0 && errno == ENXIO) return;
    if (begin < 0) fail("lseek", path);
    const off_t end = lseek(from, begin, SEEK_HOLE);
    if (end < 0 || lseek(from, begin, SEEK_SET) < 0 || lseek(to, begin, SEEK_SET) < 0) fail("lseek", path);
    copy_bytes(from, to, static_cast<uint64_t>(end - begin), path);
    begin = end;
  }
}

void TreeCopy::copy_node(const Directory& source, int target, const Entry& entry) {
  const std::string path = source.path_of(entry.name);
  const char* name = entry.name.c_str();
  const struct stat& status = entry.status;
  const bool is_link = S_ISLNK(status.st_mode);
  if (is_link) {
    if (symlinkat(source.read_link(entry.name).c_str(), target, name) != 0) fail("symlink", path);
  } else if (mknodat(target, name, status.st_mode & (S_IFMT | 0777), status.st_rdev) != 0) {
    fail("mknod", path);
  }
  if (fchownat(target, name, status.st_uid, status.st_gid, AT_SYMLINK_NOFOLLOW) != 0) fail("chown", path);
  // mknod has made this very name, so that it is no link
  if (!is_link && fchmodat(target, name, status.st_mode & 07777, 0) != 0) fail("chmod", path);
  for (const auto& [key, value] : source.attributes(entry.name)) {
    // there is no such call that begins at a descriptor
    if (fchdir(target) != 0) fail("fchdir", path);
    if (lsetxattr(name, key.c_str(), value.data(), value.size(), 0) != 0) fail("setxattr " + key, path);
  }
  const timespec times[2] = {status.st_atim, status.st_mtim};
  if (utimensat(target, name, times, AT_SYMLINK_NOFOLLOW) != 0) fail("utimens", path);
  struct stat made {};
  if (fstatat(target, name, &made, AT_SYMLINK_NOFOLLOW) != 0) fail("stat", path);
  count(made);
}

void TreeCopy::finish_directory(const std::string& path) {
  const Directory source(from_, path);
  const Directory target(to_, path);
  finish_file(target.fd(), source.status(), source.attributes(""), path);
  count(target.status());
}

void TreeCopy::count(const struct stat& status) {
  bytes_ += static_cast<uint64_t>(status.st_blocks) * 512;
  inodes_++;
}

}  // namespace berth::archive
