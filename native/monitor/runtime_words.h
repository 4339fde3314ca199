// What an OCI runtime says in its log of why a command failed. Only by its words can be told that it is the fault of what
// was asked for: a program that is missing, a working directory that is a file.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "monitor/messages.h"

namespace berth {

// The text of the last error in a runtime's log of JSON lines; empty when there is none.
std::string last_log_error(std::string_view log);

// INVALID, in the steps and subjects of Berth's own launcher, when runc or crun says that the program or its working
// directory is at fault; nothing, when it says anything else: that is a fault of its own. `words`: last_log_error's.
std::optional<Failure> fault_of_program(std::string_view words, std::string_view program, std::string_view directory);

}  // namespace berth
