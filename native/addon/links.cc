#include "addon/links.h"

#include <arpa/inet.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <net/if.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "addon/system_error.h"

namespace berth {
namespace {

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

}  // namespace

IpAddress to_address(const std::string& text, const std::string& field) {
  IpAddress address;
  address.family = text.find(':') == std::string::npos ? AF_INET : AF_INET6;
  if (inet_pton(address.family, text.c_str(), address.bytes) != 1) {
    throw SystemError(EINVAL, "network address", field, "\"" + text + "\" is no IP address");
  }
  return address;
}

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

void set_link_up(NetlinkRequests* requests, int index, const std::string& what) {
  requests->begin(RTM_SETLINK, 0, link_header(index, true), what);
}

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

void delete_link(NetlinkSocket* socket, const std::string& name) {
  NetlinkRequests requests;
  requests.begin(RTM_DELLINK, 0, link_header(0, false), "delete " + name);
  requests.attribute(IFLA_IFNAME, std::string_view(name));
  socket->run(&requests, {ENODEV});
}

}  // namespace berth
