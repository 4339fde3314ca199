// One line to the monitor's log, which is its standard error. For what no caller is there to be told.
#pragma once

#include <string_view>

namespace berth {

// Neither allocates nor locks; parts are joined by spaces.
void monitor_log(std::string_view what, std::string_view detail = {});

}  // namespace berth
