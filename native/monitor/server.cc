#include "monitor/server.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <iterator>
#include <utility>

#include "monitor/monitor_log.h"

namespace berth {

namespace {
// Above it no more exec output is read for the connection; what is then still to come (replies, events, what lies in the
// pipes of execs that end) is small.
constexpr size_t kPauseOutputAt = 256 << 10;
// A peer that lets so much pile up does not read any more.
constexpr size_t kDropConnectionAt = 8 << 20;
constexpr size_t kMaxConnections = 64;
// Frames that are handled in a row before other sources get their turn.
constexpr int kFramesPerTurn = 16;
// Of one call. Each is an open mount.
constexpr size_t kMostDescriptors = 4096;
constexpr int kFlushMs = 1000;
}  // namespace

int32_t own_host_pid() {
  char text[32];
  const ssize_t length = readlink("/proc/self", text, sizeof text - 1);
  if (length <= 0) return 0;
  text[length] = '\0';
  return static_cast<int32_t>(strtol(text, nullptr, 10));
}

class Server::Connection final : public EventSource, public Disposable {
 public:
  Connection(Server& server, UniqueFd socket, uint64_t number)
      : server_(server), socket_(std::move(socket)), number_(number) {}

  void on_ready(uint32_t events) override;
  void write();

  int fd() const { return socket_.get(); }
  uint64_t number() const { return number_; }

  bool greeted = false;
  bool dropped = false;
  FrameSender sender;

 private:
  void watch(bool for_output);

  Server& server_;
  UniqueFd socket_;
  FrameReceiver receiver_;
  const uint64_t number_;
  std::vector<UniqueFd> early_descriptors_;  // of the next call
  bool output_watched_ = false;
  bool was_full_ = false;
};

void Server::Connection::watch(bool for_output) {
  if (for_output == output_watched_) return;
  output_watched_ = for_output;
  server_.loop_.change(fd(), for_output ? EPOLLIN | EPOLLOUT : EPOLLIN, *this);
}

void Server::Connection::write() {
  if (dropped) return;
  if (!sender.flush(fd())) return server_.drop(*this, "its peer is gone");
  if (sender.queued() > kDropConnectionAt) return server_.drop(*this, "its peer does not read");
  if (sender.queued() > kPauseOutputAt) was_full_ = true;
  watch(sender.queued() > 0);
  if (was_full_ && sender.queued() <= kPauseOutputAt) {
    was_full_ = false;
    server_.handler_.on_writable(number_);
  }
}

void Server::Connection::on_ready(uint32_t events) {
  if ((events & EPOLLOUT) != 0) write();
  if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) == 0) return;
  for (int turn = 0; turn < kFramesPerTurn && !dropped; ++turn) {
    Frame frame;
    switch (receiver_.receive(fd(), frame)) {
      case FrameReceiver::Result::kWouldBlock:
        return;
      case FrameReceiver::Result::kClosed:
        return server_.drop(*this, {});
      case FrameReceiver::Result::kFailed:
        return server_.drop(*this, last_error("receive").describe());
      case FrameReceiver::Result::kFrame:
        break;
    }
    ToMonitor call;
    if (!decode(frame.body, call) || call.id == 0) return server_.drop(*this, "it sent a malformed message");
    if (!greeted || call.call == Call::kHello) {
      server_.on_hello(*this, call);
      continue;
    }
    std::vector<UniqueFd> descriptors = std::exchange(early_descriptors_, {});
    std::move(frame.descriptors.begin(), frame.descriptors.end(), std::back_inserter(descriptors));
    if (call.call != Call::kSendDescriptors) {
      server_.handler_.on_call(Caller{number_, call.id, std::string(call.request_id)}, call, std::move(descriptors));
    } else if (descriptors.size() > kMostDescriptors) {
      server_.fail(Caller{number_, call.id},
                   failure(ErrorKind::kInvalid, "take descriptors", {}, "a call can have 4096 descriptors at most"));
    } else {
      early_descriptors_ = std::move(descriptors);
      server_.send(number_, encode_done(call.id));
    }
  }
}

