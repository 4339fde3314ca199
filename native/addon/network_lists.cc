// What there is: links with their statistics, addresses, routes.
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <net/if.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "addon/arguments.h"
#include "addon/file_access.h"
#include "addon/functions.h"
#include "addon/netlink_socket.h"
#include "addon/own_thread.h"

namespace berth {
namespace {

constexpr int no_namespace = -1;
// Of a link in the answer of linkStatistics, in this order: received bytes, packets, errors, dropped, and the same of sent.
constexpr size_t values_of_link = 8;

struct Link {
  std::string name;
  std::string mac;
  uint32_t mtu = 0;
  bool up = false;
  int peer = 0;    // of a veth: its other end's number, in another namespace or this one
  int master = 0;  // the bridge's number
  rtnl_link_stats64 statistics = {};
};

std::string mac_text(std::string_view bytes) {
  if (bytes.size() != 6) return "";
  char text[18];
  auto at = [&](size_t i) { return static_cast<uint8_t>(bytes[i]); };
  snprintf(text, sizeof text, "%02x:%02x:%02x:%02x:%02x:%02x", at(0), at(1), at(2), at(3), at(4), at(5));
  return text;
}

template <typename Number>
void read_number(const NetlinkAttributes& attributes, uint16_t type, Number* number) {
  if (const void* found = attributes.find(type, sizeof *number)) memcpy(number, found, sizeof *number);
}

std::map<int, Link> list_links(NetlinkSocket* socket) {
  std::map<int, Link> links;
  NetlinkRequests request;
  request.begin(RTM_GETLINK, 0, link_header(0, false), "list links");
  socket->dump(&request, [&](const nlmsghdr* message) {
    if (message->nlmsg_type != RTM_NEWLINK) return;
    const auto* header = static_cast<const ifinfomsg*>(NLMSG_DATA(message));
    NetlinkAttributes attributes(IFLA_RTA(header), IFLA_PAYLOAD(message));
    Link link;
    link.name = attributes.text(IFLA_IFNAME);
    link.mac = mac_text(attributes.bytes(IFLA_ADDRESS));
    link.up = (header->ifi_flags & IFF_UP) != 0;
    read_number(attributes, IFLA_MTU, &link.mtu);
    read_number(attributes, IFLA_LINK, &link.peer);
    read_number(attributes, IFLA_MASTER, &link.master);
    // Older kernels' struct is shorter: what is missing stays 0.
    std::string_view bytes = attributes.bytes(IFLA_STATS64);
    if (!bytes.empty()) memcpy(&link.statistics, bytes.data(), std::min(bytes.size(), sizeof link.statistics));
    links.emplace(header->ifi_index, std::move(link));
  });
  return links;
}

struct LinkAddress {
  std::string name;
  std::string address;
};

std::vector<LinkAddress> list_addresses(NetlinkSocket* socket) {
  std::map<int, Link> links = list_links(socket);
  std::vector<LinkAddress> addresses;
  NetlinkRequests request;
  request.begin(RTM_GETADDR, 0, ifaddrmsg{}, "list addresses");
  socket->dump(&request, [&](const nlmsghdr* message) {
    if (message->nlmsg_type != RTM_NEWADDR) return;
    const auto* header = static_cast<const ifaddrmsg*>(NLMSG_DATA(message));
    NetlinkAttributes attributes(IFA_RTA(header), IFA_PAYLOAD(message));
    if (header->ifa_family != AF_INET && header->ifa_family != AF_INET6) return;
    size_t size = header->ifa_family == AF_INET ? 4 : 16;
    // On a point-to-point link IFA_ADDRESS is the peer's.
    const void* own = attributes.find(IFA_LOCAL, size);
    if (own == nullptr) own = attributes.find(IFA_ADDRESS, size);
    auto link = links.find(static_cast<int>(header->ifa_index));
    char text[INET6_ADDRSTRLEN];
    if (own == nullptr || link == links.end() || inet_ntop(header->ifa_family, own, text, sizeof text) == nullptr) return;
    addresses.push_back({link->second.name, std::string(text) + "/" + std::to_string(header->ifa_prefixlen)});
  });
  return addresses;
}

struct Route {
  std::string destination;  // CIDR
  std::string gateway;      // empty: none
  std::string interface;    // empty: none, or it has gone
  uint32_t table = 0;
};

std::string to_text(uint8_t family, std::string_view bytes) {
  char text[INET6_ADDRSTRLEN];
  if (bytes.size() < (family == AF_INET ? 4U : 16U)) return "";
  return inet_ntop(family, bytes.data(), text, sizeof text) == nullptr ? "" : text;
}

// Those that lead somewhere, of all tables but the kernel's own of local addresses.
std::vector<Route> list_routes(NetlinkSocket* socket) {
  std::map<int, Link> links = list_links(socket);
  std::vector<Route> routes;
  NetlinkRequests request;
  request.begin(RTM_GETROUTE, 0, rtmsg{}, "list routes");
  socket->dump(&request, [&](const nlmsghdr* message) {
    if (message->nlmsg_type != RTM_NEWROUTE) return;
    const auto* header = static_cast<const rtmsg*>(NLMSG_DATA(message));
    if (header->rtm_family != AF_INET && header->rtm_family != AF_INET6) return;
    if (header->rtm_type != RTN_UNICAST || header->rtm_table == RT_TABLE_LOCAL) return;
    NetlinkAttributes attributes(RTM_RTA(header), RTM_PAYLOAD(message));
    Route route;
    std::string destination = to_text(header->rtm_family, attributes.bytes(RTA_DST));
    // a default route has none
    if (destination.empty()) destination = header->rtm_family == AF_INET ? "0.0.0.0" : "::";
    route.destination = destination + "/" + std::to_string(header->rtm_dst_len);
    route.gateway = to_text(header->rtm_family, attributes.bytes(RTA_GATEWAY));
    int index = 0;
    read_number(attributes, RTA_OIF, &index);
    if (auto link = links.find(index); link != links.end()) route.interface = link->second.name;
    route.table = header->rtm_table;
    read_number(attributes, RTA_TABLE, &route.table);
    routes.push_back(std::move(route));
  });
  return routes;
}

int optional_namespace(const Napi::CallbackInfo& info) {
  Napi::Object options = object_argument(info, 0, "options");
  return static_cast<int>(int_field_or(options, "namespaceFd", no_namespace));
}

Napi::Object to_js(Napi::Env env, int index, const Link& link) {
  Napi::Object object = Napi::Object::New(env);
  auto set = [&](const char* name, uint64_t value) { object.Set(name, static_cast<double>(value)); };
  object.Set("name", link.name);
  object.Set("index", index);
  object.Set("mac", link.mac);
  object.Set("mtu", link.mtu);
  object.Set("up", link.up);
  object.Set("peer", link.peer);
  object.Set("master", link.master);
  set("rxBytes", link.statistics.rx_bytes);
  set("rxPackets", link.statistics.rx_packets);
  set("rxErrors", link.statistics.rx_errors);
  set("rxDropped", link.statistics.rx_dropped);
  set("txBytes", link.statistics.tx_bytes);
  set("txPackets", link.statistics.tx_packets);
  set("txErrors", link.statistics.tx_errors);
  set("txDropped", link.statistics.tx_dropped);
  return object;
}

Napi::Value list_links_call(const Napi::CallbackInfo& info) {
  int name_space = optional_namespace(info);
  return on_own_thread(info.Env(), [name_space]() -> Settle {
    if (name_space != no_namespace) enter_network_namespace(name_space);
    NetlinkSocket socket;
    auto links = std::make_shared<std::map<int, Link>>(list_links(&socket));
    return [links](Napi::Env env) {
      Napi::Array result = Napi::Array::New(env, links->size());
      uint32_t i = 0;
      for (const auto& [index, link] : *links) result.Set(i++, to_js(env, index, link));
      return result;
    };
  });
}

Napi::Value list_addresses_call(const Napi::CallbackInfo& info) {
  int name_space = optional_namespace(info);
  return on_own_thread(info.Env(), [name_space]() -> Settle {
    if (name_space != no_namespace) enter_network_namespace(name_space);
    NetlinkSocket socket;
    auto addresses = std::make_shared<std::vector<LinkAddress>>(list_addresses(&socket));
    return [addresses](Napi::Env env) {
      Napi::Array result = Napi::Array::New(env, addresses->size());
      for (uint32_t i = 0; i < addresses->size(); i++) {
        Napi::Object object = Napi::Object::New(env);
        object.Set("name", (*addresses)[i].name);
        object.Set("address", (*addresses)[i].address);
        result.Set(i, object);
      }
      return result;
    };
  });
}

using Links = std::vector<Link>;

// Of a namespace that is gone, or that nobody may enter, there are none.
Links links_in(const std::string& path) {
  Links links;
  try {
    UniqueFd name_space = open_file(path, O_RDONLY);
    enter_network_namespace(name_space.get());
    NetlinkSocket socket;
    for (auto& [index, link] : list_links(&socket)) {
      if (link.name != "lo") links.push_back(std::move(link));
    }
  } catch (const SystemError&) {
    links.clear();
  }
  return links;
}

Napi::Value to_js(Napi::Env env, const std::vector<Links>& all) {
  size_t count = 0;
  for (const Links& links : all) count += links.size();
  Napi::Array names = Napi::Array::New(env, all.size());
  Napi::Float64Array values = Napi::Float64Array::New(env, count * values_of_link);
  double* next = values.Data();
  for (uint32_t i = 0; i < all.size(); i++) {
    Napi::HandleScope handles(env);
    Napi::Array here = Napi::Array::New(env, all[i].size());
    for (uint32_t j = 0; j < all[i].size(); j++) {
      const rtnl_link_stats64& counted = all[i][j].statistics;
      here.Set(j, all[i][j].name);
      for (uint64_t value : {counted.rx_bytes, counted.rx_packets, counted.rx_errors, counted.rx_dropped,
                             counted.tx_bytes, counted.tx_packets, counted.tx_errors, counted.tx_dropped}) {
        *next++ = static_cast<double>(value);
      }
    }
    names.Set(i, here);
  }
  Napi::Object result = Napi::Object::New(env);
  result.Set("names", names);
  result.Set("values", values);
  return result;
}

// One thread enters one namespace after the other: a thread for each would cost more than what it asks there.
Napi::Value link_statistics(const Napi::CallbackInfo& info) {
  std::vector<std::string> paths = to_texts(info[0], "namespacePaths");
  return on_yielding_thread(info.Env(), [paths = std::move(paths)]() -> Settle {
    auto all = std::make_shared<std::vector<Links>>();
    all->reserve(paths.size());
    for (const std::string& path : paths) all->push_back(links_in(path));
    return [all](Napi::Env env) { return to_js(env, *all); };
  });
}

Napi::Value list_routes_call(const Napi::CallbackInfo& info) {
  int name_space = optional_namespace(info);
  return on_own_thread(info.Env(), [name_space]() -> Settle {
    if (name_space != no_namespace) enter_network_namespace(name_space);
    NetlinkSocket socket;
    auto routes = std::make_shared<std::vector<Route>>(list_routes(&socket));
    return [routes](Napi::Env env) {
      Napi::Array result = Napi::Array::New(env, routes->size());
      for (uint32_t i = 0; i < routes->size(); i++) {
        const Route& route = (*routes)[i];
        Napi::Object object = Napi::Object::New(env);
        object.Set("destination", route.destination);
        object.Set("gateway", route.gateway);
        object.Set("interface", route.interface);
        object.Set("table", route.table);
        result.Set(i, object);
      }
      return result;
    };
  });
}

}  // namespace

void register_network_lists(Napi::Object exports) {
  export_function<list_links_call>(exports, "listLinks");
  export_function<link_statistics>(exports, "linkStatistics");
  export_function<list_addresses_call>(exports, "listAddresses");
  export_function<list_routes_call>(exports, "listRoutes");
}

}  // namespace berth
