// Connection tracking: UDP has no connections, but the kernel remembers a flow's translation for minutes after its last
// packet. A port that is led elsewhere, or nowhere, from now on would keep its old way for who goes on sending.
#include <arpa/inet.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <netinet/in.h>

#include <cerrno>
#include <cstdlib>
#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "addon/arguments.h"
#include "addon/functions.h"
#include "addon/netlink_socket.h"
#include "addon/own_thread.h"

namespace berth {
namespace {

nfgenmsg family_header(uint8_t family) {
  nfgenmsg header = {};
  header.nfgen_family = family;
  header.version = NFNETLINK_V0;
  return header;
}

constexpr uint16_t conntrack_message(int type) { return static_cast<uint16_t>((NFNL_SUBSYS_CTNETLINK << 8) | type); }

// Of the tuple, the kernel compares these (nf_internals.h; libnetfilter_conntrack knows them the same way).
constexpr uint32_t compare_protocol = 1U << 3;
constexpr uint32_t compare_destination_port = 1U << 5;

using Addresses = std::set<std::string, std::less<>>;

std::string_view address_of(const NetlinkAttributes& flow, int tuple, int ipv4, int ipv6) {
  NetlinkAttributes address = flow.nested(static_cast<uint16_t>(tuple)).nested(CTA_TUPLE_IP);
  std::string_view bytes = address.bytes(static_cast<uint16_t>(ipv4));
  return bytes.empty() ? address.bytes(static_cast<uint16_t>(ipv6)) : bytes;
}

// A flow to a pod of this port; or to the host itself and not led anywhere: it began before the port was. Others to the same
// port are left alone: a service's, or what leaves the node.
bool is_stale(const NetlinkAttributes& flow, const Addresses& pod, const Addresses& host) {
  std::string_view answers = address_of(flow, CTA_TUPLE_REPLY, CTA_IP_V4_SRC, CTA_IP_V6_SRC);
  if (pod.contains(answers)) return true;
  std::string_view asked = address_of(flow, CTA_TUPLE_ORIG, CTA_IP_V4_DST, CTA_IP_V6_DST);
  bool loopback = asked.size() == 4 && asked.front() == 127;
  return asked == answers && (loopback || host.contains(asked));
}

Addresses host_addresses() {
  Addresses addresses;
  NetlinkSocket socket;
  NetlinkRequests request;
  request.begin(RTM_GETADDR, 0, ifaddrmsg{}, "list addresses");
  socket.dump(&request, [&](const nlmsghdr* message) {
    const auto* header = static_cast<const ifaddrmsg*>(NLMSG_DATA(message));
    NetlinkAttributes attributes(IFA_RTA(header), IFA_PAYLOAD(message));
    std::string_view own = attributes.bytes(IFA_LOCAL);
    addresses.emplace(own.empty() ? attributes.bytes(IFA_ADDRESS) : own);
  });
  return addresses;
}

// The tuples of stale ones whose first packet went to the port (big-endian). The kernel chooses: a busy node tracks hundreds of
// thousands.
std::vector<std::string> stale_flows(NetlinkSocket* socket, uint8_t family, uint16_t port,
                                     const Addresses& pod, const Addresses& host) {
  NetlinkRequests request;
  request.begin(conntrack_message(IPCTNL_MSG_CT_GET), 0, family_header(family), "list tracked connections");
  uint8_t udp = IPPROTO_UDP;
  request.nest(CTA_TUPLE_ORIG | NLA_F_NESTED);
  request.nest(CTA_TUPLE_PROTO | NLA_F_NESTED);
  request.attribute(CTA_PROTO_NUM, &udp, sizeof udp);
  request.attribute(CTA_PROTO_DST_PORT, &port, sizeof port);
  request.end();
  request.end();
  request.nest(CTA_FILTER | NLA_F_NESTED);
  request.attribute(CTA_FILTER_ORIG_FLAGS, compare_protocol | compare_destination_port);
  request.attribute(CTA_FILTER_REPLY_FLAGS, uint32_t{0});
  request.end();
  std::vector<std::string> tuples;
  socket->dump(&request, [&](const nlmsghdr* message) {
    const auto* data = static_cast<const uint8_t*>(NLMSG_DATA(message));
    size_t skipped = NLMSG_ALIGN(sizeof(nfgenmsg));
    NetlinkAttributes flow(data + skipped, message->nlmsg_len - NLMSG_HDRLEN - skipped);
    if (is_stale(flow, pod, host)) tuples.emplace_back(flow.bytes(CTA_TUPLE_ORIG));
  });
  return tuples;
}

size_t forget_udp_flows(const std::set<uint16_t>& ports, const Addresses& pod) {
  Addresses host = host_addresses();
  NetlinkSocket socket(NETLINK_NETFILTER);
  size_t forgotten = 0;
  for (uint8_t family : {AF_INET, AF_INET6}) {
    for (uint16_t port : ports) {
      for (const std::string& tuple : stale_flows(&socket, family, port, pod, host)) {
        NetlinkRequests remove;
        remove.begin(conntrack_message(IPCTNL_MSG_CT_DELETE), 0, family_header(family), "forget a tracked connection");
        remove.attribute(CTA_TUPLE_ORIG | NLA_F_NESTED, tuple.data(), tuple.size());
        socket.run(&remove, {ENOENT});
        forgotten++;
      }
    }
  }
  return forgotten;
}

std::string address_bytes(const std::string& text) {
  char bytes[16];
  int family = text.find(':') == std::string::npos ? AF_INET : AF_INET6;
  if (inet_pton(family, text.c_str(), bytes) != 1) {
    throw SystemError(EINVAL, "network address", "addresses", "\"" + text + "\" is no IP address");
  }
  return {bytes, family == AF_INET ? size_t{4} : size_t{16}};
}

Napi::Value forget_udp_flows_call(const Napi::CallbackInfo& info) {
  Napi::Object options = object_argument(info, 0, "options");
  std::set<uint16_t> ports;
  for (const std::string& text : texts_field(options, "ports")) {
    int port = atoi(text.c_str());
    if (port < 1 || port > 65535) throw SystemError(EINVAL, "port", "ports", "\"" + text + "\" is no port");
    ports.insert(htons(static_cast<uint16_t>(port)));
  }
  Addresses addresses;
  for (const std::string& text : texts_field(options, "addresses")) addresses.insert(address_bytes(text));
  return on_own_thread(info.Env(), [ports, addresses]() -> Settle {
    return settle_number(static_cast<double>(forget_udp_flows(ports, addresses)));
  });
}

}  // namespace

void register_conntrack(Napi::Object exports) { export_function<forget_udp_flows_call>(exports, "forgetUdpFlows"); }

}  // namespace berth
