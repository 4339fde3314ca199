// net.ipv6.conf.<interface>, of the calling thread's network namespace.
#pragma once

#include <string>

#include "common/unique_fd.h"

namespace berth {

// The directory below /proc/sys. Empty: the kernel, or the namespace, has no IPv6. Throws SystemError.
UniqueFd open_ipv6_settings(const std::string& interface);

// Of the interface whose directory it is; so is write_setting.
bool is_ipv6_disabled(int directory);
void write_setting(int directory, const char* name, const char* value);

}  // namespace berth
