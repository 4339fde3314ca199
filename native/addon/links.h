// Links and their addresses, as both ends of the pods' network need them.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <string>
#include <vector>

#include "addon/netlink_socket.h"

namespace berth {

constexpr int loopback_index = 1;

struct IpAddress {
  uint8_t family = AF_UNSPEC;
  uint8_t bytes[16] = {};
  size_t size() const { return family == AF_INET ? 4 : 16; }
};

struct IpPrefix {
  IpAddress address;
  uint8_t length = 0;
};

struct Mac {
  uint8_t bytes[6] = {};
};

// What is given as text. `field`: the option that it is, for the error (EINVAL).
IpAddress to_address(const std::string& text, const std::string& field);
std::vector<IpPrefix> to_prefixes(const std::vector<std::string>& texts, const std::string& field);
Mac to_mac(const std::string& text, const std::string& field);
void check_name(const std::string& name, const std::string& field);

// Requests.
void add_address(NetlinkRequests* requests, int index, const IpPrefix& prefix, const std::string& what);
void set_link_up(NetlinkRequests* requests, int index, const std::string& what);
// A pod that calls its own service or host port gets its packets back through the port that they came from.
void set_hairpin(NetlinkRequests* requests, const std::string& name);

// Gone already is success.
void delete_link(NetlinkSocket* socket, const std::string& name);

}  // namespace berth
