// Links, addresses and routes of the built-in pod network.
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/veth.h>
#include <net/if.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "addon/arguments.h"
#include "addon/functions.h"
#include "addon/netlink_socket.h"
#include "addon/own_thread.h"
#include "common/unique_fd.h"

namespace berth {
namespace {

constexpr int loopback_index = 1;

// ---- what is given as text ----

struct IpAddress {
  uint8_t family = AF_UNSPEC;
  uint8_t bytes[16] = {};
  size_t size() const { return family == AF_INET ? 4 : 16; }
};

struct IpPrefix {
  IpAddress address;
  uint8_t length = 0;
};

IpAddress to_address(const std::string& text, const std::string& field) {
  IpAddress address;
  address.family = text.find(':') == std::string::npos ? AF_INET : AF_INET6;
  if (inet_pton(address.family, text.c_str(), address.bytes) != 1) {
    throw SystemError(EINVAL, "network address", field, "\"" + text + "\" is no IP address");
  }
  return address;
}

IpPrefix to_prefix(const std::string& text, const std::string& field) {
  size_t slash = text.find('/');
  if (slash == std::string::npos) throw SystemError(EINVAL, "network address", field, "\"" + text + "\" has no /length");
  IpPrefix prefix;
  prefix.address = to_address(text.substr(0, slash), field);
  std::string length = text.substr(slash + 1);
  bool digits = !length.empty() && length.size() <= 3 && length.find_first_not_of("0123456789") == std::string::npos;
  int number = digits ? std::stoi(length) : -1;
  if (number < 0 || number > static_cast<int>(prefix.address.size() * 8)) {
    throw SystemError(EINVAL, "network address", field, "\"" + text + "\" has a wrong length");
  }
  prefix.length = static_cast<uint8_t>(number);
  return prefix;
}

struct Mac {
  uint8_t bytes[6] = {};
};

Mac to_mac(const std::string& text, const std::string& field) {
  Mac mac;
  int used = 0;
  if (sscanf(text.c_str(), "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%n", &mac.bytes[0], &mac.bytes[1], &mac.bytes[2],
             &mac.bytes[3], &mac.bytes[4], &mac.bytes[5], &used) != 6 ||
      static_cast<size_t>(used) != text.size()) {
    throw SystemError(EINVAL, "network address", field, "\"" + text + "\" is no MAC address");
  }
  return mac;
}

void check_name(const std::string& name, const std::string& field) {
  if (name.empty() || name.size() >= IFNAMSIZ) {
    throw SystemError(EINVAL, "interface name", field, "\"" + name + "\" must have 1 to 15 characters");
  }
}

std::vector<IpPrefix> to_prefixes(const std::vector<std::string>& texts, const std::string& field) {
  std::vector<IpPrefix> prefixes;
  for (const std::string& text : texts) prefixes.push_back(to_prefix(text, field));
  return prefixes;
}

// ---- requests ----

void add_address(NetlinkRequests* requests, int index, const IpPrefix& prefix, const std::string& what) {
  ifaddrmsg header = {};
  header.ifa_family = prefix.address.family;
  header.ifa_prefixlen = prefix.length;
  header.ifa_index = static_cast<uint32_t>(index);
  requests->begin(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, header, what);
  requests->attribute(IFA_LOCAL, prefix.address.bytes, prefix.address.size());
  requests->attribute(IFA_ADDRESS, prefix.address.bytes, prefix.address.size());
  if (prefix.address.family == AF_INET6) {
    // The leases already made it unique; waiting for neighbours to object would cost a second.
    requests->attribute(IFA_FLAGS, uint32_t{IFA_F_NODAD});
  } else if (prefix.length <= 30) {
    uint32_t address;
    memcpy(&address, prefix.address.bytes, sizeof address);
    requests->attribute(IFA_BROADCAST, uint32_t{address | htonl(~0U >> prefix.length)});
  }
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

void set_link_up(NetlinkRequests* requests, int index, const std::string& what) {
  requests->begin(RTM_SETLINK, 0, link_header(index, true), what);
}

// ---- bridge ----

// The kernel would give a bridge the lowest address of its ports, which changes as pods come and go and breaks what is
// cached about it. Derived from its first IPv4 address it is the same after every start.
Mac bridge_mac(const std::vector<IpPrefix>& addresses) {
  for (const IpPrefix& prefix : addresses) {
    if (prefix.address.family != AF_INET) continue;
    const uint8_t* ip = prefix.address.bytes;
    return Mac{{0x0a, 0x58, ip[0], ip[1], ip[2], ip[3]}};
  }
  Mac mac{{0x0a, 0x58, 0, 0, 0, 1}};
  if (!addresses.empty()) memcpy(mac.bytes + 2, addresses.front().address.bytes + 12, 4);
  return mac;
}

std::string kind_of_link(NetlinkSocket* socket, const std::string& name) {
  NetlinkRequests request;
  request.begin(RTM_GETLINK, 0, link_header(0, false), "get " + name);
  request.attribute(IFLA_IFNAME, std::string_view(name));
  std::string kind;
  socket->get(&request, [&](const nlmsghdr* message) {
    const auto* header = static_cast<const ifinfomsg*>(NLMSG_DATA(message));
    NetlinkAttributes attributes(IFLA_RTA(header), IFLA_PAYLOAD(message));
    kind = attributes.nested(IFLA_LINKINFO).text(IFLA_INFO_KIND);
  });
  return kind;
}

void ensure_bridge(const std::string& name, const std::vector<IpPrefix>& addresses, int mtu) {
  NetlinkSocket socket;
  bool made = false;
  if (if_nametoindex(name.c_str()) == 0) {
    Mac mac = bridge_mac(addresses);
    NetlinkRequests create;
    create.begin(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, link_header(0, false), "create bridge " + name);
    create.attribute(IFLA_IFNAME, std::string_view(name));
    create.attribute(IFLA_ADDRESS, mac.bytes, sizeof mac.bytes);
    create.nest(IFLA_LINKINFO);
    create.attribute(IFLA_INFO_KIND, std::string_view("bridge"));
    create.end();
    // Another agent of this machine may make it at the same moment.
    socket.run(&create, {EEXIST});
    made = true;
  }
  std::string kind = kind_of_link(&socket, name);
  if (kind != "bridge") {
    throw SystemError(EEXIST, "create bridge", name, "an interface of that name is there and is no bridge");
  }
  int index = index_of(name);
  NetlinkRequests set;
  set.begin(RTM_SETLINK, 0, link_header(index, true), "set up bridge " + name);
  if (mtu > 0) set.attribute(IFLA_MTU, static_cast<uint32_t>(mtu));
  for (const IpPrefix& prefix : addresses) add_address(&set, index, prefix, "add address to bridge " + name);
  try {
    socket.run(&set, {EEXIST});
  } catch (const SystemError&) {
    if (made) {
      NetlinkRequests undo;
      undo.begin(RTM_DELLINK, 0, link_header(index, false), "delete bridge " + name);
      socket.run(&undo, {ENODEV});
    }
    throw;
  }
}

Napi::Value ensure_bridge_call(const Napi::CallbackInfo& info) {
  Napi::Object options = object_argument(info, 0, "options");
  std::string name = text_field(options, "name");
  std::vector<std::string> addresses = texts_field(options, "addresses");
  int mtu = static_cast<int>(int_field(options, "mtu"));
  return on_own_thread(info.Env(), [=]() -> Settle {
    check_name(name, "name");
    ensure_bridge(name, to_prefixes(addresses, "addresses"), mtu);
    return settle_nothing();
  });
}

// ---- veth ----

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

void create_pair(NetlinkSocket* host, const Veth& veth) {
  std::string pair = "veth " + veth.host_name;
  NetlinkRequests requests;
  requests.begin(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, link_header(0, true), "create " + pair);
  requests.attribute(IFLA_IFNAME, std::string_view(veth.host_name));
  if (veth.mtu > 0) requests.attribute(IFLA_MTU, static_cast<uint32_t>(veth.mtu));
  requests.attribute(IFLA_MASTER, static_cast<uint32_t>(index_of(veth.bridge)));
  requests.nest(IFLA_LINKINFO);
  requests.attribute(IFLA_INFO_KIND, std::string_view("veth"));
  requests.nest(IFLA_INFO_DATA);
  // The peer cannot be up yet: it is configured before the two ends are tied together.
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

// A pod that calls its own service or host port gets its packets back through the port that they came from.
void set_hairpin(NetlinkRequests* requests, const std::string& name) {
  requests->begin(RTM_NEWLINK, 0, link_header(0, false), "set hairpin on " + name);
  requests->attribute(IFLA_IFNAME, std::string_view(name));
  requests->nest(IFLA_LINKINFO);
  requests->attribute(IFLA_INFO_SLAVE_KIND, std::string_view("bridge"));
  requests->nest(IFLA_INFO_SLAVE_DATA);
  uint8_t on = 1;
  requests->attribute(IFLA_BRPORT_MODE, &on, sizeof on);
  requests->end();
  requests->end();
}

// Interfaces that are ports of the bridge already stay as they are, and so do those that have gone meanwhile. In pieces:
// each message is answered, and the socket's buffer holds some hundred answers.
void join_bridge(const std::string& bridge, const std::vector<std::string>& names) {
  constexpr size_t at_once = 64;
  NetlinkSocket socket;
  auto master = static_cast<uint32_t>(index_of(bridge));
  for (size_t begin = 0; begin < names.size(); begin += at_once) {
    NetlinkRequests requests;
    for (size_t i = begin; i < std::min(begin + at_once, names.size()); i++) {
      requests.begin(RTM_NEWLINK, 0, link_header(0, true), "make " + names[i] + " a port of " + bridge);
      requests.attribute(IFLA_IFNAME, std::string_view(names[i]));
      requests.attribute(IFLA_MASTER, master);
      set_hairpin(&requests, names[i]);
    }
    socket.run(&requests, {ENODEV});
  }
}

Napi::Value join_bridge_call(const Napi::CallbackInfo& info) {
  Napi::Object options = object_argument(info, 0, "options");
  std::string bridge = text_field(options, "bridge");
  std::vector<std::string> names = texts_field(options, "interfaces");
  return on_own_thread(info.Env(), [=]() -> Settle {
    for (const std::string& name : names) check_name(name, "interfaces");
    join_bridge(bridge, names);
    return settle_nothing();
  });
}

// The pod has its routes: what another pod says of routers is not for it, and it need not ask all others for one. A kernel
// without IPv6 has no such file.
void ignore_routers(const std::string& name) {
  std::string path = "/proc/sys/net/ipv6/conf/" + name + "/accept_ra";
  UniqueFd file(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!file && errno == ENOENT) return;
  if (!file || write(file.get(), "0", 1) != 1) throw_errno("write", path);
}

void set_up_pod_end(const Veth& veth, const std::vector<IpPrefix>& addresses, const std::vector<IpAddress>& gateways) {
  enter_network_namespace(veth.name_space);
  ignore_routers(veth.pod_name);
  NetlinkSocket pod;
  int index = index_of(veth.pod_name);
  NetlinkRequests requests;
  set_link_up(&requests, loopback_index, "set lo up");
  set_link_up(&requests, index, "set " + veth.pod_name + " up");
  for (size_t i = 0; i < addresses.size(); i++) {
    add_address(&requests, index, addresses[i], "add address " + veth.addresses[i]);
  }
  for (size_t i = 0; i < gateways.size(); i++) {
    add_default_route(&requests, index, gateways[i], "add default route via " + veth.gateways[i]);
  }
  pod.run(&requests);
}

void delete_link(NetlinkSocket* socket, const std::string& name) {
  NetlinkRequests requests;
  requests.begin(RTM_DELLINK, 0, link_header(0, false), "delete " + name);
  requests.attribute(IFLA_IFNAME, std::string_view(name));
  socket->run(&requests, {ENODEV});
}

void attach_veth(const Veth& veth) {
  check_name(veth.host_name, "hostName");
  check_name(veth.pod_name, "podName");
  std::vector<IpPrefix> addresses = to_prefixes(veth.addresses, "addresses");
  std::vector<IpAddress> gateways;
  for (const std::string& text : veth.gateways) gateways.push_back(to_address(text, "gateways"));
  NetlinkSocket host;
  create_pair(&host, veth);
  try {
    NetlinkRequests hairpin;
    set_hairpin(&hairpin, veth.host_name);
    host.run(&hairpin);
    set_up_pod_end(veth, addresses, gateways);
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

Napi::Value delete_link_call(const Napi::CallbackInfo& info) {
  std::string name = string_argument(info, 0, "name");
  return on_own_thread(info.Env(), [name]() -> Settle {
    check_name(name, "name");
    NetlinkSocket socket;
    delete_link(&socket, name);
    return settle_nothing();
  });
}

Napi::Value set_loopback_up(const Napi::CallbackInfo& info) {
  int name_space = int_argument(info, 0, "namespaceFd");
  return on_own_thread(info.Env(), [name_space]() -> Settle {
    enter_network_namespace(name_space);
    NetlinkSocket socket;
    NetlinkRequests requests;
    set_link_up(&requests, loopback_index, "set lo up");
    socket.run(&requests);
    return settle_nothing();
  });
}

}  // namespace

void register_netlink(Napi::Object exports) {
  export_function<ensure_bridge_call>(exports, "ensureBridge");
  export_function<set_loopback_up>(exports, "setLoopbackUp");
  export_function<attach_veth_call>(exports, "attachVeth");
  export_function<delete_link_call>(exports, "deleteLink");
  export_function<join_bridge_call>(exports, "joinBridge");
}

}  // namespace berth
