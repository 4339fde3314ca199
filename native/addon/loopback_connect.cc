// Connections to the loopback of a pod: the socket is made by a thread that is in the pod's network namespace, and belongs
// to that from then on, whoever uses it.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>

#include <cerrno>
#include <string>

#include "addon/arguments.h"
#include "addon/file_access.h"
#include "addon/functions.h"
#include "addon/own_thread.h"
#include "common/unique_fd.h"

namespace berth {
namespace {

// On loopback a connection is there, or refused, at once, unless who listens accepts none.
constexpr int connect_timeout_ms = 10'000;

// 0, or errno.
int wait_connected(int fd) {
  pollfd state = {fd, POLLOUT, 0};
  int ready;
  do {
    ready = poll(&state, 1, connect_timeout_ms);
  } while (ready < 0 && errno == EINTR);
  if (ready < 0) return errno;
  if (ready == 0) return ETIMEDOUT;
  int error = 0;
  socklen_t length = sizeof error;
  if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0) return errno;
  return error;
}

// 0, or errno.
int connect_to(const sockaddr* address, socklen_t length, UniqueFd& connection) {
  connection.reset(socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!connection) return errno;
  int on = 1;
  setsockopt(connection.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (connect(connection.get(), address, length) == 0) return 0;
  if (errno != EINPROGRESS) return errno;
  return wait_connected(connection.get());
}

UniqueFd connect_loopback_here(uint16_t port) {
  sockaddr_in v4 = {};
  v4.sin_family = AF_INET;
  v4.sin_port = htons(port);
  v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  UniqueFd connection;
  int v4_error = connect_to(reinterpret_cast<sockaddr*>(&v4), sizeof v4, connection);
  if (v4_error == 0) return connection;
  sockaddr_in6 v6 = {};
  v6.sin6_family = AF_INET6;
  v6.sin6_port = htons(port);
  v6.sin6_addr = in6addr_loopback;
  if (connect_to(reinterpret_cast<sockaddr*>(&v6), sizeof v6, connection) == 0) return connection;
  throw SystemError(v4_error, "connect", "127.0.0.1:" + std::to_string(port));
}

Napi::Value connect_loopback(const Napi::CallbackInfo& info) {
  Napi::Object options = object_argument(info, 0, "options");
  std::string path = text_field(options, "namespacePath");
  auto port = static_cast<uint16_t>(int_field(options, "port"));
  return on_own_thread(info.Env(), [path, port]() -> Settle {
    if (!path.empty()) {
      UniqueFd name_space = open_file(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
      if (setns(name_space.get(), CLONE_NEWNET) < 0) throw_errno("setns", path);
    }
    UniqueFd connection = connect_loopback_here(port);
    // Should nobody take it any more, it is closed with the function.
    auto shared = std::make_shared<UniqueFd>(std::move(connection));
    return [shared](Napi::Env env) { return Napi::Number::New(env, shared->release()); };
  });
}

}  // namespace

void register_loopback_connect(Napi::Object exports) { export_function<connect_loopback>(exports, "connectLoopback"); }

}  // namespace berth
