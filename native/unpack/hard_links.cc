// Hard links: to what this layer has, and to what only the layers below have. Those are not here: an empty file takes the place
// of theirs, and says of which one it has to become a copy.
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include "unpack/attributes.h"
#include "unpack/failure.h"
#include "unpack/layer_files.h"
#include "unpack/layer_writer.h"
#include "unpack/path.h"

namespace berth::unpack {

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
      errno = failure.errno_value;
      if (errno == ENOENT) return -1;
      throw Failure{"link to " + target, path, failure.errno_value, failure.message};
    }
    struct stat status {};
    const bool is_asked = !of_whiteouts_.empty() || hiding_only_ > 0 || link_parent_.way != Way::plain;
    if (is_asked && fstatat(link_parent_.fd.get(), target_name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0 &&
        (is_whiteout(status) || !may_link(status, target_name))) {
      errno = ENOENT;
      return -1;
    }
    return linkat(link_parent_.fd.get(), target_name.c_str(), parent, name.c_str(), 0);
  };
  if (try_link() == 0) return link_made(name);
  if (errno == ENOENT && link_below(path, target)) return;
  if (errno == EEXIST) {
    struct stat here {};
    struct stat there {};
    if (fstatat(parent_.fd.get(), name.c_str(), &here, AT_SYMLINK_NOFOLLOW) != 0) fail("stat", path);
    if (fstatat(link_parent_.fd.get(), target_name.c_str(), &there, AT_SYMLINK_NOFOLLOW) != 0) fail("stat", target);
    // a directory has no second name, and none that is its own either
    if (S_ISDIR(there.st_mode)) refuse("link to " + target, path, "it leads to a directory");
    if (here.st_ino == there.st_ino && here.st_dev == there.st_dev) return add_linked(parent_.fd.get(), name);
    remove_existing(parent_.fd.get(), name, path);
    if (try_link() == 0) return link_made(name);
  }
  fail("link to " + target, path);
}

void LayerWriter::link_made(const std::string& name) {
  add_linked(parent_.fd.get(), name);
  add_link_below(parent_.fd.get(), name);
}

// Without the tree of the layers below, a link of this layer does not lead to what only those have, and one of theirs not to what
// this layer has; with it, neither. A directory of whiteouts alone hides another one only: a file of the layers below is seen.
bool LayerWriter::may_link(const struct stat& target, const std::string& target_name) const {
  if (S_ISDIR(target.st_mode) && only_hides(path_below(link_parent_.real_path, target_name))) return false;
  if (link_parent_.way == Way::plain) return true;
  return is_made(link_parent_.fd.get(), target_name, target) == (link_parent_.way == Way::own);
}

// False: this layer has hidden it, or there is nothing below; errno is ENOENT.
bool LayerWriter::link_below(const std::string& path, const std::string& target) {
  errno = ENOENT;
  if (!has_below_ || target.size() > kMaxDepthBytes) return false;
  // it would take the place of the directory that its target is in
  if (target.starts_with(path + "/")) return false;
  if (hides_below(target)) {
    errno = ENOENT;
    return false;
  }
  if (link_again(path, target)) return true;
  const std::string name = name_of(path);
  constexpr int kFlags = O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC;
  UniqueFd fd(openat(open_parent(path, parent_, true), name.c_str(), kFlags, 0600));
  if (!fd && errno == EEXIST) {
    remove_existing(parent_.fd.get(), name, path);
    fd.reset(openat(open_parent(path, parent_, true), name.c_str(), kFlags, 0600));
  }
  if (!fd) fail("create", path);
  if (fsetxattr(fd.get(), kBelow, target.data(), target.size(), 0) != 0) fail(std::string("setxattr ") + kBelow, path);
  inodes_++;
  const std::string real_path = path_below(parent_.real_path, name);
  links_below_.insert(real_path);
  first_links_below_[target] = real_path;
  return true;
}

// A further link to the same file is one to the first, unless that has been replaced.
bool LayerWriter::link_again(const std::string& path, const std::string& target) {
  const auto known = first_links_below_.find(target);
  if (known == first_links_below_.end()) return false;
  const std::string name = name_of(path);
  const std::string first = known->second;
  for (int tries = 0; tries < 2; tries++) {
    const int parent = open_parent(path, parent_, true);
    const UniqueFd there = open_in_root(root_.get(), first, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, RESOLVE_NO_SYMLINKS);
    std::string found(kMaxDepthBytes, '\0');
    const ssize_t length = there ? fgetxattr(there.get(), kBelow, found.data(), found.size()) : -1;
    if (length < 0 || found.substr(0, static_cast<size_t>(length)) != target) return false;
    if (linkat(root_.get(), first.c_str(), parent, name.c_str(), 0) == 0) {
      links_below_.insert(path_below(parent_.real_path, name));
      return true;
    }
    if (errno != EEXIST) fail("link to " + target, path);
    struct stat here {};
    struct stat status {};
    if (fstatat(parent, name.c_str(), &here, AT_SYMLINK_NOFOLLOW) != 0) fail("stat", path);
    if (fstat(there.get(), &status) != 0) fail("stat", target);
    if (here.st_ino == status.st_ino) return true;
    remove_existing(parent, name, path);
  }
  return false;
}

// A name was made; it may be a further one of a file that is to be a copy.
void LayerWriter::add_link_below(int parent, const std::string& name) {
  if (links_below_.empty()) return;
  struct stat status {};
  if (fstatat(parent, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(status.st_mode)) return;
  const UniqueFd fd(openat(parent, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (fd && fgetxattr(fd.get(), kBelow, nullptr, 0) >= 0) links_below_.insert(path_below(parent_.real_path, name));
}

// A directory of nothing but whiteouts is there only if there is one below.
bool LayerWriter::only_hides(const std::string& path) const {
  if (hiding_only_ == 0) return false;
  const auto found = implicit_.find(path);
  return found != implicit_.end() && found->second.only_hides;
}

// Whether what the layers below have at a path does not show through this one, as far as it has come.
bool LayerWriter::hides_below(const std::string& path) {
  if (root_is_opaque_) return true;
  UniqueFd current = open_in_root(root_.get(), "", O_RDONLY | O_DIRECTORY, 0);
  for (size_t begin = 0; begin < path.size();) {
    const size_t end = std::min(path.find('/', begin), path.size());
    const std::string name = path.substr(begin, end - begin);
    UniqueFd next(openat(current.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!next) return errno != ENOENT;
    if (end >= path.size() && only_hides(path)) return false;
    if (fgetxattr(next.get(), kOpaque, nullptr, 0) > 0) return true;
    current = std::move(next);
    begin = end + 1;
  }
  return true;
}

}  // namespace berth::unpack
