// A namespace lives while something refers to it. Pinned to a file of the host it outlives its processes, and others (CNI
// plugins, `nsenter --net=FILE`) find it by name.
#pragma once

#include <string>

namespace berth {

// Binds the namespace (/proc/PID/ns/net) to a file of mode 0444 that it makes, its directories too. Throws SystemError:
// EEXIST when there is a file, EINVAL when the source is no namespace; then it leaves no file.
void pin_namespace(const std::string& source, const std::string& path);

}  // namespace berth
