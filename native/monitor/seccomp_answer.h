// What a seccomp filter says to a system call, without making it.
#pragma once

#include <cstdint>
#include <string_view>

namespace berth {

// `filter`: struct sock_filter, one after the other. True when it lets this machine's call pass; the arguments that are not
// named are 0. A filter with other instructions than libseccomp makes is said to refuse.
bool filter_allows(std::string_view filter, int call, uint64_t first, uint64_t second);

}  // namespace berth
