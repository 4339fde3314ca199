#include "addon/unix_socket.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>

#include "addon/system_error.h"

namespace berth {
namespace {

struct Address {
  UniqueFd directory;
  std::string name;
  sockaddr_un raw = {};
  socklen_t length = 0;
};

Address address_of(const std::string& path) {
  Address address;
  size_t slash = path.rfind('/');
  std::string directory = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  address.name = slash == std::string::npos ? path : path.substr(slash + 1);
  if (address.name.empty()) throw SystemError(EINVAL, "socket address", path, "the path has no file name");
  address.directory = UniqueFd(open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!address.directory) throw_errno("open", directory);
  std::string name = "/proc/self/fd/" + std::to_string(address.directory.get()) + "/" + address.name;
  if (name.size() >= sizeof address.raw.sun_path) throw SystemError(ENAMETOOLONG, "socket address", path);
  address.raw.sun_family = AF_UNIX;
  memcpy(address.raw.sun_path, name.c_str(), name.size() + 1);
  address.length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size() + 1);
  return address;
}

void remove_stale(const Address& address, const std::string& path) {
  struct stat status;
  if (fstatat(address.directory.get(), address.name.c_str(), &status, AT_SYMLINK_NOFOLLOW) < 0) {
    if (errno == ENOENT) return;
    throw_errno("stat", path);
  }
  if (!S_ISSOCK(status.st_mode)) throw SystemError(EEXIST, "bind", path, "something that is no socket is there");
  if (unlinkat(address.directory.get(), address.name.c_str(), 0) < 0 && errno != ENOENT) throw_errno("unlink", path);
}

}  // namespace

UniqueFd listen_unix(const std::string& path) {
  Address address = address_of(path);
  remove_stale(address, path);
  UniqueFd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener) throw_errno("socket", path);
  // bind gives the file the socket inode's own mode, so that it is never open to others, not even for a moment.
  if (fchmod(listener.get(), 0600) < 0) throw_errno("fchmod", path);
  if (bind(listener.get(), reinterpret_cast<sockaddr*>(&address.raw), address.length) < 0) throw_errno("bind", path);
  if (listen(listener.get(), 128) < 0) {
    int value = errno;
    unlinkat(address.directory.get(), address.name.c_str(), 0);
    throw SystemError(value, "listen", path);
  }
  return listener;
}

namespace {

UniqueFd connect_to(const std::string& path, int type) {
  Address address = address_of(path);
  UniqueFd connection(socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!connection) throw_errno("socket", path);
  if (connect(connection.get(), reinterpret_cast<sockaddr*>(&address.raw), address.length) < 0) {
    throw_errno("connect", path);
  }
  return connection;
}

}  // namespace

UniqueFd connect_unix(const std::string& path) { return connect_to(path, SOCK_STREAM); }

UniqueFd connect_unix_datagram(const std::string& path) { return connect_to(path, SOCK_DGRAM); }

}  // namespace berth
