// The monitor's side of the socket: connections, the handshake, frames, bounded buffers. What a call means is the pod's
// business (pod.h).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/frame_channel.h"
#include "common/unique_fd.h"
#include "monitor/event_loop.h"
#include "monitor/messages.h"

namespace berth {

// Who is waiting for an answer. Connections are numbered and never numbered again: an answer to one that has gone is
// dropped.
struct Caller {
  uint64_t connection = 0;
  uint64_t request = 0;
  std::string request_id = {};  // of the CRI call that it is for; empty: none
};

class CallHandler {
 public:
  virtual ~CallHandler() = default;
  virtual void on_call(const Caller& caller, const ToMonitor& call, std::vector<UniqueFd> descriptors) = 0;
  virtual void on_disconnect(uint64_t connection) = 0;
  // The connection can take more exec output again.
  virtual void on_writable(uint64_t connection) = 0;
};

class Server {
 public:
  Server(EventLoop& loop, CallHandler& handler, std::string sandbox_id);
  ~Server();

  // Takes the listening socket over.
  bool listen(UniqueFd socket);
  void send(uint64_t connection, std::string_view body, std::vector<UniqueFd> descriptors = {});
  // Tells the log, too.
  void fail(const Caller& caller, const Failure& failure);
  // To every connection but one; 0: to all.
  void broadcast(std::string_view body, uint64_t except = 0);
  // False while so much waits for the peer that no more output should be read for it.
  bool has_room(uint64_t connection) const;
  // Waits until everything is written, for as long as a second in all.
  void flush_before_exit();

 private:
  class Connection;
  friend class Connection;

  void on_connect(uint32_t events);
  void on_hello(Connection& connection, const ToMonitor& call);
  void drop(Connection& connection, std::string_view reason);
  Connection* find(uint64_t number) const;

  EventLoop& loop_;
  CallHandler& handler_;
  std::string sandbox_id_;
  UniqueFd listener_;
  Notifier<Server, &Server::on_connect> on_connect_{*this};
  std::vector<std::unique_ptr<Connection>> connections_;
  uint64_t last_number_ = 0;
};

// The process's number in the PID namespace of the mounted /proc, which is the host's; 0 when it cannot be told.
int32_t own_host_pid();

}  // namespace berth
