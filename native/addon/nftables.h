// nftables of this process, as far as other files need it.
#pragma once

#include <cstdint>

namespace berth {

// Whether changes with this netlink port are ones that runNftables() or changeSetElements() has made.
bool is_own_nftables_port(uint32_t port);
// Of changeSetElements() alone.
bool is_own_elements_port(uint32_t port);

}  // namespace berth
