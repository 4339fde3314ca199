// rtnetlink: messages are built in one buffer, sent together, and answered one by one.
#pragma once

#include <linux/netlink.h>
#include <linux/rtnetlink.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/unique_fd.h"

namespace berth {

// One or more requests. `what` says in words what a request does: it is the subject of its error.
class NetlinkRequests {
 public:
  template <typename Header>
  void begin(uint16_t type, uint16_t flags, const Header& header, std::string what) {
    begin_raw(type, flags, &header, sizeof header, std::move(what));
  }
  void attribute(uint16_t type, const void* data, size_t size);
  void attribute(uint16_t type, uint32_t value) { attribute(type, &value, sizeof value); }
  void attribute(uint16_t type, std::string_view text);  // with its NUL
  // Attributes until the matching end() are inside of it. A nested header (veth's peer) comes first.
  void nest(uint16_t type, const void* header = nullptr, size_t size = 0);
  void end();

 private:
  friend class NetlinkSocket;
  void begin_raw(uint16_t type, uint16_t flags, const void* header, size_t size, std::string what);
  void append(const void* data, size_t size);

  std::vector<uint8_t> bytes_;
  std::vector<size_t> starts_;  // of the messages in bytes_
  std::vector<std::string> whats_;
  std::vector<size_t> open_nests_;
};

// The attributes of one answer.
class NetlinkAttributes {
 public:
  NetlinkAttributes(const void* data, size_t size);
  // null: not there, or shorter than `size`
  const void* find(uint16_t type, size_t size) const;
  std::string text(uint16_t type) const;
  NetlinkAttributes nested(uint16_t type) const;
  std::string_view bytes(uint16_t type) const;

 private:
  const uint8_t* data_;
  size_t size_;
};

// `up`: sets the link up; otherwise its flags stay as they are.
ifinfomsg link_header(int index, bool up);

// 0: there is none of this name. glibc's if_nametoindex says so as well when the process has no descriptor for its socket.
int find_index(const std::string& name);

// ENODEV when there is none. In the thread's network namespace.
int index_of(const std::string& name);

// For good: the thread is given up afterwards (own_thread.h), so that nothing has to be put back.
void enter_network_namespace(int fd);

// In the network namespace of the thread that makes it.
class NetlinkSocket {
 public:
  explicit NetlinkSocket(int protocol = NETLINK_ROUTE);

  // Sends all requests at once; the kernel does them in order and goes on after one that fails. Throws the first failure
  // when all are answered. `ignored`: errnos that count as success.
  void run(NetlinkRequests* requests, std::initializer_list<int> ignored = {});
  void dump(NetlinkRequests* request, const std::function<void(const nlmsghdr*)>& each);
  // Of nfnetlink: all or nothing. Throws the first failure.
  void run_batch(NetlinkRequests* requests);
  // By which the kernel knows it; of one that has sent nothing yet, too.
  uint32_t port();
  // One answer to one request.
  void get(NetlinkRequests* request, const std::function<void(const nlmsghdr*)>& answer);

 private:
  void send(NetlinkRequests* requests, uint16_t flags);
  // Calls for each message of one datagram. False: with MSG_DONTWAIT there was none.
  bool receive(const std::function<void(const nlmsghdr*)>& each, int flags = 0);
  [[noreturn]] void throw_error(const nlmsghdr* message, int errno_value, const std::string& what);

  UniqueFd socket_;
  uint32_t sequence_ = 0;
  uint32_t first_sequence_ = 0;
  // Not filled with zeros before: a socket lives for one question, often.
  std::unique_ptr<uint8_t[]> buffer_;
};

}  // namespace berth
