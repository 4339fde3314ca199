// One line to the monitor's log, which is its standard error. A file that has grown to 64 KiB begins anew.
#pragma once

#include <string_view>

namespace berth {

// Neither allocates nor locks; parts are joined by spaces.
void monitor_log(std::string_view what, std::string_view detail = {});

}  // namespace berth
