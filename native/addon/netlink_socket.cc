#include "addon/netlink_socket.h"

#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>

#include "addon/system_error.h"

namespace berth {
namespace {

constexpr size_t receive_size = 64 << 10;

// What the kernel says about a failure beside its number.
std::string extended_ack(const nlmsghdr* message) {
  const auto* error = static_cast<const nlmsgerr*>(NLMSG_DATA(message));
  size_t skipped = sizeof *error;
  if (!(message->nlmsg_flags & NLM_F_ACK_TLVS)) return "";
  if (!(message->nlmsg_flags & NLM_F_CAPPED)) skipped += error->msg.nlmsg_len - sizeof error->msg;
  size_t payload = message->nlmsg_len - NLMSG_HDRLEN;
  if (payload <= NLMSG_ALIGN(skipped)) return "";
  skipped = NLMSG_ALIGN(skipped);
  NetlinkAttributes attributes(static_cast<const uint8_t*>(NLMSG_DATA(message)) + skipped, payload - skipped);
  return attributes.text(NLMSGERR_ATTR_MSG);
}

}  // namespace

void NetlinkRequests::append(const void* data, size_t size) {
  const auto* from = static_cast<const uint8_t*>(data);
  bytes_.insert(bytes_.end(), from, from + size);
  bytes_.resize(NLMSG_ALIGN(bytes_.size()));
  auto* message = reinterpret_cast<nlmsghdr*>(bytes_.data() + starts_.back());
  message->nlmsg_len = static_cast<uint32_t>(bytes_.size() - starts_.back());
}

void NetlinkRequests::begin_raw(uint16_t type, uint16_t flags, const void* header, size_t size, std::string what) {
  starts_.push_back(bytes_.size());
  whats_.push_back(std::move(what));
  nlmsghdr message = {};
  message.nlmsg_type = type;
  message.nlmsg_flags = NLM_F_REQUEST | flags;
  append(&message, sizeof message);
  append(header, size);
}

void NetlinkRequests::attribute(uint16_t type, const void* data, size_t size) {
  rtattr attribute = {};
  attribute.rta_type = type;
  attribute.rta_len = static_cast<uint16_t>(RTA_LENGTH(size));
  append(&attribute, sizeof attribute);
  append(data, size);
}

void NetlinkRequests::attribute(uint16_t type, std::string_view text) {
  std::string with_end(text);
  attribute(type, with_end.c_str(), with_end.size() + 1);
}

void NetlinkRequests::nest(uint16_t type, const void* header, size_t size) {
  open_nests_.push_back(bytes_.size());
  attribute(type, header, size);
}

void NetlinkRequests::end() {
  auto* attribute = reinterpret_cast<rtattr*>(bytes_.data() + open_nests_.back());
  attribute->rta_len = static_cast<uint16_t>(bytes_.size() - open_nests_.back());
  open_nests_.pop_back();
}

NetlinkAttributes::NetlinkAttributes(const void* data, size_t size)
    : data_(static_cast<const uint8_t*>(data)), size_(size) {}

std::string_view NetlinkAttributes::bytes(uint16_t type) const {
  size_t left = size_;
  const uint8_t* at = data_;
  while (left >= sizeof(rtattr)) {
    rtattr attribute;
    memcpy(&attribute, at, sizeof attribute);
    if (attribute.rta_len < sizeof attribute || attribute.rta_len > left) break;
    if ((attribute.rta_type & NLA_TYPE_MASK) == type) {
      return {reinterpret_cast<const char*>(at) + RTA_LENGTH(0), attribute.rta_len - RTA_LENGTH(0)};
    }
    size_t step = std::min<size_t>(RTA_ALIGN(attribute.rta_len), left);
    at += step;
    left -= step;
  }
  return {};
}

const void* NetlinkAttributes::find(uint16_t type, size_t size) const {
  std::string_view found = bytes(type);
  return found.size() >= size && found.data() != nullptr ? found.data() : nullptr;
}

std::string NetlinkAttributes::text(uint16_t type) const {
  std::string_view found = bytes(type);
  return std::string(found.substr(0, found.find('\0')));
}

NetlinkAttributes NetlinkAttributes::nested(uint16_t type) const {
  std::string_view found = bytes(type);
  return NetlinkAttributes(found.data(), found.size());
}

ifinfomsg link_header(int index, bool up) {
  ifinfomsg header = {};
  header.ifi_index = index;
  if (up) header.ifi_flags = header.ifi_change = IFF_UP;
  return header;
}

int find_index(const std::string& name) {
  ifreq request = {};
  if (name.size() >= sizeof request.ifr_name) return 0;
  memcpy(request.ifr_name, name.c_str(), name.size());
  UniqueFd any(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!any) throw_errno("socket", name);
  if (ioctl(any.get(), SIOCGIFINDEX, &request) == 0) return request.ifr_ifindex;
  if (errno != ENODEV) throw_errno("ioctl SIOCGIFINDEX", name);
  return 0;
}

int index_of(const std::string& name) {
  int index = find_index(name);
  if (index == 0) throw SystemError(ENODEV, "ioctl SIOCGIFINDEX", name);
  return index;
}

void enter_network_namespace(int fd) {
  if (setns(fd, CLONE_NEWNET) < 0) throw_errno("setns", "network namespace, descriptor " + std::to_string(fd));
}

NetlinkSocket::NetlinkSocket(int protocol)
    : socket_(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol)), buffer_(new uint8_t[receive_size]) {
  if (!socket_) throw_errno("socket", "netlink");
  int on = 1;
  for (int option : {NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK, NETLINK_CAP_ACK}) {
    if (setsockopt(socket_.get(), SOL_NETLINK, option, &on, sizeof on) < 0) throw_errno("setsockopt", "rtnetlink");
  }
}

