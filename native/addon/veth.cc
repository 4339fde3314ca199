// A pod's two interfaces: the one in its network namespace, and the bridge's port.
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/veth.h>
#include <net/if.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <string>
#include <vector>

#include "addon/arguments.h"
#include "addon/functions.h"
#include "addon/ipv6_settings.h"
#include "addon/links.h"
#include "addon/own_thread.h"
#include "common/unique_fd.h"

namespace berth {
namespace {

constexpr int ipv6_least_mtu = 1280;
constexpr uint8_t oper_up = 6;  // IF_OPER_UP: linux/if.h does not go with net/if.h

struct Veth {
  int name_space = -1;
  std::string bridge;
  std::string host_name;
  std::string pod_name;
  std::string pod_mac;  // empty: the kernel chooses
  int mtu = 0;
  std::vector<std::string> addresses;
  std::vector<std::string> gateways;
};

// Both ends are down, and the host's is no port yet.
void create_pair(NetlinkSocket* host, const Veth& veth) {
  NetlinkRequests requests;
  requests.begin(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, link_header(0, false), "create veth " + veth.host_name);
  requests.attribute(IFLA_IFNAME, std::string_view(veth.host_name));
  if (veth.mtu > 0) requests.attribute(IFLA_MTU, static_cast<uint32_t>(veth.mtu));
  requests.nest(IFLA_LINKINFO);
  requests.attribute(IFLA_INFO_KIND, std::string_view("veth"));
  requests.nest(IFLA_INFO_DATA);
  ifinfomsg peer = link_header(0, false);
  requests.nest(VETH_INFO_PEER, &peer, sizeof peer);
  requests.attribute(IFLA_IFNAME, std::string_view(veth.pod_name));
  if (veth.mtu > 0) requests.attribute(IFLA_MTU, static_cast<uint32_t>(veth.mtu));
  if (!veth.pod_mac.empty()) {
    Mac mac = to_mac(veth.pod_mac, "podMac");
    requests.attribute(IFLA_ADDRESS, mac.bytes, sizeof mac.bytes);
  }
  requests.attribute(IFLA_NET_NS_FD, static_cast<uint32_t>(veth.name_space));
  requests.end();
  requests.end();
  requests.end();
  host->run(&requests);
}

// Whether the kernel gives the link an address of fe80::/64 by itself.
void generate_link_local(NetlinkRequests* requests, int index, bool on, const std::string& what) {
  uint8_t mode = on ? IN6_ADDR_GEN_MODE_EUI64 : IN6_ADDR_GEN_MODE_NONE;
  requests->begin(RTM_SETLINK, 0, link_header(index, false), what);
  requests->nest(IFLA_AF_SPEC);
  requests->nest(AF_INET6);
  requests->attribute(IFLA_INET6_ADDR_GEN_MODE, &mode, sizeof mode);
  requests->end();
  requests->end();
}

// As the kernel makes it from a MAC (RFC 4291, appendix A).
IpPrefix link_local(const Mac& mac) {
  const uint8_t* m = mac.bytes;
  const uint8_t address[16] = {0xfe, 0x80, 0, 0, 0, 0, 0, 0, static_cast<uint8_t>(m[0] ^ 2), m[1], m[2], 0xff, 0xfe,
                               m[3], m[4], m[5]};
  IpPrefix prefix;
  prefix.address.family = AF_INET6;
  memcpy(prefix.address.bytes, address, sizeof address);
  prefix.length = 64;
  return prefix;
}

// As it is when the neighbour has just asked: good for use, and asked again soon, at that MAC. Who has to ask first asks all ports
// of the bridge, and with 900 of them the answer takes ten milliseconds.
void add_neighbour(NetlinkRequests* requests, int index, const IpAddress& address, const Mac& mac, uint8_t flags,
                   const std::string& what) {
  ndmsg header = {};
  header.ndm_family = address.family;
  header.ndm_ifindex = index;
  header.ndm_state = NUD_STALE;
  header.ndm_flags = flags;
  requests->begin(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, header, what);
  requests->attribute(NDA_DST, address.bytes, address.size());
  requests->attribute(NDA_LLADDR, mac.bytes, sizeof mac.bytes);
}

void add_default_route(NetlinkRequests* requests, int index, const IpAddress& gateway, const std::string& what) {
  rtmsg header = {};
  header.rtm_family = gateway.family;
  header.rtm_table = RT_TABLE_MAIN;
  header.rtm_protocol = RTPROT_BOOT;
  header.rtm_scope = RT_SCOPE_UNIVERSE;
  header.rtm_type = RTN_UNICAST;
  requests->begin(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, header, what);
  requests->attribute(RTA_GATEWAY, gateway.bytes, gateway.size());
  requests->attribute(RTA_OIF, static_cast<uint32_t>(index));
}

// The pod has its routes: what another pod says of routers is not for it, and it need not ask all others for one. And it tells
// once of a multicast group that it joins: the two repetitions, within a second, would be carried to all others, and nothing
// is lost on the way. Where the host has its namespaces begin without IPv6, pods have it that have an address of it. False: the
// kernel, or the pod, has none.
bool set_up_ipv6(const std::string& name, const std::vector<IpPrefix>& addresses) {
  UniqueFd directory = open_ipv6_settings(name);
  if (!directory) return false;
  if (is_ipv6_disabled(directory.get())) {
    bool is_wanted = std::any_of(addresses.begin(), addresses.end(),
                                 [](const IpPrefix& prefix) { return prefix.address.family == AF_INET6; });
    if (!is_wanted) return false;
    write_setting(directory.get(), "disable_ipv6", "0");
    write_setting(open_ipv6_settings("lo").get(), "disable_ipv6", "0");
  }
  write_setting(directory.get(), "accept_ra", "0");
  write_setting(directory.get(), "mldv2_unsolicited_report_interval", "86400000");
  return true;
}

// In the pod's namespace. What the pod says to all is carried to each port of the bridge: with the link-local address given
// here, it need not ask a thousand others whether one of them has it.
void set_up_pod_end(NetlinkSocket* pod, int index, const Veth& veth, const std::vector<IpPrefix>& addresses,
                    const std::vector<IpAddress>& gateways, const Mac& gateway_mac) {
  bool own_link_local = set_up_ipv6(veth.pod_name, addresses) && !veth.pod_mac.empty();
  NetlinkRequests requests;
  set_link_up(&requests, loopback_index, "set lo up");
  if (own_link_local) generate_link_local(&requests, index, false, "set up " + veth.pod_name);
  set_link_up(&requests, index, "set " + veth.pod_name + " up");
  if (own_link_local) {
    add_address(&requests, index, link_local(to_mac(veth.pod_mac, "podMac")), "add the link-local address");
    // for a pod that sets its link down and up again
    generate_link_local(&requests, index, true, "set up " + veth.pod_name);
  }
  for (size_t i = 0; i < addresses.size(); i++) {
    add_address(&requests, index, addresses[i], "add address " + veth.addresses[i]);
  }
  for (size_t i = 0; i < gateways.size(); i++) {
    add_default_route(&requests, index, gateways[i], "add default route via " + veth.gateways[i]);
    // entries that are learned elsewhere do not count where the kernel limits them, for all namespaces together
    add_neighbour(&requests, index, gateways[i], gateway_mac, NTF_EXT_LEARNED, "add neighbour " + veth.gateways[i]);
  }
  pod->run(&requests);
}

// The kernel gives each link a route for what is multicast, and goes through all of them for each link that comes. From a port
// nobody sends: the bridge has its own.
void remove_multicast_route(NetlinkRequests* requests, int index, const std::string& what) {
  const uint8_t multicast[16] = {0xff};
  rtmsg header = {};
  header.rtm_family = AF_INET6;
  header.rtm_table = RT_TABLE_LOCAL;
  header.rtm_dst_len = 8;
  requests->begin(RTM_DELROUTE, 0, header, what);
  requests->attribute(RTA_DST, multicast, sizeof multicast);
  requests->attribute(RTA_OIF, static_cast<uint32_t>(index));
}

// The host's end needs no address: it is a port only. Each route that came with one would be looked at for each pod.
void join_host_end(NetlinkSocket* host, int index, int master, const Veth& veth,
                   const std::vector<IpPrefix>& addresses) {
  static const bool host_has_ipv6 = access("/proc/sys/net/ipv6", F_OK) == 0;
  // links that are too narrow for it have none
  const bool has_ipv6 = host_has_ipv6 && (veth.mtu == 0 || veth.mtu >= ipv6_least_mtu);
  NetlinkRequests requests;
  if (has_ipv6) generate_link_local(&requests, index, false, "set up " + veth.host_name);
  requests.begin(RTM_SETLINK, 0, link_header(index, true), "make " + veth.host_name + " a port of " + veth.bridge);
  requests.attribute(IFLA_MASTER, static_cast<uint32_t>(master));
  set_hairpin(&requests, veth.host_name);
  host->run(&requests);
  NetlinkRequests trimmings;
  if (has_ipv6) remove_multicast_route(&trimmings, index, "remove the multicast route of " + veth.host_name);
  if (!veth.pod_mac.empty()) {
    Mac mac = to_mac(veth.pod_mac, "podMac");
    for (const IpPrefix& prefix : addresses) {
      add_neighbour(&trimmings, master, prefix.address, mac, 0, "add neighbour " + veth.pod_name);
    }
  }
  // where the kernel has no room for neighbours, or the bridge has no IPv6, they are asked for; the route may come later, or not
  host->run(&trimmings, {ENOBUFS, EINVAL, ESRCH, ENODEV});
}

// The kernel lets a link carry packets some time after its other end was set up, by a worker of its own: until then it drops
// all, and whoever asks for a neighbour in this moment waits a second for the next try.
class LinkWait {
 public:
  // In the link's network namespace, before its other end is set up.
  explicit LinkWait(int index)
      : index_(index), socket_(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE)), buffer_(16 << 10) {
    sockaddr_nl own = {};
    own.nl_family = AF_NETLINK;
    own.nl_groups = RTMGRP_LINK;
    if (!socket_ || bind(socket_.get(), reinterpret_cast<sockaddr*>(&own), sizeof own) < 0) {
      throw_errno("bind", "netlink");
    }
  }

