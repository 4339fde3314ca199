// What systemd hands to a service, and is told by it: sd_listen_fds(3) and sd_notify(3) without libsystemd.
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <string>

#include "addon/arguments.h"
#include "addon/functions.h"
#include "addon/own_thread.h"
#include "addon/system_error.h"
#include "common/unique_fd.h"

namespace berth {
namespace {

void send_to_manager(const std::string& address, const std::string& text) {
  sockaddr_un raw = {};
  raw.sun_family = AF_UNIX;
  if (address.size() < 2 || address.size() >= sizeof raw.sun_path) throw SystemError(EINVAL, "socket address", address);
  memcpy(raw.sun_path, address.data(), address.size());
  // the environment writes an abstract name's NUL as @; such a name has no NUL at its end
  bool is_abstract = address[0] == '@';
  if (is_abstract) raw.sun_path[0] = 0;
  auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + address.size() + (is_abstract ? 0 : 1));
  UniqueFd sender(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!sender) throw_errno("socket", address);
  ssize_t sent;
  do {
    sent = sendto(sender.get(), text.data(), text.size(), MSG_NOSIGNAL, reinterpret_cast<sockaddr*>(&raw), length);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0) throw_errno("sendto", address);
}

// A manager whose queue is full makes its caller wait.
Napi::Value notify_service_manager(const Napi::CallbackInfo& info) {
  std::string address = string_argument(info, 0, "address");
  std::string text = string_argument(info, 1, "text");
  return on_own_thread(info.Env(), [address, text]() -> Settle {
    send_to_manager(address, text);
    return settle_nothing();
  });
}

Napi::Value take_listener(const Napi::CallbackInfo& info) {
  int fd = int_argument(info, 0, "fd");
  std::string subject = "descriptor " + std::to_string(fd);
  // it came without: programs that the agent starts must not have it
  if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) throw_errno("fcntl", subject);
  int listens = 0;
  socklen_t size = sizeof listens;
  if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) < 0) throw_errno("getsockopt", subject);
  sockaddr_un raw = {};
  socklen_t length = sizeof raw;
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&raw), &length) < 0) throw_errno("getsockname", subject);
  int type = 0;
  size = sizeof type;
  if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0) throw_errno("getsockopt", subject);
  if (listens == 0 || raw.sun_family != AF_UNIX || type != SOCK_STREAM || raw.sun_path[0] == 0) {
    throw SystemError(EINVAL, "socket activation", subject, "it is no listening unix stream socket with a path");
  }
  size_t bytes = length - offsetof(sockaddr_un, sun_path);
  return Napi::String::New(info.Env(), raw.sun_path, strnlen(raw.sun_path, bytes));
}

}  // namespace

void register_service_manager(Napi::Object exports) {
  export_function<notify_service_manager>(exports, "notifyServiceManager");
  export_function<take_listener>(exports, "takeListener");
}

}  // namespace berth
