#include "unpack/layer_writer.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "unpack/attributes.h"
#include "unpack/failure.h"
#include "unpack/layer_files.h"
#include "unpack/path.h"

namespace berth::unpack {
namespace {

// Files of old images that aufs had hard links to: they have no other name of their own.
constexpr const char* kAufsLinks = ".wh..wh.plnk";
// ext4 holds less than a block of attributes for each file; what is smaller than this finds no room on a full disk only
constexpr size_t kLargeAttributeBytes = 2048;

uint64_t on_disk(uint64_t size) { return (size + kBlock - 1) / kBlock * kBlock; }

timespec to_timespec(const Time& time) { return {time.seconds, time.nanoseconds}; }

// GNU tar's own rule: what the file system cannot hold is left out, except for capabilities.
void check_attribute(int result, const std::string& name, const std::string& value, const std::string& path) {
  if (result == 0) return;
  if (name != "security.capability" && (errno == EOPNOTSUPP || errno == EPERM)) return;
  if (errno == E2BIG || (errno == ENOSPC && value.size() >= kLargeAttributeBytes)) {
    refuse("setxattr " + name, path, "its " + std::to_string(value.size()) +
                                         " bytes are more than this file system has room for in one file's attributes");
  }
  fail("setxattr " + name, path);
}

void set_attributes(int fd, const Entry& entry) {
  for (const auto& [name, value] : entry.attributes) {
    if (!attribute_is_kept(name) || name == "system.posix_acl_default") continue;
    check_attribute(fsetxattr(fd, name.c_str(), value.data(), value.size(), 0), name, value, entry.path);
  }
}

void write_all(int fd, const uint8_t* data, size_t size, const std::string& path) {
  while (size > 0) {
    const ssize_t count = ::write(fd, data, size);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail("write", path);
    data += count;
    size -= static_cast<size_t>(count);
  }
}

void remove_tree(int parent, const std::string& name, const std::string& path) {
  UniqueFd fd(openat(parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) fail("open", path);
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(fdopendir(fd.get()), closedir);
  if (!directory) fail("fdopendir", path);
  const int inside = fd.release();
  while (const dirent* item = readdir(directory.get())) {
    if (strcmp(item->d_name, ".") == 0 || strcmp(item->d_name, "..") == 0) continue;
    if (unlinkat(inside, item->d_name, 0) == 0) continue;
    if (errno != EISDIR && errno != EPERM) fail("unlink", path);
    remove_tree(inside, item->d_name, path);
  }
  if (unlinkat(parent, name.c_str(), AT_REMOVEDIR) != 0) fail("rmdir", path);
}

}  // namespace

LayerWriter::LayerWriter(bool apply, bool has_below)
    : apply_(apply), has_below_(has_below && !apply), root_(open("/", O_PATH | O_DIRECTORY | O_CLOEXEC)) {
  if (!root_) fail("open", "/");
}

void LayerWriter::write(const Entry& entry, TarReader& data) {
  const std::string path = clean_path(entry.path);
  if (path.size() > kMaxDepthBytes) refuse("make", path.substr(0, 200), "the path is longer than 3800 bytes");
  if (path.empty()) {
    if (entry.type != EntryType::directory) refuse("make", entry.path, "the entry would replace the root directory");
  } else if (entry.type == EntryType::regular && parent_of(path) == kAufsLinks) {
    has_aufs_links_ = true;
  } else if (write_whiteout(path)) {
    return;
  }
  switch (entry.type) {
    case EntryType::directory:
      return write_directory(entry, path);
    case EntryType::regular:
      return write_file(entry, path, data);
    case EntryType::hard_link:
      return write_link(entry, path);
    case EntryType::symbolic_link:
      return write_symlink(entry, path);
    case EntryType::character_device:
    case EntryType::block_device:
    case EntryType::fifo:
      return write_node(entry, path);
  }
}

void LayerWriter::remove_existing(int parent, const std::string& name, const std::string& path) {
  const UniqueFd kept(dup(parent));
  if (!kept) fail("dup", path);
  // the open parents may be what goes, or have been reached through it
  forget_parents();
  struct stat status {};
  if (fstatat(kept.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) fail("stat", path);
  if (!linked_.empty()) {
    struct stat directory {};
    if (fstat(kept.get(), &directory) != 0) fail("stat the parent of", path);
    linked_.erase({directory.st_ino, name});
  }
  if (S_ISDIR(status.st_mode)) remove_tree(kept.get(), name, path);
  else if (unlinkat(kept.get(), name.c_str(), 0) != 0) fail("unlink", path);
}

void LayerWriter::write_directory(const Entry& entry, const std::string& path) {
  const std::string name = path.empty() ? "." : name_of(path);
  const int parent = path.empty() ? root_.get() : open_parent(path, parent_, true);
  bool is_new = false;
  bool is_instead = false;
  if (path.empty()) {
    root_is_implicit_ = false;
  } else if (mkdirat(parent, name.c_str(), 0700) == 0) {
    is_new = true;
    inodes_++;
    bytes_ += kBlock;
  } else {
    if (errno != EEXIST) fail("mkdir", path);
    struct stat status {};
    if (fstatat(parent, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) fail("stat", path);
    if (!S_ISDIR(status.st_mode)) {
      remove_existing(parent, name, path);
      const int reopened = open_parent(path, parent_, true);
      if (mkdirat(reopened, name.c_str(), 0700) != 0) fail("mkdir", path);
      inodes_++;
      bytes_ += kBlock;
      is_instead = true;
      // what was there, a whiteout or a file, had already taken the place of what the layers below have
      if (!apply_) set_opaque(reopened, name, path);
    }
  }
  if (!implicit_.empty()) {
    const std::string real_path = path.empty() ? path : path_below(parent_.real_path, name);
    if (hiding_only_ > 0) use_directories(real_path);
    implicit_.erase(real_path);
  }
  const UniqueFd fd(path.empty() ? open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
                                 : openat(open_parent(path, parent_, true), name.c_str(),
                                          O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) fail("open", path);
  if (apply_) {
    drop_attributes(fd.get(), path);
    add_made(fd.get(), ".", path);
  }
  if (fchown(fd.get(), entry.uid, entry.gid) != 0) fail("chown", path);
  set_attributes(fd.get(), entry);
  if (fchmod(fd.get(), entry.mode) != 0) fail("chmod", path);
  if ((entry.mode & S_ISGID) != 0) has_setgid_directory_ = true;
  struct stat status {};
  if (fstat(fd.get(), &status) != 0) fail("stat", path);
  if (is_new) opaque_.erase(status.st_ino);
  if (is_new || is_instead) forget_linked(fd.get());
  DirectoryEnd end{path, status.st_ino, true, entry.modified, ""};
  for (const auto& [key, value] : entry.attributes) {
    if (key == "system.posix_acl_default") end.default_acl = value;
  }
  directory_ends_.push_back(std::move(end));
}

void LayerWriter::write_file(const Entry& entry, const std::string& path, TarReader& data) {
  const std::string name = name_of(path);
  constexpr int kFlags = O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC;
  // nobody else can reach this directory, so that the file may have its final mode from the start
  const mode_t mode = entry.mode & 0777;
  UniqueFd fd(openat(open_parent(path, parent_, true), name.c_str(), kFlags, mode));
  if (!fd && errno == EEXIST) {
    remove_existing(parent_.fd.get(), name, path);
    fd.reset(openat(open_parent(path, parent_, true), name.c_str(), kFlags, mode));
  }
  if (!fd) fail("create", path);
  if (apply_) add_made(parent_.fd.get(), name, path);
  inodes_++;
  write_content(fd.get(), entry, data);
  // a set-group-id directory hands its group on; and nobody knows those of the layers below
  const bool is_root_owned = entry.uid == 0 && entry.gid == 0 && !has_setgid_directory_ && !apply_;
  if (!is_root_owned && fchown(fd.get(), entry.uid, entry.gid) != 0) fail("chown", path);
  // of a default ACL of the layers below
  if (apply_) drop_attributes(fd.get(), path);
  set_attributes(fd.get(), entry);
  if ((entry.mode != mode || apply_) && fchmod(fd.get(), entry.mode) != 0) fail("chmod", path);
  const timespec times[2] = {{0, UTIME_OMIT}, to_timespec(entry.modified)};
  if (futimens(fd.get(), times) != 0) fail("utimens", path);
}

void LayerWriter::write_content(int fd, const Entry& entry, TarReader& data) {
  size_t count = 0;
  if (!entry.sparse) {
    while (const uint8_t* view = data.take(count)) {
      if (count == 0) break;
      write_all(fd, view, count, entry.path);
    }
    bytes_ += on_disk(entry.file_bytes);
    return;
  }
  if (ftruncate(fd, static_cast<off_t>(entry.file_bytes)) != 0) fail("ftruncate", entry.path);
  size_t index = 0;
  uint64_t done = 0;
  for (;;) {
    const uint8_t* view = data.take(count);
    if (count == 0) return;
    // what was taken may end one extent and begin the next
    while (count > 0) {
      while (done == entry.extents[index].size) {
        index++;
        done = 0;
      }
      const Extent& extent = entry.extents[index];
      const size_t piece = static_cast<size_t>(std::min<uint64_t>(count, extent.size - done));
      if (lseek(fd, static_cast<off_t>(extent.offset + done), SEEK_SET) < 0) fail("lseek", entry.path);
      write_all(fd, view, piece, entry.path);
      bytes_ += piece;
      done += piece;
      view += piece;
      count -= piece;
    }
  }
}

void LayerWriter::write_symlink(const Entry& entry, const std::string& path) {
  const std::string name = name_of(path);
  int parent = open_parent(path, parent_, true);
  if (symlinkat(entry.link.c_str(), parent, name.c_str()) != 0) {
    if (errno != EEXIST) fail("symlink", path);
    remove_existing(parent, name, path);
    parent = open_parent(path, parent_, true);
    if (symlinkat(entry.link.c_str(), parent, name.c_str()) != 0) fail("symlink", path);
  }
  inodes_++;
  set_node_attributes(parent, name, entry);
}

void LayerWriter::write_node(const Entry& entry, const std::string& path) {
  const std::string name = name_of(path);
  const mode_t kind = entry.type == EntryType::fifo             ? S_IFIFO
                      : entry.type == EntryType::block_device ? S_IFBLK
                                                              : S_IFCHR;
  const dev_t device = entry.type == EntryType::fifo ? 0 : makedev(entry.device_major, entry.device_minor);
  // overlayfs's own whiteout: of an archive of an upper directory
  if (kind == S_IFCHR && device == makedev(0, 0)) return hide(name, path);
  int parent = open_parent(path, parent_, true);
  if (mknodat(parent, name.c_str(), kind | (entry.mode & 0777), device) != 0) {
    if (errno != EEXIST) fail("mknod", path);
    remove_existing(parent, name, path);
    parent = open_parent(path, parent_, true);
    if (mknodat(parent, name.c_str(), kind | (entry.mode & 0777), device) != 0) fail("mknod", path);
  }
  inodes_++;
  set_node_attributes(parent, name, entry);
}

void LayerWriter::set_node_attributes(int parent, const std::string& name, const Entry& entry) {
  add_made(parent, name, entry.path);
  if (fchownat(parent, name.c_str(), entry.uid, entry.gid, AT_SYMLINK_NOFOLLOW) != 0) fail("chown", entry.path);
  for (const auto& [key, value] : entry.attributes) {
    if (!attribute_is_kept(key)) continue;
    if (fchdir(parent) != 0) fail("fchdir", entry.path);
    check_attribute(lsetxattr(name.c_str(), key.c_str(), value.data(), value.size(), 0), key, value, entry.path);
  }
  // mknod has made this very name, so that it is no link; chown or a default ACL may have changed the mode
  if (entry.type != EntryType::symbolic_link && fchmodat(parent, name.c_str(), entry.mode, 0) != 0) {
    fail("chmod", entry.path);
  }
  const timespec times[2] = {{0, UTIME_OMIT}, to_timespec(entry.modified)};
  if (utimensat(parent, name.c_str(), times, AT_SYMLINK_NOFOLLOW) != 0) fail("utimens", entry.path);
}

void LayerWriter::finish() {
  forget_parents();
  if (has_aufs_links_) {
    remove_tree(root_.get(), kAufsLinks, kAufsLinks);
    implicit_.erase(kAufsLinks);
  }
  for (const DirectoryEnd& end : directory_ends_) {
    const UniqueFd fd = open_in_root(root_.get(), end.path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
    // a later entry may have replaced it
    if (!fd && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP)) continue;
    if (!fd) fail("open", end.path);
    struct stat status {};
    if (fstat(fd.get(), &status) != 0) fail("stat", end.path);
    // the number of what is gone may be another one's
    if (status.st_ino != end.inode || (!end.is_own && is_made(status))) continue;
    if (!end.default_acl.empty()) {
      const int result =
          fsetxattr(fd.get(), "system.posix_acl_default", end.default_acl.data(), end.default_acl.size(), 0);
      check_attribute(result, "system.posix_acl_default", end.default_acl, end.path);
    }
    const timespec times[2] = {{0, UTIME_OMIT}, to_timespec(end.modified)};
    if (futimens(fd.get(), times) != 0) fail("utimens", end.path);
  }
}

}  // namespace berth::unpack
