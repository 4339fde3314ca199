#include "unpack/layer_writer.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstring>
#include <memory>

#include "unpack/attributes.h"
#include "unpack/failure.h"
#include "unpack/path.h"

namespace berth::unpack {
namespace {

// with the host's path of the layer before it, it has to stay below PATH_MAX: otherwise nobody could delete it
constexpr size_t kMaxDepthBytes = 3800;
constexpr uint64_t kBlock = 4096;
// ext4 holds less than a block of attributes for each file; what is smaller than this finds no room on a full disk only
constexpr size_t kLargeAttributeBytes = 2048;

uint64_t on_disk(uint64_t size) { return (size + kBlock - 1) / kBlock * kBlock; }

UniqueFd open_in_root(int root, const std::string& path, int flags, uint64_t resolve) {
  open_how how{};
  how.flags = static_cast<uint64_t>(flags | O_CLOEXEC);
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | resolve;
  // EAGAIN: a rename or a mount somewhere on the machine, and the kernel is not sure that a link's ".." stayed inside
  for (int tries = 0;; tries++) {
    const long fd = syscall(SYS_openat2, root, path.empty() ? "." : path.c_str(), &how, sizeof how);
    if (fd >= 0 || errno != EAGAIN || tries > 1000) return UniqueFd(static_cast<int>(fd));
  }
}

bool is_whiteout(const struct stat& status) { return S_ISCHR(status.st_mode) && status.st_rdev == makedev(0, 0); }

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

// Of a directory of the layers below: an entry describes it completely.
void drop_attributes(int fd, const std::string& path) {
  char names[65536];
  const ssize_t length = flistxattr(fd, names, sizeof names);
  if (length < 0 && errno != EOPNOTSUPP) fail("listxattr", path);
  for (const char* name = names; name < names + length; name += strlen(name) + 1) {
    if (attribute_is_kept(name) && fremovexattr(fd, name) != 0) fail(std::string("removexattr ") + name, path);
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

LayerWriter::LayerWriter(bool apply) : apply_(apply), root_(open("/", O_PATH | O_DIRECTORY | O_CLOEXEC)) {
  if (!root_) fail("open", "/");
}

void LayerWriter::forget_parents() {
  parent_.fd.reset();
  link_parent_.fd.reset();
}

int LayerWriter::open_parent(const std::string& path, CachedParent& cache, bool make) {
  const std::string parent = parent_of(path);
  const auto use = [&]() {
    if (make && !hiding_ && hiding_only_ > 0) use_directories(cache.real_path);
    return cache.fd.get();
  };
  if (cache.fd && cache.path == parent) return use();
  std::string real_path = parent;
  UniqueFd fd = open_in_root(root_.get(), parent, O_PATH | O_DIRECTORY, RESOLVE_NO_SYMLINKS);
  // a link is no directory that could hide anything; one of the layers below is replaced by a directory, as overlayfs shows it
  if (!fd && errno == ELOOP && !hiding_ && !(apply_ && make)) {
    fd = open_in_root(root_.get(), parent, O_PATH | O_DIRECTORY, 0);
    if (fd) real_path = real_path_of(fd.get(), path);
  }
  if (!fd && make && (errno == ENOENT || errno == ENOTDIR || (apply_ && errno == ELOOP))) {
    fd = make_parents(parent);
    real_path = real_path_of(fd.get(), path);
  }
  if (!fd) fail("open the parent of", path);
  if (make) keep_time(fd.get(), parent);
  cache = {parent, std::move(real_path), std::move(fd)};
  return use();
}

void LayerWriter::use_directories(const std::string& path) {
  for (size_t end = 0; end < path.size();) {
    end = std::min(path.find('/', end == 0 ? 0 : end + 1), path.size());
    const auto found = implicit_.find(path.substr(0, end));
    if (found == implicit_.end() || !found->second.only_hides) continue;
    found->second.only_hides = false;
    hiding_only_--;
  }
}

// Of a whiteout, in a tree of the layers below.
int LayerWriter::open_lower_parent(const std::string& path) {
  const std::string parent = parent_of(path);
  UniqueFd fd = open_in_root(root_.get(), parent, O_PATH | O_DIRECTORY, RESOLVE_NO_SYMLINKS);
  if (!fd) {
    if (errno == ENOENT || errno == ENOTDIR || errno == ELOOP) return -1;
    fail("open the parent of", path);
  }
  keep_time(fd.get(), parent);
  parent_ = {parent, parent, std::move(fd)};
  return parent_.fd.get();
}

// Before something comes into a directory that no entry of this layer describes. One that an entry describes later takes its
// time from there: finish() goes through them in this order.
void LayerWriter::keep_time(int directory, const std::string& path) {
  if (!apply_) return;
  struct stat status {};
  if (fstat(directory, &status) != 0) fail("stat", path);
  if (is_made(status) || !kept_.insert(status.st_ino).second) return;
  directory_ends_.push_back({path, status.st_ino, false, {status.st_mtim.tv_sec, status.st_mtim.tv_nsec}, {}});
}

// Links can lead deeper than any name in the archive is long.
std::string LayerWriter::real_path_of(int directory, const std::string& path) {
  char where[PATH_MAX];
  if (fchdir(directory) != 0) fail("fchdir", path);
  const bool is_too_deep = getcwd(where, sizeof where) == nullptr || strlen(where) > kMaxDepthBytes - NAME_MAX;
  if (is_too_deep) refuse("open the parent of", path, "directories are nested too deeply");
  return where + 1;
}

UniqueFd LayerWriter::make_parents(const std::string& path) {
  UniqueFd current = open_in_root(root_.get(), "", O_PATH | O_DIRECTORY, 0);
  std::string real_path;
  bool is_opaque = false;
  for (size_t end = 0; end < path.size();) {
    const size_t begin = end == 0 ? 0 : end + 1;
    end = std::min(path.find('/', begin), path.size());
    const std::string name = path.substr(begin, end - begin);
    const std::string prefix = path.substr(0, end);
    keep_time(current.get(), path.substr(0, begin == 0 ? 0 : begin - 1));
    const bool is_new = make_directory(current.get(), name, prefix);
    if (is_new && !apply_) {
      implicit_[path_below(real_path, name)] = {.only_hides = hiding_, .is_alone = is_opaque};
      hiding_only_ += hiding_;
    }
    if (!is_new && apply_) replace_lower(current.get(), name, prefix);
    UniqueFd next = open_in_root(root_.get(), prefix, O_PATH | O_DIRECTORY, 0);
    if (!next && errno == ENOTDIR) {
      struct stat status {};
      if (fstatat(current.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) fail("stat", prefix);
      // what is taken away has nothing that could be hidden
      if (apply_ || hiding_ || !is_whiteout(status)) {
        errno = ENOTDIR;
        fail("open", prefix);
      }
      // it was taken away from the layers below, and is made anew here
      remove_existing(current.get(), name, prefix);
      if (mkdirat(current.get(), name.c_str(), 0755) != 0) fail("mkdir", prefix);
      inodes_++;
      bytes_ += kBlock;
      set_opaque(current.get(), name, prefix);
      implicit_.erase(path_below(real_path, name));
      next = open_in_root(root_.get(), prefix, O_PATH | O_DIRECTORY, 0);
    }
    if (!next) fail("open", prefix);
    current = std::move(next);
    real_path = real_path_of(current.get(), prefix);
    if (!opaque_.empty() && !is_opaque) {
      struct stat status {};
      if (fstat(current.get(), &status) != 0) fail("stat", prefix);
      if (is_new) opaque_.erase(status.st_ino);
      is_opaque = opaque_.contains(status.st_ino);
    }
  }
  return current;
}

// One that no entry describes; false: there is something of that name.
bool LayerWriter::make_directory(int parent, const std::string& name, const std::string& path) {
  if (mkdirat(parent, name.c_str(), 0755) != 0) {
    if (errno == EEXIST) return false;
    fail("mkdir", path);
  }
  inodes_++;
  bytes_ += kBlock;
  if (!apply_ && !has_setgid_directory_) return true;
  add_made(parent, name, path);
  // a set-group-id directory hands its group and that bit on, one of the layers below perhaps an ACL: tar's would not
  const UniqueFd fd(openat(parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) fail("open", path);
  drop_attributes(fd.get(), path);
  if (fchown(fd.get(), 0, 0) != 0) fail("chown", path);
  if (fchmod(fd.get(), 0755) != 0) fail("chmod", path);
  return true;
}

// What is no directory and comes from the layers below makes place for one.
void LayerWriter::replace_lower(int parent, const std::string& name, const std::string& path) {
  struct stat status {};
  if (fstatat(parent, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) fail("stat", path);
  if (S_ISDIR(status.st_mode) || is_made(status)) return;
  remove_existing(parent, name, path);
  if (!make_directory(parent, name, path)) fail("mkdir", path);
}

void LayerWriter::write(const Entry& entry, TarReader& data) {
  const std::string path = clean_path(entry.path);
  if (path.size() > kMaxDepthBytes) refuse("make", path.substr(0, 200), "the path is longer than 3800 bytes");
  if (path.empty()) {
    if (entry.type != EntryType::directory) refuse("make", entry.path, "the entry would replace the root directory");
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
  if (S_ISDIR(status.st_mode)) remove_tree(kept.get(), name, path);
  else if (unlinkat(kept.get(), name.c_str(), 0) != 0) fail("unlink", path);
}

void LayerWriter::write_directory(const Entry& entry, const std::string& path) {
  const std::string name = path.empty() ? "." : name_of(path);
  const int parent = path.empty() ? root_.get() : open_parent(path, parent_, true);
  bool is_new = false;
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

void LayerWriter::write_link(const Entry& entry, const std::string& path) {
  const std::string target = clean_path(entry.link);
  if (target.empty()) refuse("link", path, "a hard link to the root directory");
  const std::string name = name_of(path);
  const std::string target_name = name_of(target);
  const auto try_link = [&]() {
    const int parent = open_parent(path, parent_, true);
    try {
      open_parent(target, link_parent_, false);
    } catch (const Failure& failure) {
      throw Failure{"link to " + target, path, failure.errno_value, failure.message};
    }
    struct stat status {};
    if (!of_whiteouts_.empty() && fstatat(link_parent_.fd.get(), target_name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0 &&
        is_whiteout(status)) {
      errno = ENOENT;
      return -1;
    }
    return linkat(link_parent_.fd.get(), target_name.c_str(), parent, name.c_str(), 0);
  };
  if (try_link() == 0) return;
  if (errno == EEXIST) {
    struct stat here {};
    struct stat there {};
    if (fstatat(parent_.fd.get(), name.c_str(), &here, AT_SYMLINK_NOFOLLOW) != 0) fail("stat", path);
    if (fstatat(link_parent_.fd.get(), target_name.c_str(), &there, AT_SYMLINK_NOFOLLOW) != 0) fail("stat", target);
    if (here.st_ino == there.st_ino && here.st_dev == there.st_dev) return;
    remove_existing(parent_.fd.get(), name, path);
    if (try_link() == 0) return;
  }
  fail("link to " + target, path);
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
