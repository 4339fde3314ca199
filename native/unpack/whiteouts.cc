// What a layer hides of the layers below.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <string_view>

#include "unpack/attributes.h"
#include "unpack/failure.h"
#include "unpack/layer_writer.h"
#include "unpack/path.h"

namespace berth::unpack {
namespace {

constexpr std::string_view kWhiteout = ".wh.";
constexpr std::string_view kWhiteoutMeta = ".wh..wh.";
constexpr std::string_view kOpaqueMarker = ".wh..wh..opq";

}  // namespace

// A whiteout hides what the layers below hold, never what this layer holds itself.
bool LayerWriter::write_whiteout(const std::string& path) {
  const std::string name = name_of(path);
  if (path.find("/.wh.") != std::string::npos || path.starts_with(kWhiteout)) {
    // anything inside of a whiteout, and the private files of aufs, mean nothing
    const std::string parent = parent_of(path);
    if (parent.starts_with(kWhiteout) || parent.find("/.wh.") != std::string::npos) return true;
  }
  if (!name.starts_with(kWhiteout)) return false;
  if (name == kOpaqueMarker) {
    const int parent = open_hiding_parent(path);
    if (parent >= 0) set_opaque(parent, ".", path);
    // overlayfs heeds no such attribute of a layer's own root: who mounts it has to leave out the layers below
    if (parent_of(path).empty()) root_is_opaque_ = true;
    return true;
  }
  if (name.starts_with(kWhiteoutMeta)) return true;
  const std::string hidden = name.substr(kWhiteout.size());
  if (hidden.empty() || hidden == "." || hidden == "..") refuse("make a whiteout", path, "it names nothing");
  hide(hidden, path);
  return true;
}

// @param path an entry beside what is hidden
void LayerWriter::hide(const std::string& hidden, const std::string& path) {
  const int parent = open_hiding_parent(path);
  if (parent < 0) return;
  if (apply_) return purge(parent, hidden, path);
  if (mknodat(parent, hidden.c_str(), S_IFCHR, makedev(0, 0)) == 0) {
    of_whiteouts_.insert(parent_of(path));
    inodes_++;
    return;
  }
  if (errno != EEXIST) fail("mknod a whiteout", path);
  struct stat status {};
  if (fstatat(parent, hidden.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) fail("stat", path);
  if (!S_ISDIR(status.st_mode)) return;
  const auto implicit = implicit_.find(path_below(parent_of(path), hidden));
  if (implicit == implicit_.end() || !implicit->second.only_hides) {
    return set_opaque(parent, hidden, path);
  }
  // there are only whiteouts in it
  remove_existing(parent, hidden, path);
  if (mknodat(open_parent(path, parent_, false), hidden.c_str(), S_IFCHR, makedev(0, 0)) != 0) {
    fail("mknod a whiteout", path);
  }
  of_whiteouts_.insert(parent_of(path));
}

// -1: what is no directory (any more), or is not there, has nothing that could be hidden. umoci tells of it nevertheless.
int LayerWriter::open_hiding_parent(const std::string& path) {
  // the layers below are there already; a link of theirs is no directory
  if (apply_) return open_lower_parent(path);
  hiding_ = true;
  try {
    const int parent = open_parent(path, parent_, true);
    hiding_ = false;
    return parent;
  } catch (const Failure& failure) {
    hiding_ = false;
    if (failure.errno_value == ENOTDIR || failure.errno_value == ELOOP) return -1;
    throw;
  }
}

void LayerWriter::set_opaque(int parent, const std::string& name, const std::string& path) {
  const UniqueFd fd(openat(parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) fail("open", path);
  if (apply_) {
    forget_parents();
    purge_inside(fd.get(), ".", path);
    return;
  }
  if (fsetxattr(fd.get(), kOpaque, "y", 1, 0) != 0) fail("setxattr trusted.overlay.opaque", path);
  struct stat status {};
  if (fstat(fd.get(), &status) != 0) fail("stat", path);
  opaque_.insert(status.st_ino);
}

// Removes what comes from the layers below; directories stay as far as they hold something of this layer.
void LayerWriter::purge(int parent, const std::string& name, const std::string& path) {
  const UniqueFd kept(dup(parent));
  if (!kept) fail("dup", path);
  // the open parents may be what goes, or have been reached through it
  forget_parents();
  struct stat status {};
  if (fstatat(kept.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) {
    // it hides nothing
    if (errno == ENOENT) return;
    fail("stat", path);
  }
  if (!S_ISDIR(status.st_mode)) {
    if (!is_made(kept.get(), name, status) && unlinkat(kept.get(), name.c_str(), 0) != 0) fail("unlink", path);
    return;
  }
  const bool is_empty = purge_inside(kept.get(), name, path);
  if (is_empty && !is_made(status) && unlinkat(kept.get(), name.c_str(), AT_REMOVEDIR) != 0) fail("rmdir", path);
}

// True: nothing is left in the directory.
bool LayerWriter::purge_inside(int parent, const std::string& name, const std::string& path) {
  UniqueFd fd(openat(parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) fail("open", path);
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(fdopendir(fd.get()), closedir);
  if (!directory) fail("fdopendir", path);
  const int inside = fd.release();
  bool is_empty = true;
  while (const dirent* item = readdir(directory.get())) {
    if (strcmp(item->d_name, ".") == 0 || strcmp(item->d_name, "..") == 0) continue;
    struct stat status {};
    if (fstatat(inside, item->d_name, &status, AT_SYMLINK_NOFOLLOW) != 0) fail("stat", path);
    const bool is_directory = S_ISDIR(status.st_mode);
    const bool goes = is_directory ? purge_inside(inside, item->d_name, path) && !is_made(status)
                                   : !is_made(inside, item->d_name, status);
    if (!goes) is_empty = false;
    else if (unlinkat(inside, item->d_name, is_directory ? AT_REMOVEDIR : 0) != 0) fail("unlink", path);
  }
  return is_empty;
}

void LayerWriter::add_made(int parent, const std::string& name, const std::string& path) {
  if (!apply_) return;
  struct stat status {};
  if (fstatat(parent, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) fail("stat", path);
  made_.insert(status.st_ino);
}

}  // namespace berth::unpack