void NetlinkSocket::send(NetlinkRequests* requests, uint16_t flags) {
  first_sequence_ = sequence_ + 1;
  for (size_t start : requests->starts_) {
    auto* message = reinterpret_cast<nlmsghdr*>(requests->bytes_.data() + start);
    message->nlmsg_flags |= flags;
    message->nlmsg_seq = ++sequence_;
  }
  sockaddr_nl kernel = {};
  kernel.nl_family = AF_NETLINK;
  if (sendto(socket_.get(), requests->bytes_.data(), requests->bytes_.size(), 0, reinterpret_cast<sockaddr*>(&kernel),
             sizeof kernel) < 0) {
    throw_errno("send to rtnetlink", requests->whats_.front());
  }
}

bool NetlinkSocket::receive(const std::function<void(const nlmsghdr*)>& each, int flags) {
  ssize_t got = recv(socket_.get(), buffer_.get(), receive_size, MSG_TRUNC | flags);
  if (got < 0 && errno == EAGAIN) return false;
  if (got < 0) throw_errno("recv", "rtnetlink");
  if (static_cast<size_t>(got) > receive_size) throw SystemError(EMSGSIZE, "recv", "rtnetlink");
  int left = static_cast<int>(got);
  for (auto* message = reinterpret_cast<nlmsghdr*>(buffer_.get()); NLMSG_OK(message, left);
       message = NLMSG_NEXT(message, left)) {
    each(message);
  }
  return true;
}

void NetlinkSocket::throw_error(const nlmsghdr* message, int errno_value, const std::string& what) {
  throw SystemError(errno_value, "rtnetlink", what, extended_ack(message));
}

void NetlinkSocket::run(NetlinkRequests* requests, std::initializer_list<int> ignored) {
  if (requests->starts_.empty()) return;
  send(requests, NLM_F_ACK);
  size_t waiting = requests->starts_.size();
  std::optional<SystemError> failure;
  while (waiting > 0) {
    receive([&](const nlmsghdr* message) {
      if (message->nlmsg_type != NLMSG_ERROR || message->nlmsg_seq < first_sequence_) return;
      waiting--;
      int value = -static_cast<const nlmsgerr*>(NLMSG_DATA(message))->error;
      if (value == 0 || failure || std::find(ignored.begin(), ignored.end(), value) != ignored.end()) return;
      const std::string& what = requests->whats_[message->nlmsg_seq - first_sequence_];
      failure = SystemError(value, "rtnetlink", what, extended_ack(message));
    });
  }
  if (failure) throw *failure;
}

void NetlinkSocket::run_batch(NetlinkRequests* requests) {
  send(requests, 0);
  // The kernel has done it by now, and has answered only to what has failed.
  std::optional<SystemError> failure;
  auto look = [&](const nlmsghdr* message) {
    if (message->nlmsg_type != NLMSG_ERROR || message->nlmsg_seq < first_sequence_) return;
    int value = -static_cast<const nlmsgerr*>(NLMSG_DATA(message))->error;
    if (value == 0 || failure) return;
    const std::string& what = requests->whats_[message->nlmsg_seq - first_sequence_];
    failure = SystemError(value, "nftables", what, extended_ack(message));
  };
  while (receive(look, MSG_DONTWAIT)) continue;
  if (failure) throw *failure;
}

uint32_t NetlinkSocket::port() {
  sockaddr_nl own = {};
  own.nl_family = AF_NETLINK;
  socklen_t size = sizeof own;
  if (getsockname(socket_.get(), reinterpret_cast<sockaddr*>(&own), &size) < 0) throw_errno("getsockname", "netlink");
  if (own.nl_pid != 0) return own.nl_pid;
  if (bind(socket_.get(), reinterpret_cast<sockaddr*>(&own), sizeof own) < 0) throw_errno("bind", "netlink");
  size = sizeof own;
  if (getsockname(socket_.get(), reinterpret_cast<sockaddr*>(&own), &size) < 0) throw_errno("getsockname", "netlink");
  return own.nl_pid;
}

void NetlinkSocket::dump(NetlinkRequests* request, const std::function<void(const nlmsghdr*)>& each) {
  send(request, NLM_F_DUMP);
  for (bool done = false; !done;) {
    receive([&](const nlmsghdr* message) {
      if (message->nlmsg_seq != first_sequence_ || done) return;
      if (message->nlmsg_type == NLMSG_DONE) {
        done = true;
      } else if (message->nlmsg_type == NLMSG_ERROR) {
        throw_error(message, -static_cast<const nlmsgerr*>(NLMSG_DATA(message))->error, request->whats_.front());
      } else {
        each(message);
      }
    });
  }
}

void NetlinkSocket::get(NetlinkRequests* request, const std::function<void(const nlmsghdr*)>& answer) {
  send(request, 0);
  for (bool done = false; !done;) {
    receive([&](const nlmsghdr* message) {
      if (message->nlmsg_seq != first_sequence_ || done) return;
      done = true;
      if (message->nlmsg_type == NLMSG_ERROR) {
        throw_error(message, -static_cast<const nlmsgerr*>(NLMSG_DATA(message))->error, request->whats_.front());
      }
      answer(message);
    });
  }
}

}  // namespace berth
