// What concerns a file system as a whole.
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "addon/arguments.h"
#include "addon/file_access.h"
#include "addon/functions.h"
#include "addon/own_thread.h"

namespace berth {
namespace {

Napi::Value sync_file_system(const Napi::CallbackInfo& info) {
  std::string path = string_argument(info, 0, "path");
  return on_own_thread(info.Env(), [path]() -> Settle {
    UniqueFd file = open_file(path, O_RDONLY | O_NOFOLLOW);
    if (syncfs(file.get()) < 0) throw_errno("syncfs", path);
    return settle_nothing();
  });
}

Napi::Value spread_subdirectories(const Napi::CallbackInfo& info) {
  std::string path = string_argument(info, 0, "path");
  UniqueFd directory = open_file(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  int flags = 0;
  if (ioctl(directory.get(), FS_IOC_GETFLAGS, &flags) == 0) {
    if ((flags & FS_TOPDIR_FL) != 0) return info.Env().Undefined();
    flags |= FS_TOPDIR_FL;
    if (ioctl(directory.get(), FS_IOC_SETFLAGS, &flags) == 0) return info.Env().Undefined();
  }
  // a file system that knows no flags, or not this one
  if (errno != ENOTTY && errno != EOPNOTSUPP && errno != EINVAL) throw_errno("ioctl FS_IOC_SETFLAGS", path);
  return info.Env().Undefined();
}

Napi::Value next_data(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Napi::Object options = object_argument(info, 0, "options");
  int fd = static_cast<int>(int_field(options, "fd"));
  off_t from = int_field(options, "from");
  off_t start = lseek(fd, from, SEEK_DATA);
  off_t end = start < 0 ? start : lseek(fd, start, SEEK_HOLE);
  // ENXIO: there is none; EINVAL and ESPIPE: of files that the kernel makes up. A file system of a user's may answer anything.
  if (end < 0 && errno != ENXIO && errno != EINVAL && errno != ESPIPE) throw_errno("lseek", "descriptor " + std::to_string(fd));
  if (end < 0 || start < from || end <= start) return env.Null();
  Napi::Object found = Napi::Object::New(env);
  found.Set("start", static_cast<double>(start));
  found.Set("end", static_cast<double>(end));
  return found;
}

}  // namespace

void register_filesystem(Napi::Object exports) {
  export_function<sync_file_system>(exports, "syncFileSystem");
  export_function<next_data>(exports, "nextData");
  export_function<spread_subdirectories>(exports, "spreadSubdirectories");
}

}  // namespace berth
