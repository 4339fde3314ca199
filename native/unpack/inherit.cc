#include "unpack/inherit.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cstring>

#include "common/unique_fd.h"
#include "unpack/attributes.h"
#include "unpack/failure.h"
#include "unpack/path.h"

namespace berth::unpack {
namespace {

constexpr size_t kMaxListBytes = 64 << 20;
constexpr size_t kMaxAttributeBytes = 65536;

std::string read_all(int input) {
  std::string text;
  char buffer[65536];
  for (;;) {
    const ssize_t count = read(input, buffer, sizeof buffer);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail("read", "the list of directories");
    if (count == 0) return text;
    text.append(buffer, static_cast<size_t>(count));
    if (text.size() > kMaxListBytes) refuse("read", "", "the list of directories is too long");
  }
}

// The directory in one layer; `hides_below` tells that the layers below it do not show through at this path.
UniqueFd find_directory(int layer, const std::string& path, bool& hides_below) {
  UniqueFd current(openat(layer, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  for (size_t begin = 0; begin < path.size() && current;) {
    const size_t end = std::min(path.find('/', begin), path.size());
    const std::string name = path.substr(begin, end - begin);
    UniqueFd next(openat(current.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!next && errno != ENOENT) hides_below = true;
    if (next && fgetxattr(next.get(), kOpaque, nullptr, 0) > 0) hides_below = true;
    current = std::move(next);
    begin = end + 1;
  }
  return current;
}

void copy_attributes(int from, int to, const std::string& path) {
  struct stat status {};
  if (fstat(from, &status) != 0) fail("stat", path);
  if (fchown(to, status.st_uid, status.st_gid) != 0) fail("chown", path);
  std::string names(kMaxAttributeBytes, '\0');
  const ssize_t length = flistxattr(from, names.data(), names.size());
  if (length < 0 && errno != EOPNOTSUPP) fail("listxattr", path);
  std::string value(kMaxAttributeBytes, '\0');
  for (const char* name = names.data(); name < names.data() + length; name += strlen(name) + 1) {
    if (!attribute_is_kept(name)) continue;
    const ssize_t size = fgetxattr(from, name, value.data(), value.size());
    if (size < 0) fail(std::string("getxattr ") + name, path);
    if (fsetxattr(to, name, value.data(), static_cast<size_t>(size), 0) != 0) fail(std::string("setxattr ") + name, path);
  }
  if (fchmod(to, status.st_mode & 07777) != 0) fail("chmod", path);
}

void inherit_one(int root, const std::string& path, const std::vector<int>& lower) {
  open_how how{};
  how.flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
  const UniqueFd to(static_cast<int>(syscall(SYS_openat2, root, path.empty() ? "." : path.c_str(), &how, sizeof how)));
  // a later entry of the layer may have replaced it
  if (!to) return;
  for (const int layer : lower) {
    bool hides_below = false;
    const UniqueFd from = find_directory(layer, path, hides_below);
    if (from) return copy_attributes(from.get(), to.get(), path);
    if (hides_below) return;
  }
}

}  // namespace

void inherit(int input, const std::vector<int>& lower) {
  const std::string list = read_all(input);
  const UniqueFd root(open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!root) fail("open", "/");
  for (size_t begin = 0; begin < list.size();) {
    const size_t end = std::min(list.find('\0', begin), list.size());
    inherit_one(root.get(), clean_path(list.substr(begin, end - begin)), lower);
    begin = end + 1;
  }
}

}  // namespace berth::unpack
