// What others do to the pods' network: a bridge, a port of it or an address that goes, a table of nftables that is flushed. The
// kernel tells of all by netlink's multicast groups, so that nothing has to be looked at time and again.
#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <net/if.h>
#include <sys/socket.h>

#include <cerrno>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "addon/arguments.h"
#include "addon/event_loop.h"
#include "addon/functions.h"
#include "addon/netlink_socket.h"
#include "addon/nftables.h"
#include "common/unique_fd.h"

namespace berth {
namespace {

constexpr size_t receive_size = 64 << 10;
// Changes are told in bursts: a thousand pods that end at once, a proxy that writes its rules anew.
constexpr int receive_buffer = 4 << 20;

struct Change {
  const char* kind;
  std::string name;
  bool operator<(const Change& other) const { return std::pair(kind, name) < std::pair(other.kind, other.name); }
};

// Of links only those that go or leave their bridge, and those that are down: the kernel tells some ten changes of every pod that
// comes, and each would wake the event loop.
void hear_of_ends_only(int fd) {
  constexpr uint32_t family_at = sizeof(nlmsghdr) + offsetof(ifinfomsg, ifi_family);
  constexpr uint32_t flags_at = sizeof(nlmsghdr) + offsetof(ifinfomsg, ifi_flags);
  // a load swaps the bytes of what stands there in the machine's order
  sock_filter instructions[] = {
      BPF_STMT(BPF_LD | BPF_H | BPF_ABS, offsetof(nlmsghdr, nlmsg_type)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htons(RTM_DELLINK), 5, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htons(RTM_NEWLINK), 0, 5),
      BPF_STMT(BPF_LD | BPF_B | BPF_ABS, family_at),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_BRIDGE, 3, 0),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, flags_at),
      BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, htonl(IFF_UP), 1, 0),
      BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
      BPF_STMT(BPF_RET | BPF_K, 0),
  };
  const sock_fprog filter = {sizeof instructions / sizeof instructions[0], instructions};
  if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter) < 0) {
    throw_errno("setsockopt", "netlink, SO_ATTACH_FILTER");
  }
}

UniqueFd open_socket(int protocol) {
  UniqueFd fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol));
  if (!fd) throw_errno("socket", "netlink");
  // beyond net.core.rmem_max needs CAP_NET_ADMIN; without it, changes may be missed, which is told as "missed"
  if (setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUFFORCE, &receive_buffer, sizeof receive_buffer) < 0 && errno != EPERM) {
    throw_errno("setsockopt", "netlink, SO_RCVBUFFORCE");
  }
  sockaddr_nl own = {};
  own.nl_family = AF_NETLINK;
  if (bind(fd.get(), reinterpret_cast<sockaddr*>(&own), sizeof own) < 0) throw_errno("bind", "netlink");
  return fd;
}

void listen_to(int fd, int group) {
  if (setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group) < 0) {
    throw_errno("setsockopt", "netlink group " + std::to_string(group));
  }
}

class NetworkWatch : public std::enable_shared_from_this<NetworkWatch> {
 public:
  NetworkWatch(Napi::Env env, std::string bridge, std::string table, Napi::Function on_change)
      : env_(env), bridge_(std::move(bridge)), table_(std::move(table)), on_change_(Napi::Persistent(on_change)) {}

  void start() {
    links_ = open_socket(NETLINK_ROUTE);
    hear_of_ends_only(links_.get());
    listen_to(links_.get(), RTNLGRP_LINK);
    addresses_ = open_socket(NETLINK_ROUTE);
    listen_to(addresses_.get(), RTNLGRP_IPV4_IFADDR);
    listen_to(addresses_.get(), RTNLGRP_IPV6_IFADDR);
    tables_ = open_socket(NETLINK_NETFILTER);
    listen_to(tables_.get(), NFNLGRP_NFTABLES);
    auto self = shared_from_this();
    for (int fd : {links_.get(), addresses_.get(), tables_.get()}) {
      polls_.push_back(LoopPoll::open(env_, fd, [self, fd](int) { self->ready(fd); }));
      polls_.back()->let_go();
      polls_.back()->listen(loop_readable);
    }
  }

  void close() {
    for (const auto& poll : polls_) poll->close();
    polls_.clear();
    links_.reset();
    addresses_.reset();
    tables_.reset();
    on_change_.Reset();
  }

 private:
  void ready(int fd) {
    auto self = shared_from_this();
    std::set<Change> changes;
    // A bound, so that a program that never stops changing its rules does not keep the loop.
    for (int i = 0; i < 64 && receive(fd, &changes); i++) {
    }
    Napi::HandleScope handles(env_);
    for (const Change& change : changes) {
      if (polls_.empty()) return;  // closed by a callback
      Napi::Object object = Napi::Object::New(env_);
      object.Set("kind", change.kind);
      object.Set("name", change.name);
      call_from_loop(env_, on_change_, {object});
    }
  }

