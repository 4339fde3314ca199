#include "addon/namespace_pin.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>

#include "addon/arguments.h"
#include "addon/file_access.h"
#include "addon/functions.h"
#include "addon/own_thread.h"
#include "common/unique_fd.h"

namespace berth {
namespace {

void make_parents(const std::string& path) {
  for (size_t slash = path.find('/', 1); slash != std::string::npos; slash = path.find('/', slash + 1)) {
    std::string directory = path.substr(0, slash);
    if (mkdir(directory.c_str(), 0755) < 0 && errno != EEXIST) throw_errno("mkdir", directory);
  }
}

Napi::Value unpin_namespace(const Napi::CallbackInfo& info) {
  std::string path = string_argument(info, 0, "path");
  return on_own_thread(info.Env(), [path]() -> Settle {
    while (umount2(path.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) == 0) {
    }
    if (errno != EINVAL && errno != ENOENT && errno != ENOTDIR) throw_errno("umount2", path);
    if (unlink(path.c_str()) < 0 && errno != ENOENT && errno != ENOTDIR) throw_errno("unlink", path);
    return settle_nothing();
  });
}

}  // namespace

void pin_namespace(const std::string& source, const std::string& path) {
  // O_NONBLOCK: should it be a fifo after all, the next check says so.
  UniqueFd name_space = open_file(source, O_RDONLY | O_NONBLOCK | O_NOCTTY);
  struct statfs status;
  if (fstatfs(name_space.get(), &status) < 0) throw_errno("fstatfs", source);
  if (status.f_type != NSFS_MAGIC) throw SystemError(EINVAL, "pin namespace", source, "this is no namespace");
  make_parents(path);
  UniqueFd file = open_file(path, O_RDONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0444);
  std::string link = "/proc/self/fd/" + std::to_string(name_space.get());
  if (fchmod(file.get(), 0444) < 0 || mount(link.c_str(), path.c_str(), nullptr, MS_BIND, nullptr) < 0) {
    int value = errno;
    unlink(path.c_str());
    throw SystemError(value, "bind namespace", path);
  }
}

void register_namespace_pin(Napi::Object exports) { export_function<unpin_namespace>(exports, "unpinNamespace"); }

}  // namespace berth
