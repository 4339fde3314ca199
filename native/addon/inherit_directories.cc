// Directories that a layer holds without describing them look like those of the layers below.
//
// The names come from the layer, and the trees may be hostile: the layer's own links lead nowhere out of it, and those of
// the layers below are not followed at all.
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
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

void inherit_one(int root, const std::string& path, const std::vector<UniqueFd>& lower) {
  open_how how{};
  how.flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
  const UniqueFd to(static_cast<int>(syscall(SYS_openat2, root, path.empty() ? "." : path.c_str(), &how, sizeof how)));
  // a later entry of the layer may have replaced it
  if (!to) return;
  for (const UniqueFd& layer : lower) {
    bool hides_below = false;
    const UniqueFd from = find_directory(layer.get(), path, hides_below);
    if (from) return copy_attributes(from.get(), to.get(), path);
    if (hides_below) return;
  }
}

struct Options {
  std::string directory;
  std::vector<std::string> lower;
  std::string paths;  // each ends with a NUL
};

void inherit(const Options& options) {
  constexpr int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;
  const UniqueFd root = open_file(options.directory, flags);
  std::vector<UniqueFd> lower;
  for (const std::string& path : options.lower) lower.push_back(open_file(path, flags));
  for (size_t begin = 0; begin < options.paths.size();) {
    const size_t end = std::min(options.paths.find('\0', begin), options.paths.size());
    inherit_one(root.get(), clean_path(options.paths.substr(begin, end - begin)), lower);
    begin = end + 1;
  }
}

Napi::Value inherit_directories(const Napi::CallbackInfo& info) {
  Napi::Object object = object_argument(info, 0, "options");
  Napi::Value paths = object.Get("paths");
  if (!paths.IsBuffer()) throw Napi::TypeError::New(info.Env(), "paths must be a Buffer");
  Napi::Buffer<char> bytes = paths.As<Napi::Buffer<char>>();
  Options options{text_field(object, "directory"), texts_field(object, "lower"), {bytes.Data(), bytes.Length()}};
  return on_own_thread(info.Env(), [options]() -> Settle {
    inherit(options);
    return settle_nothing();
  });
}

}  // namespace

void register_inherit_directories(Napi::Object exports) {
  export_function<inherit_directories>(exports, "inheritDirectories");
}

}  // namespace berth
