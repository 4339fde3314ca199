// Directories that a layer holds without describing them look like those of the layers below.
//
// The names come from the layer, and the trees may be hostile: no links of theirs are followed by the kernel. Whiteouts that hide
// nothing go, and directories of nothing else. Hard links to what only the layers below have become copies of it.
#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "addon/arguments.h"
#include "addon/file_access.h"
#include "addon/functions.h"
#include "addon/own_thread.h"
#include "common/unique_fd.h"
#include "unpack/attributes.h"
#include "unpack/path.h"

namespace berth {
namespace {

using unpack::attribute_is_kept;
using unpack::clean_path;

constexpr size_t max_attribute_bytes = 65536;

// The directory in one layer; `hides_below` tells that the layers below it do not show through at this path.
UniqueFd find_directory(int layer, const std::string& path, bool& hides_below) {
  UniqueFd current(openat(layer, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (current && fgetxattr(current.get(), unpack::kOpaque, nullptr, 0) > 0) hides_below = true;
  for (size_t begin = 0; begin < path.size() && current;) {
    const size_t end = std::min(path.find('/', begin), path.size());
    const std::string name = path.substr(begin, end - begin);
    UniqueFd next(openat(current.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!next && errno != ENOENT) hides_below = true;
    if (next && fgetxattr(next.get(), unpack::kOpaque, nullptr, 0) > 0) hides_below = true;
    current = std::move(next);
    begin = end + 1;
  }
  return current;
}

void copy_attributes(int from, int to, const std::string& path) {
  struct stat status {};
  if (fstat(from, &status) != 0) throw_errno("fstat", path);
  if (fchown(to, status.st_uid, status.st_gid) != 0) throw_errno("fchown", path);
  std::string names(max_attribute_bytes, '\0');
  const ssize_t length = flistxattr(from, names.data(), names.size());
  if (length < 0 && errno != EOPNOTSUPP) throw_errno("flistxattr", path);
  std::string value(max_attribute_bytes, '\0');
  for (const char* name = names.data(); name < names.data() + length; name += strlen(name) + 1) {
    if (!attribute_is_kept(name)) continue;
    const ssize_t size = fgetxattr(from, name, value.data(), value.size());
    if (size < 0) throw_errno("fgetxattr", path);
    if (fsetxattr(to, name, value.data(), static_cast<size_t>(size), 0) != 0) throw_errno("fsetxattr", path);
  }
  if (fchmod(to, status.st_mode & 07777) != 0) throw_errno("fchmod", path);
  const timespec times[2] = {{0, UTIME_OMIT}, status.st_mtim};
  if (futimens(to, times) != 0) throw_errno("futimens", path);
}

UniqueFd open_in_root(int root, const std::string& path) {
  open_how how{};
  how.flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  return UniqueFd(static_cast<int>(syscall(SYS_openat2, root, path.empty() ? "." : path.c_str(), &how, sizeof how)));
}

// The directory of that path that shows through from the layers below; none: nothing does.
UniqueFd find_below(const std::string& path, const std::vector<UniqueFd>& lower) {
  bool hides_below = false;
  for (const UniqueFd& layer : lower) {
    UniqueFd found = find_directory(layer.get(), path, hides_below);
    if (found || hides_below) return found;
  }
  return UniqueFd();
}

void inherit_one(int root, const std::string& path, const std::vector<UniqueFd>& lower) {
  const UniqueFd to = open_in_root(root, path);
  // a later entry of the layer may have replaced it
  if (!to) return;
  if (const UniqueFd from = find_below(path, lower)) copy_attributes(from.get(), to.get(), path);
}

// Takes the whiteouts out of a directory; with directories, also those of nothing but whiteouts.
void remove_whiteouts(UniqueFd opened, bool with_directories, const std::string& path) {
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(fdopendir(opened.get()), closedir);
  if (!directory) throw_errno("fdopendir", path);
  const int inside = opened.release();
  while (const dirent* item = readdir(directory.get())) {
    if (strcmp(item->d_name, ".") == 0 || strcmp(item->d_name, "..") == 0) continue;
    struct stat status {};
    if (fstatat(inside, item->d_name, &status, AT_SYMLINK_NOFOLLOW) != 0) throw_errno("fstatat", path);
    const bool is_whiteout = S_ISCHR(status.st_mode) && status.st_rdev == makedev(0, 0);
    if (!is_whiteout && !(with_directories && S_ISDIR(status.st_mode))) continue;
    if (!is_whiteout) {
      UniqueFd next(openat(inside, item->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
      if (!next) throw_errno("openat", path);
      remove_whiteouts(std::move(next), true, path);
    }
    if (unlinkat(inside, item->d_name, is_whiteout ? 0 : AT_REMOVEDIR) != 0) throw_errno("unlinkat", path);
  }
}

// What is done to a directory leaves it its time.
void keep_time(int directory, const struct stat& before, const std::string& path) {
  const timespec times[2] = {{0, UTIME_OMIT}, before.st_mtim};
  if (futimens(directory, times) != 0) throw_errno("futimens", path);
}

// A directory of this layer with nothing but whiteouts in it: without one below, there would not be any.
void remove_unless_below(int root, const std::string& path, const std::vector<UniqueFd>& lower) {
  const size_t slash = path.rfind('/');
  const std::string parent = slash == std::string::npos ? "" : path.substr(0, slash);
  bool is_hidden = false;
  find_directory(root, parent, is_hidden);
  if (!is_hidden && find_below(path, lower)) return inherit_one(root, path, lower);
  UniqueFd directory = open_in_root(root, path);
  // one that it was in is gone already
  if (!directory) return;
  remove_whiteouts(std::move(directory), true, path);
  const UniqueFd above = open_in_root(root, parent);
  if (!above) throw_errno("openat2", path);
  const std::string name = slash == std::string::npos ? path : path.substr(slash + 1);
  struct stat before {};
  if (fstat(above.get(), &before) != 0) throw_errno("fstat", path);
  if (unlinkat(above.get(), name.c_str(), AT_REMOVEDIR) != 0) throw_errno("unlinkat", path);
  keep_time(above.get(), before, path);
}

// Where nothing shows through, whiteouts hide nothing; and overlayfs lists them there as files that cannot be found.
void drop_idle_whiteouts(int root, const std::string& path, const std::vector<UniqueFd>& lower) {
  bool is_hidden = false;
  find_directory(root, path, is_hidden);
  if (!is_hidden && find_below(path, lower)) return;
  const UniqueFd directory = open_in_root(root, path);
  struct stat before {};
  if (!directory) return;
  if (fstat(directory.get(), &before) != 0) throw_errno("fstat", path);
  remove_whiteouts(open_in_root(root, path), false, path);
  keep_time(directory.get(), before, path);
}

// What the layers below have at a path: the parent, in the topmost layer that has it, and the name in there.
struct FoundFile {
  UniqueFd parent;
  std::string name;
  struct stat status;
};

// One directory of the tree that the layers make together: those that show through at that path, topmost first.
using Union = std::vector<UniqueFd>;

// @param found gets what is no directory
Union step_into(const Union& directory, const std::string& name, std::optional<FoundFile>& found) {
  Union next;
  for (const UniqueFd& layer : directory) {
    struct stat status {};
    if (fstatat(layer.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) continue;
    if (!S_ISDIR(status.st_mode)) {
      const bool is_whiteout = S_ISCHR(status.st_mode) && status.st_rdev == makedev(0, 0);
      if (next.empty() && !is_whiteout) {
        found = {UniqueFd(openat(layer.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)), name, status};
      }
      break;
    }
    UniqueFd inside(openat(layer.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!inside) throw_errno("openat", name);
    const bool is_opaque = fgetxattr(inside.get(), unpack::kOpaque, nullptr, 0) > 0;
    next.push_back(std::move(inside));
    if (is_opaque) break;
  }
  return next;
}

Union top_of(const std::vector<UniqueFd>& lower) {
  Union top;
  for (const UniqueFd& layer : lower) {
    top.emplace_back(openat(layer.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!top.back()) throw_errno("openat", ".");
    if (fgetxattr(layer.get(), unpack::kOpaque, nullptr, 0) > 0) break;
  }
  return top;
}

// None: nothing is there, or a directory. Links on the way are followed, the last one is not.
std::optional<FoundFile> find_file_below(std::string path, const std::vector<UniqueFd>& lower) {
  constexpr int max_links = 40;
  for (int links = 0; links <= max_links; links++) {
    Union current = top_of(lower);
    std::optional<FoundFile> found;
    size_t end = 0;
    size_t begin = 0;
    for (; begin < path.size() && !current.empty() && !found; begin = end + 1) {
      end = std::min(path.find('/', begin), path.size());
      current = step_into(current, path.substr(begin, end - begin), found);
    }
    if (!found || end >= path.size()) return found;
    if (!S_ISLNK(found->status.st_mode)) return {};
    char target[PATH_MAX];
    const ssize_t length = readlinkat(found->parent.get(), found->name.c_str(), target, sizeof target);
    if (length < 0) throw_errno("readlinkat", path);
    const std::string text(target, static_cast<size_t>(length));
    const std::string before = path.substr(0, end - found->name.size());
    path = clean_path((text.starts_with('/') ? text : before + text) + path.substr(end));
  }
  return {};
}

// The files of layers are a user's: one may be of any size, most of it holes.
uint64_t copy_content(int from, int to, off_t size, uint64_t limit_bytes, const std::string& path) {
  if (ftruncate(to, size) != 0) throw_errno("ftruncate", path);
  uint64_t copied = 0;
  for (off_t at = 0; at < size;) {
    const off_t begin = lseek(from, at, SEEK_DATA);
    if (begin < 0 && errno == ENXIO) break;
    const off_t end = begin < 0 ? begin : lseek(from, begin, SEEK_HOLE);
    if (end < 0) throw_errno("lseek", path);
    copied += static_cast<uint64_t>(end - begin);
    if (copied > limit_bytes) {
      errno = EFBIG;
      throw_errno("copy", path);
    }
    loff_t source = begin;
    loff_t target = begin;
    while (source < end) {
      const ssize_t count = copy_file_range(from, &source, to, &target, static_cast<size_t>(end - source), 0);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) throw_errno("copy_file_range", path);
      if (count == 0) break;
    }
    at = end;
  }
  return copied;
}

// A link, a fifo or a device takes the place of the file that was made for it.
void make_node(int parent, const std::string& name, const FoundFile& from, const std::string& path) {
  struct stat before {};
  if (fstat(parent, &before) != 0) throw_errno("fstat", path);
  if (unlinkat(parent, name.c_str(), 0) != 0) throw_errno("unlinkat", path);
  const struct stat& status = from.status;
  if (S_ISLNK(status.st_mode)) {
    std::string target(PATH_MAX, '\0');
    const ssize_t length = readlinkat(from.parent.get(), from.name.c_str(), target.data(), target.size() - 1);
    if (length < 0 || symlinkat(target.c_str(), parent, name.c_str()) != 0) throw_errno("symlinkat", path);
  } else if (mknodat(parent, name.c_str(), status.st_mode, status.st_rdev) != 0) {
    throw_errno("mknodat", path);
  }
  if (fchownat(parent, name.c_str(), status.st_uid, status.st_gid, AT_SYMLINK_NOFOLLOW) != 0) throw_errno("fchownat", path);
  if (!S_ISLNK(status.st_mode) && fchmodat(parent, name.c_str(), status.st_mode & 07777, 0) != 0) {
    throw_errno("fchmodat", path);
  }
  const timespec times[2] = {{0, UTIME_OMIT}, status.st_mtim};
  if (utimensat(parent, name.c_str(), times, AT_SYMLINK_NOFOLLOW) != 0) throw_errno("utimensat", path);
  keep_time(parent, before, path);
}

[[noreturn]] void throw_missing(const std::string& target) {
  errno = ENOENT;
  throw_errno("hard link to", target);
}

// What a hard link leads to becomes what the layers below have there; answers how many bytes that has taken.
uint64_t copy_from_below(int root, const std::string& path, const std::vector<UniqueFd>& lower, uint64_t limit_bytes) {
  const size_t slash = path.rfind('/');
  const UniqueFd parent = open_in_root(root, slash == std::string::npos ? "" : path.substr(0, slash));
  const std::string name = path.substr(slash + 1);
  struct stat status {};
  // a later entry may have replaced it
  if (!parent || fstatat(parent.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(status.st_mode)) return 0;
  const UniqueFd to(openat(parent.get(), name.c_str(), O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!to) throw_errno("openat", path);
  std::string target(PATH_MAX, '\0');
  const ssize_t length = fgetxattr(to.get(), unpack::kBelow, target.data(), target.size());
  // or it is done: another name of the same file
  if (length < 0) return 0;
  target.resize(static_cast<size_t>(length));
  const std::optional<FoundFile> found = find_file_below(clean_path(target), lower);
  if (!found) throw_missing(target);
  if (!S_ISREG(found->status.st_mode)) {
    make_node(parent.get(), name, *found, path);
    return 0;
  }
  const UniqueFd from(openat(found->parent.get(), found->name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!from) throw_errno("openat", target);
  const uint64_t copied = copy_content(from.get(), to.get(), found->status.st_size, limit_bytes, path);
  if (fremovexattr(to.get(), unpack::kBelow) != 0) throw_errno("fremovexattr", path);
  copy_attributes(from.get(), to.get(), path);
  return copied;
}

struct Options {
  std::string directory;
  std::vector<std::string> lower;
  std::string paths;  // each ends with a NUL
  uint64_t limit_bytes;
};

uint64_t inherit(const Options& options) {
  constexpr int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;
  const UniqueFd root = open_file(options.directory, flags);
  std::vector<UniqueFd> lower;
  for (const std::string& path : options.lower) lower.push_back(open_file(path, flags));
  uint64_t copied = 0;
  for (size_t begin = 0; begin < options.paths.size();) {
    const size_t end = std::min(options.paths.find('\0', begin), options.paths.size());
    const std::string told = options.paths.substr(begin, end - begin);
    const std::string path = clean_path(told);
    if (told.starts_with("////")) {
      if (!find_file_below(path, lower)) throw_missing(path);
    } else if (told.starts_with("///")) copied += copy_from_below(root.get(), path, lower, options.limit_bytes - copied);
    else if (told.starts_with("//")) drop_idle_whiteouts(root.get(), path, lower);
    else if (told.starts_with('/')) remove_unless_below(root.get(), path, lower);
    else inherit_one(root.get(), path, lower);
    begin = end + 1;
  }
  return copied;
}

Napi::Value inherit_directories(const Napi::CallbackInfo& info) {
  Napi::Object object = object_argument(info, 0, "options");
  Napi::Value paths = object.Get("paths");
  if (!paths.IsBuffer()) throw Napi::TypeError::New(info.Env(), "paths must be a Buffer");
  Napi::Buffer<char> bytes = paths.As<Napi::Buffer<char>>();
  Options options{text_field(object, "directory"), texts_field(object, "lower"), {bytes.Data(), bytes.Length()},
                  static_cast<uint64_t>(int_field(object, "limitBytes"))};
  return on_own_thread(info.Env(), [options]() -> Settle {
    return settle_number(static_cast<double>(inherit(options)));
  });
}

}  // namespace

void register_inherit_directories(Napi::Object exports) {
  export_function<inherit_directories>(exports, "inheritDirectories");
}

}  // namespace berth
