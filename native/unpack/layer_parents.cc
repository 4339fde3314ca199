// The directories that a layer's entries come into: found, or made where no entry describes them.
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstring>

#include "unpack/attributes.h"
#include "unpack/failure.h"
#include "unpack/layer_files.h"
#include "unpack/layer_writer.h"
#include "unpack/path.h"

namespace berth::unpack {
namespace {

// Where a link leads, seen from the root.
std::string target_of(int directory, const std::string& name, const std::string& real_path) {
  char target[PATH_MAX];
  const ssize_t length = readlinkat(directory, name.c_str(), target, sizeof target);
  if (length < 0) fail("readlink", path_below(real_path, name));
  const std::string text(target, static_cast<size_t>(length));
  return clean_path(text.starts_with('/') ? text : real_path + "/" + text);
}

}  // namespace

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

void drop_attributes(int fd, const std::string& path) {
  char names[65536];
  const ssize_t length = flistxattr(fd, names, sizeof names);
  if (length < 0 && errno != EOPNOTSUPP) fail("listxattr", path);
  for (const char* name = names; name < names + length; name += strlen(name) + 1) {
    if (attribute_is_kept(name) && fremovexattr(fd, name) != 0) fail(std::string("removexattr ") + name, path);
  }
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
  Way way = Way::plain;
  UniqueFd fd = open_in_root(root_.get(), parent, O_PATH | O_DIRECTORY, RESOLVE_NO_SYMLINKS);
  if (!fd && apply_ && (errno == ELOOP || (make && (errno == ENOENT || errno == ENOTDIR)))) {
    fd = walk_applied(parent, make, way);
    if (fd) real_path = real_path_of(fd.get(), path);
  }
  // a link is no directory that could hide anything
  if (!fd && !apply_ && errno == ELOOP && !hiding_) {
    fd = open_in_root(root_.get(), parent, O_PATH | O_DIRECTORY, 0);
    if (fd) real_path = real_path_of(fd.get(), path);
  }
  if (!fd && !apply_ && make && (errno == ENOENT || errno == ENOTDIR)) {
    fd = make_parents(parent);
    real_path = real_path_of(fd.get(), path);
  }
  if (!fd) fail("open the parent of", path);
  if (make) keep_time(fd.get(), real_path);
  cache = {parent, std::move(real_path), std::move(fd), way};
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

// Without the layers below; links of theirs and what they have instead of a directory become directories.
UniqueFd LayerWriter::make_parents(const std::string& path, int links) {
  UniqueFd current = open_in_root(root_.get(), "", O_PATH | O_DIRECTORY, 0);
  std::string real_path;
  bool is_opaque = root_is_opaque_;
  for (size_t end = 0; end < path.size();) {
    const size_t begin = end == 0 ? 0 : end + 1;
    end = std::min(path.find('/', begin), path.size());
    const std::string name = path.substr(begin, end - begin);
    const std::string prefix = path.substr(0, end);
    const bool is_new = make_directory(current.get(), name, prefix);
    if (is_new) {
      implicit_[path_below(real_path, name)] = {.only_hides = hiding_, .is_alone = is_opaque};
      hiding_only_ += hiding_;
    }
    UniqueFd next = open_in_root(root_.get(), prefix, O_PATH | O_DIRECTORY, 0);
    bool leads_on = !next && errno == ENOENT;
    if (!next && errno == ENOTDIR) {
      struct stat status {};
      if (fstatat(current.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) fail("stat", prefix);
      leads_on = S_ISLNK(status.st_mode);
      // what is taken away has nothing that could be hidden
      if (!leads_on && (hiding_ || !is_whiteout(status))) {
        errno = ENOTDIR;
        fail("open", prefix);
      }
      if (!leads_on) {
        // it was taken away from the layers below, and is made anew here
        remove_existing(current.get(), name, prefix);
        if (mkdirat(current.get(), name.c_str(), 0755) != 0) fail("mkdir", prefix);
        inodes_++;
        bytes_ += kBlock;
        set_opaque(current.get(), name, prefix);
        implicit_.erase(path_below(real_path, name));
        next = open_in_root(root_.get(), prefix, O_PATH | O_DIRECTORY, 0);
      }
    }
    // a link of this layer to what only the layers below have, or what it has taken away from them
    if (!next && leads_on && ++links <= kMaxLinks) {
      return make_parents(target_of(current.get(), name, real_path) + path.substr(end), links);
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
  forget_linked(fd.get());
  return true;
}

}  // namespace berth::unpack
