#include "archive/tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <sys/xattr.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <memory>

#include "unpack/attributes.h"
#include "unpack/failure.h"

namespace berth::archive {
namespace {

using unpack::fail;
using unpack::refuse;

constexpr size_t kMaxAttributeBytes = 65536;

UniqueFd open_below(int root, const std::string& path) {
  if (path.size() >= PATH_MAX) refuse("open", path.substr(0, 200), "directories are nested too deeply");
  open_how how{};
  how.flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  return UniqueFd(static_cast<int>(
      syscall(SYS_openat2, root, path.empty() ? "." : path.c_str(), &how, sizeof how)));
}

}  // namespace

bool is_whiteout(const struct stat& status) { return S_ISCHR(status.st_mode) && status.st_rdev == 0; }

Directory::Directory(int root, const std::string& path) : fd_(open_below(root, path)), path_(path) {
  if (!fd_) fail("open", path);
}

struct stat Directory::status() const {
  struct stat status {};
  if (fstat(fd_.get(), &status) != 0) fail("stat", path_);
  return status;
}

std::vector<Entry> Directory::entries() const {
  // a descriptor of its own, because reading moves it
  UniqueFd copy(openat(fd_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!copy) fail("open", path_);
  const std::unique_ptr<DIR, int (*)(DIR*)> stream(fdopendir(copy.get()), closedir);
  if (!stream) fail("fdopendir", path_);
  copy.release();
  std::vector<Entry> entries;
  for (;;) {
    errno = 0;
    const dirent* item = readdir(stream.get());
    if (item == nullptr && errno != 0) fail("readdir", path_);
    if (item == nullptr) break;
    if (strcmp(item->d_name, ".") == 0 || strcmp(item->d_name, "..") == 0) continue;
    Entry entry{item->d_name, {}};
    if (fstatat(fd_.get(), item->d_name, &entry.status, AT_SYMLINK_NOFOLLOW) == 0) entries.push_back(std::move(entry));
    else if (errno != ENOENT) fail("stat", path_of(item->d_name));
  }
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.name < b.name; });
  return entries;
}

Attributes Directory::attributes(const std::string& name) const {
  // there are no such calls that begin at a descriptor
  if (fchdir(fd_.get()) != 0) fail("fchdir", path_);
  const char* path = name.empty() ? "." : name.c_str();
  const ssize_t needed = llistxattr(path, nullptr, 0);
  if (needed == 0 || (needed < 0 && errno == EOPNOTSUPP)) return {};
  if (needed < 0) fail("listxattr", path_of(name));
  std::string names(kMaxAttributeBytes, '\0');
  const ssize_t length = llistxattr(path, names.data(), names.size());
  if (length < 0) fail("listxattr", path_of(name));
  Attributes found;
  std::string value(kMaxAttributeBytes, '\0');
  for (const char* key = names.data(); key < names.data() + length; key += strlen(key) + 1) {
    // an equals sign ends a key in an archive
    if (!unpack::attribute_is_kept(key) || strchr(key, '=') != nullptr) continue;
    const ssize_t bytes = lgetxattr(path, key, value.data(), value.size());
    if (bytes < 0) fail("getxattr", path_of(name));
    found.emplace_back(key, value.substr(0, static_cast<size_t>(bytes)));
  }
  std::sort(found.begin(), found.end());
  return found;
}

bool Directory::is_opaque() const {
  char value[2];
  return fgetxattr(fd_.get(), unpack::kOpaque, value, sizeof value) == 1 && value[0] == 'y';
}

std::string Directory::read_link(const std::string& name) const {
  std::string target(PATH_MAX, '\0');
  const ssize_t length = readlinkat(fd_.get(), name.c_str(), target.data(), target.size());
  if (length < 0) fail("readlink", path_of(name));
  target.resize(static_cast<size_t>(length));
  return target;
}

UniqueFd Directory::open_file(const std::string& name) const {
  UniqueFd file(openat(fd_.get(), name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!file) fail("open", path_of(name));
  return file;
}

}  // namespace berth::archive