  // False: there is nothing more now.
  bool receive(int fd, std::set<Change>* changes) {
    ssize_t got = recv(fd, buffer_.data(), buffer_.size(), 0);
    if (got < 0) {
      if (errno != ENOBUFS) return errno == EINTR;
      changes->insert({"missed", ""});
      return true;
    }
    int left = static_cast<int>(got);
    for (auto* message = reinterpret_cast<nlmsghdr*>(buffer_.data()); NLMSG_OK(message, left);
         message = NLMSG_NEXT(message, left)) {
      if (fd == links_.get()) {
        read_link(message, changes);
      } else if (fd == addresses_.get()) {
        read_address(message, changes);
      } else {
        read_table(message, changes);
      }
    }
    return true;
  }

  void read_link(const nlmsghdr* message, std::set<Change>* changes) const {
    if (message->nlmsg_type != RTM_DELLINK && message->nlmsg_type != RTM_NEWLINK) return;
    if (message->nlmsg_len < NLMSG_LENGTH(sizeof(ifinfomsg))) return;
    const auto* header = static_cast<const ifinfomsg*>(NLMSG_DATA(message));
    std::string name = NetlinkAttributes(IFLA_RTA(header), IFLA_PAYLOAD(message)).text(IFLA_IFNAME);
    if (message->nlmsg_type == RTM_DELLINK) {
      // a bridge tells so of a port that leaves it
      changes->insert({header->ifi_family == AF_BRIDGE ? "port-gone" : "link-gone", std::move(name)});
    } else if ((header->ifi_flags & IFF_UP) == 0 && (header->ifi_change & IFF_UP) != 0 &&
               header->ifi_change != UINT32_MAX) {
      // of one that is only made, and not up yet, all flags are told as changed, or none
      changes->insert({"link-down", std::move(name)});
    }
  }

  void read_address(const nlmsghdr* message, std::set<Change>* changes) const {
    if (message->nlmsg_type != RTM_DELADDR || message->nlmsg_len < NLMSG_LENGTH(sizeof(ifaddrmsg))) return;
    const auto* header = static_cast<const ifaddrmsg*>(NLMSG_DATA(message));
    char name[IF_NAMESIZE] = {};
    // that of a bridge which has gone is told as one
    if (if_indextoname(header->ifa_index, name) == nullptr || name != bridge_) return;
    NetlinkAttributes attributes(IFA_RTA(header), IFA_PAYLOAD(message));
    const size_t size = header->ifa_family == AF_INET ? 4 : 16;
    const void* address = attributes.find(IFA_LOCAL, size);
    if (address == nullptr) address = attributes.find(IFA_ADDRESS, size);
    char text[INET6_ADDRSTRLEN] = {};
    if (address == nullptr || inet_ntop(header->ifa_family, address, text, sizeof text) == nullptr) return;
    changes->insert({"address-gone", std::string(text) + "/" + std::to_string(header->ifa_prefixlen)});
  }

  void read_table(const nlmsghdr* message, std::set<Change>* changes) const {
    if (NFNL_SUBSYS_ID(message->nlmsg_type) != NFNL_SUBSYS_NFTABLES) return;
    switch (NFNL_MSG_TYPE(message->nlmsg_type)) {
      case NFT_MSG_DELTABLE:
      case NFT_MSG_DELCHAIN:
      case NFT_MSG_DELRULE:
      case NFT_MSG_DELSET:
      case NFT_MSG_DELSETELEM:
        break;
      default:
        return;
    }
    // it has the number of the socket that asked for the change
    if (is_own_nftables_port(message->nlmsg_pid)) return;
    if (message->nlmsg_len < NLMSG_LENGTH(sizeof(nfgenmsg))) return;
    const auto* header = static_cast<const uint8_t*>(NLMSG_DATA(message));
    size_t skipped = NLMSG_ALIGN(sizeof(nfgenmsg));
    // the table's name is the first attribute of all five
    static_assert(NFTA_TABLE_NAME == 1 && NFTA_CHAIN_TABLE == 1 && NFTA_RULE_TABLE == 1 && NFTA_SET_TABLE == 1 &&
                  NFTA_SET_ELEM_LIST_TABLE == 1);
    NetlinkAttributes attributes(header + skipped, message->nlmsg_len - NLMSG_HDRLEN - skipped);
    if (attributes.text(NFTA_TABLE_NAME) == table_) changes->insert({"table-changed", table_});
  }

  Napi::Env env_;
  std::string bridge_;
  std::string table_;
  Napi::FunctionReference on_change_;
  UniqueFd links_;
  UniqueFd addresses_;
  UniqueFd tables_;
  std::vector<std::shared_ptr<LoopPoll>> polls_;
  std::vector<uint8_t> buffer_ = std::vector<uint8_t>(receive_size);
};

Napi::Value watch_network(const Napi::CallbackInfo& info) {
  Napi::Object options = object_argument(info, 0, "options");
  Napi::Function on_change = function_argument(info, 1, "onChange");
  auto watch = std::make_shared<NetworkWatch>(info.Env(), text_field(options, "bridge"), text_field(options, "table"),
                                              on_change);
  watch->start();
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("close", Napi::Function::New(info.Env(), [watch](const Napi::CallbackInfo&) { watch->close(); }, "close"));
  return result;
}

}  // namespace

void register_network_watch(Napi::Object exports) { export_function<watch_network>(exports, "watchNetwork"); }

}  // namespace berth
