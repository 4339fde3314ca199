#include "addon/file_access.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "addon/system_error.h"

namespace berth {

UniqueFd open_file(const std::string& path, int flags, mode_t mode) {
  UniqueFd fd(open(path.c_str(), flags | O_CLOEXEC, mode));
  if (!fd) throw_errno("open", path);
  return fd;
}

void write_file(const std::string& path, const std::string& value) {
  UniqueFd fd = open_file(path, O_WRONLY);
  write_whole(fd.get(), value, path);
}

void write_whole(int fd, const std::string& value, const std::string& path) {
  ssize_t written = write(fd, value.data(), value.size());
  if (written < 0) throw_errno("write", path);
  if (static_cast<size_t>(written) != value.size()) throw SystemError(EIO, "write", path, "only a part was taken");
}

std::string read_descriptor(int fd, size_t limit_bytes, const std::string& subject) {
  std::string content;
  size_t filled = 0;
  while (true) {
    // One byte over the limit, so that "more" is seen.
    content.resize(std::min(limit_bytes + 1, std::max<size_t>(4096, filled * 2)));
    ssize_t got = read(fd, content.data() + filled, content.size() - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw_errno("read", subject);
    filled += static_cast<size_t>(got);
    if (filled > limit_bytes) {
      throw SystemError(EFBIG, "read", subject, "more than " + std::to_string(limit_bytes) + " bytes");
    }
    if (got == 0) break;
  }
  content.resize(filled);
  return content;
}

std::string read_file(const std::string& path, size_t limit_bytes) {
  UniqueFd fd = open_file(path, O_RDONLY);
  return read_descriptor(fd.get(), limit_bytes, path);
}

UniqueFd open_path_in_root(int root, const std::string& path) {
  open_how how = {};
  how.flags = O_PATH | O_CLOEXEC;
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
  // EAGAIN: a rename somewhere made the kernel unsure whether ".." stayed inside.
  for (int attempt = 0; attempt < 100; attempt++) {
    UniqueFd fd(static_cast<int>(syscall(SYS_openat2, root, path.c_str(), &how, sizeof how)));
    if (fd) return fd;
    if (errno != EAGAIN && errno != EINTR) break;
  }
  throw_errno("openat2", path);
}

UniqueFd reopen(int path_fd, int flags, const std::string& subject) {
  std::string link = "/proc/self/fd/" + std::to_string(path_fd);
  UniqueFd fd(open(link.c_str(), flags | O_CLOEXEC));
  if (!fd) throw_errno("open", subject);
  return fd;
}

}  // namespace berth
