// The bridge of the built-in pod network.
#include <linux/if_link.h>
#include <net/if.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <vector>

#include "addon/arguments.h"
#include "addon/functions.h"
#include "addon/links.h"
#include "addon/own_thread.h"

namespace berth {
namespace {

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

// Addresses of the bridge tell so who gave them.
constexpr uint8_t address_owner = 0xbe;

void ensure_bridge(const std::string& name, const std::vector<IpPrefix>& addresses, int mtu) {
  NetlinkSocket socket;
  bool made = false;
  if (find_index(name) == 0) {
    Mac mac = bridge_mac(addresses);
    NetlinkRequests create;
    create.begin(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, link_header(0, false), "create bridge " + name);
    create.attribute(IFLA_IFNAME, std::string_view(name));
    create.attribute(IFLA_ADDRESS, mac.bytes, sizeof mac.bytes);
    create.nest(IFLA_LINKINFO);
    create.attribute(IFLA_INFO_KIND, std::string_view("bridge"));
    // Without a querier, which there is none of, it holds nothing back; and each port that comes sets the timers of all.
    create.nest(IFLA_INFO_DATA);
    uint8_t off = 0;
    create.attribute(IFLA_BR_MCAST_SNOOPING, &off, sizeof off);
    create.end();
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
  for (const IpPrefix& prefix : addresses) {
    add_address(&set, index, prefix, "add address to bridge " + name);
    set.attribute(IFA_PROTO, &address_owner, sizeof address_owner);
  }
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

void remove_older_addresses(const std::string& bridge, const std::vector<IpPrefix>& wanted) {
  NetlinkSocket socket;
  int index = index_of(bridge);
  NetlinkRequests dump;
  NetlinkRequests removals;
  dump.begin(RTM_GETADDR, 0, ifaddrmsg{}, "list addresses");
  socket.dump(&dump, [&](const nlmsghdr* message) {
    const auto* header = static_cast<const ifaddrmsg*>(NLMSG_DATA(message));
    NetlinkAttributes attributes(IFA_RTA(header), IFA_PAYLOAD(message));
    const void* owner = attributes.find(IFA_PROTO, sizeof address_owner);
    std::string_view bytes = attributes.bytes(IFA_ADDRESS);
    if (header->ifa_index != static_cast<uint32_t>(index) || owner == nullptr || bytes.empty() ||
        *static_cast<const uint8_t*>(owner) != address_owner) {
      return;
    }
    bool is_wanted = std::any_of(wanted.begin(), wanted.end(), [&](const IpPrefix& prefix) {
      return prefix.address.size() == bytes.size() && prefix.length == header->ifa_prefixlen &&
             memcmp(prefix.address.bytes, bytes.data(), bytes.size()) == 0;
    });
    if (is_wanted) return;
    ifaddrmsg address = {};
    address.ifa_family = header->ifa_family;
    address.ifa_prefixlen = header->ifa_prefixlen;
    address.ifa_index = header->ifa_index;
    removals.begin(RTM_DELADDR, 0, address, "remove an older address of the bridge");
    removals.attribute(IFA_LOCAL, bytes.data(), bytes.size());
    removals.attribute(IFA_ADDRESS, bytes.data(), bytes.size());
  });
  socket.run(&removals, {EADDRNOTAVAIL});
}

Napi::Value remove_older_addresses_call(const Napi::CallbackInfo& info) {
  Napi::Object options = object_argument(info, 0, "options");
  std::string bridge = text_field(options, "bridge");
  std::vector<std::string> wanted = texts_field(options, "wanted");
  return on_own_thread(info.Env(), [=]() -> Settle {
    remove_older_addresses(bridge, to_prefixes(wanted, "wanted"));
    return settle_nothing();
  });
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

Napi::Value delete_link_call(const Napi::CallbackInfo& info) {
  std::string name = string_argument(info, 0, "name");
  return on_own_thread(info.Env(), [name]() -> Settle {
    check_name(name, "name");
    NetlinkSocket socket;
    delete_link(&socket, name);
    return settle_nothing();
  });
}

Napi::Value link_index(const Napi::CallbackInfo& info) {
  std::string name = string_argument(info, 0, "name");
  return Napi::Number::New(info.Env(), find_index(name));
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
  export_function<remove_older_addresses_call>(exports, "removeOlderAddresses");
  export_function<set_loopback_up>(exports, "setLoopbackUp");
  export_function<link_index>(exports, "linkIndex");
  export_function<delete_link_call>(exports, "deleteLink");
  export_function<join_bridge_call>(exports, "joinBridge");
}

}  // namespace berth
