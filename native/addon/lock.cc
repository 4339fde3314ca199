// One holder per file, for as long as the descriptor is open.
#include <fcntl.h>
#include <sys/file.h>

#include "addon/arguments.h"
#include "addon/file_access.h"
#include "addon/functions.h"

namespace berth {
namespace {

UniqueFd open_to_lock(const std::string& path) {
  UniqueFd directory(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  return directory ? std::move(directory) : open_file(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
}

Napi::Value lock_file(const Napi::CallbackInfo& info) {
  std::string path = string_argument(info, 0, "path");
  UniqueFd file = open_to_lock(path);
  if (flock(file.get(), LOCK_EX | LOCK_NB) < 0) throw_errno("flock", path);
  return Napi::Number::New(info.Env(), file.release());
}

}  // namespace

void register_lock(Napi::Object exports) { export_function<lock_file>(exports, "lockFile"); }

}  // namespace berth