Server::Server(EventLoop& loop, CallHandler& handler, std::string sandbox_id)
    : loop_(loop), handler_(handler), sandbox_id_(std::move(sandbox_id)) {}

Server::~Server() = default;

bool Server::listen(UniqueFd socket) {
  listener_ = std::move(socket);
  return loop_.add(listener_.get(), EPOLLIN, on_connect_);
}

void Server::on_connect(uint32_t) {
  UniqueFd socket(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!socket) return;
  ucred peer = {};
  socklen_t length = sizeof peer;
  if (getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0 || peer.uid != 0) {
    monitor_log("refused a connection: its peer is not root");
    return;
  }
  if (connections_.size() >= kMaxConnections) {
    monitor_log("refused a connection: there are too many");
    return;
  }
  auto connection = std::make_unique<Connection>(*this, std::move(socket), ++last_number_);
  if (!loop_.add(connection->fd(), EPOLLIN, *connection)) return;
  connections_.push_back(std::move(connection));
}

void Server::on_hello(Connection& connection, const ToMonitor& call) {
  Hello hello;
  if (call.call != Call::kHello || !decode(call.body, hello)) return drop(connection, "it did not begin with Hello");
  if (hello.oldest_version > kProtocolVersion || hello.newest_version < kProtocolVersion) {
    return fail(Caller{connection.number(), call.id},
                failure(ErrorKind::kUnsupportedVersion, "hello", {}, "this monitor speaks version 1 of the protocol"));
  }
  connection.greeted = true;
  send(connection.number(), encode_hello_reply(call.id, HelloReply{kProtocolVersion, sandbox_id_, own_host_pid()}));
}

Server::Connection* Server::find(uint64_t number) const {
  for (const auto& connection : connections_) {
    if (connection->number() == number) return connection.get();
  }
  return nullptr;
}

void Server::send(uint64_t number, std::string_view body, std::vector<UniqueFd> descriptors) {
  Connection* connection = find(number);
  if (connection == nullptr) return;
  connection->sender.queue(body, std::move(descriptors));
  connection->write();
}

void Server::fail(const Caller& caller, const Failure& failure) {
  std::string line = failure.error.describe();
  if (!failure.message.empty()) line.append(": ").append(failure.message);
  monitor_log(caller.request_id.empty() ? "a call failed:" : "request " + caller.request_id + " failed:", line);
  send(caller.connection, encode_failure(caller.request, failure));
}

void Server::broadcast(std::string_view body, uint64_t except) {
  std::vector<uint64_t> numbers;
  for (const auto& connection : connections_) {
    if (connection->greeted && connection->number() != except) numbers.push_back(connection->number());
  }
  for (const uint64_t number : numbers) send(number, body);
}

bool Server::has_room(uint64_t number) const {
  const Connection* connection = find(number);
  return connection == nullptr || connection->sender.queued() <= kPauseOutputAt;
}

void Server::drop(Connection& connection, std::string_view reason) {
  if (connection.dropped) return;
  connection.dropped = true;
  if (!reason.empty()) monitor_log("dropped a connection:", reason);
  loop_.remove(connection.fd(), connection);
  const auto place = std::find_if(connections_.begin(), connections_.end(),
                                  [&connection](const auto& other) { return other.get() == &connection; });
  const uint64_t number = connection.number();
  loop_.dispose(std::move(*place));
  connections_.erase(place);
  handler_.on_disconnect(number);
}

void Server::flush_before_exit() {
  const uint64_t end = monotonic_ms() + kFlushMs;
  for (const auto& connection : connections_) {
    while (connection->sender.flush(connection->fd()) && connection->sender.queued() > 0) {
      const uint64_t now = monotonic_ms();
      if (now >= end) return;
      pollfd writable = {connection->fd(), POLLOUT, 0};
      poll(&writable, 1, static_cast<int>(end - now));
    }
  }
}

}  // namespace berth
