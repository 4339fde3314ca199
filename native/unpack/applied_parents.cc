// The directories that entries come into when a layer is applied to the tree of the layers below. It comes to what a union of the
// layers would show: a link of this layer leads on, one of the layers below is no directory, and makes place for one.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <string>
#include <vector>

#include "unpack/failure.h"
#include "unpack/layer_files.h"
#include "unpack/layer_writer.h"
#include "unpack/path.h"

namespace berth::unpack {
namespace {

// The names of a path, last first.
void push_names(std::vector<std::string>& names, const std::string& path) {
  for (size_t end = path.size();;) {
    const size_t slash = end == 0 ? std::string::npos : path.rfind('/', end - 1);
    const size_t begin = slash == std::string::npos ? 0 : slash + 1;
    if (end > begin && path.substr(begin, end - begin) != ".") names.push_back(path.substr(begin, end - begin));
    if (slash == std::string::npos) return;
    end = slash;
  }
}

UniqueFd none(int error) {
  errno = error;
  return UniqueFd();
}

}  // namespace

// @param make what is missing, or in the way and of the layers below; an empty descriptor: errno says why not
UniqueFd LayerWriter::walk_applied(const std::string& path, bool make, Way& way) {
  std::vector<std::string> names;
  push_names(names, path);
  UniqueFd current = open_in_root(root_.get(), "", O_PATH | O_DIRECTORY, 0);
  // what would have to be made in `current`
  std::vector<std::string> missing;
  for (int links = 0; !names.empty();) {
    const std::string name = names.back();
    names.pop_back();
    if (!missing.empty()) {
      if (name == "..") missing.pop_back();
      else missing.push_back(name);
      continue;
    }
    struct stat status {};
    const bool is_there = fstatat(current.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0;
    if (!is_there && errno != ENOENT) return UniqueFd();
    if (is_there && S_ISDIR(status.st_mode)) {
      // above the root of this process is the root
      current.reset(openat(current.get(), name.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
      if (!current) return UniqueFd();
      continue;
    }
    // a hard link to a link of the layers below is none of this layer: nobody can tell without those where it leads
    if (is_there && !is_made(status) && is_linked(current.get(), name)) return none(ENOTDIR);
    const bool is_own = is_there && is_made(status);
    const bool is_link = is_there && S_ISLNK(status.st_mode);
    if (is_link && (is_own || (!make && way != Way::own))) {
      if (++links > kMaxLinks) return none(ELOOP);
      char target[PATH_MAX];
      const ssize_t length = readlinkat(current.get(), name.c_str(), target, sizeof target);
      if (length < 0) return UniqueFd();
      way = is_own ? Way::own : Way::below;
      const std::string text(target, static_cast<size_t>(length));
      if (text.starts_with('/')) current = open_in_root(root_.get(), "", O_PATH | O_DIRECTORY, 0);
      push_names(names, text);
      continue;
    }
    if (is_own) return none(ENOTDIR);
    if (!make) return none(is_there && !is_link ? ENOTDIR : ENOENT);
    missing.push_back(name);
  }
  for (const std::string& name : missing) {
    keep_time(current.get(), real_path_of(current.get(), path));
    if (!make_directory(current.get(), name, path)) replace_lower(current.get(), name, path);
    current.reset(openat(current.get(), name.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!current) return UniqueFd();
  }
  return current;
}

// What is no directory and comes from the layers below makes place for one.
void LayerWriter::replace_lower(int parent, const std::string& name, const std::string& path) {
  struct stat status {};
  if (fstatat(parent, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) fail("stat", path);
  if (S_ISDIR(status.st_mode) || is_made(parent, name, status)) return;
  remove_existing(parent, name, path);
  if (!make_directory(parent, name, path)) fail("mkdir", path);
}

bool LayerWriter::is_linked(int parent, const std::string& name) const {
  if (linked_.empty()) return false;
  struct stat directory {};
  if (fstat(parent, &directory) != 0) fail("stat the parent of", name);
  return linked_.contains({directory.st_ino, name});
}

bool LayerWriter::is_made(int parent, const std::string& name, const struct stat& status) const {
  return is_made(status) || is_linked(parent, name);
}

// A hard link was made: of a file of this layer all names are.
void LayerWriter::add_linked(int parent, const std::string& name) {
  if (!apply_) return;
  struct stat status {};
  if (fstatat(parent, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) fail("stat", name);
  if (is_made(status)) return;
  struct stat directory {};
  if (fstat(parent, &directory) != 0) fail("stat the parent of", name);
  linked_.insert({directory.st_ino, name});
}

// A directory was made, which may have the number of one that is gone.
void LayerWriter::forget_linked(int directory) {
  if (linked_.empty()) return;
  struct stat status {};
  if (fstat(directory, &status) != 0) fail("stat", "a new directory");
  const auto begin = linked_.lower_bound({status.st_ino, ""});
  auto end = begin;
  while (end != linked_.end() && end->first == status.st_ino) ++end;
  linked_.erase(begin, end);
}

}  // namespace berth::unpack