  // Not for ever: who has set the other end down meanwhile must not keep the pod.
  void until_it_carries() {
    auto end = std::chrono::steady_clock::now() + std::chrono::seconds(1);
    while (!carries_) {
      auto left = std::chrono::ceil<std::chrono::milliseconds>(end - std::chrono::steady_clock::now()).count();
      pollfd waiting = {socket_.get(), POLLIN, 0};
      if (left <= 0 || poll(&waiting, 1, static_cast<int>(left)) <= 0) return;
      ssize_t got = recv(socket_.get(), buffer_.data(), buffer_.size(), MSG_DONTWAIT);
      if (got > 0) read(static_cast<int>(got));
    }
  }

 private:
  void read(int left) {
    for (auto* message = reinterpret_cast<nlmsghdr*>(buffer_.data()); NLMSG_OK(message, left);
         message = NLMSG_NEXT(message, left)) {
      if (message->nlmsg_type != RTM_NEWLINK) continue;
      const auto* header = static_cast<const ifinfomsg*>(NLMSG_DATA(message));
      NetlinkAttributes attributes(IFLA_RTA(header), IFLA_PAYLOAD(message));
      const void* state = attributes.find(IFLA_OPERSTATE, 1);
      if (header->ifi_index == index_ && state != nullptr && *static_cast<const uint8_t*>(state) == oper_up) {
        carries_ = true;
      }
    }
  }

