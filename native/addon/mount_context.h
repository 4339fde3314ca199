// A file system on its way to being mounted (fsopen): its options, and what the kernel says to them.
#pragma once

#include <string>

#include "common/unique_fd.h"

namespace berth {

// With the current errno, and the kernel's own words about it.
[[noreturn]] void throw_context_error(int context, const char* syscall, const std::string& subject);

void set_parameter(int context, const char* key, const std::string& value);

// A detached mount. Attributes: MOUNT_ATTR_*.
UniqueFd create_and_mount(int context, unsigned attributes, const std::string& subject);

}  // namespace berth