  int index_;
  bool carries_ = false;
  UniqueFd socket_;
  std::vector<uint8_t> buffer_;
};

// Not by netlink, which would wait for the kernel's lock of all links.
Mac mac_of(const std::string& name) {
  UniqueFd any_socket(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request = {};
  name.copy(request.ifr_name, sizeof request.ifr_name - 1);
  if (!any_socket || ioctl(any_socket.get(), SIOCGIFHWADDR, &request) < 0) throw_errno("ioctl SIOCGIFHWADDR", name);
  Mac mac;
  memcpy(mac.bytes, request.ifr_hwaddr.sa_data, sizeof mac.bytes);
  return mac;
}

void attach_veth(const Veth& veth) {
  check_name(veth.host_name, "hostName");
  check_name(veth.pod_name, "podName");
  std::vector<IpPrefix> addresses = to_prefixes(veth.addresses, "addresses");
  std::vector<IpAddress> gateways;
  for (const std::string& text : veth.gateways) gateways.push_back(to_address(text, "gateways"));
  int master = index_of(veth.bridge);
  Mac master_mac = mac_of(veth.bridge);
  NetlinkSocket host;
  create_pair(&host, veth);
  try {
    int host_index = index_of(veth.host_name);
    enter_network_namespace(veth.name_space);
    NetlinkSocket pod;
    int pod_index = index_of(veth.pod_name);
    set_up_pod_end(&pod, pod_index, veth, addresses, gateways, master_mac);
    LinkWait wait(pod_index);
    join_host_end(&host, host_index, master, veth, addresses);
    wait.until_it_carries();
  } catch (const SystemError&) {
    delete_link(&host, veth.host_name);
    throw;
  }
}

Napi::Value attach_veth_call(const Napi::CallbackInfo& info) {
  Napi::Object options = object_argument(info, 0, "options");
  Veth veth;
  veth.name_space = static_cast<int>(int_field(options, "namespaceFd"));
  veth.bridge = text_field(options, "bridge");
  veth.host_name = text_field(options, "hostName");
  veth.pod_name = text_field(options, "podName");
  veth.pod_mac = text_field(options, "podMac");
  veth.mtu = static_cast<int>(int_field(options, "mtu"));
  veth.addresses = texts_field(options, "addresses");
  veth.gateways = texts_field(options, "gateways");
  return on_own_thread(info.Env(), [veth]() -> Settle {
    attach_veth(veth);
    return settle_nothing();
  });
}

}  // namespace

void register_veth(Napi::Object exports) { export_function<attach_veth_call>(exports, "attachVeth"); }

}  // namespace berth
