// Unix sockets on paths that may be longer than sun_path: the directory is opened, and the socket is named below
// /proc/self/fd.
#pragma once

#include <string>

#include "common/unique_fd.h"

namespace berth {

// Bound and listening, mode 0600 from its first moment. A stale socket of that name is replaced; anything else that is
// there is EEXIST. Throws SystemError.
UniqueFd listen_unix(const std::string& path);

// Connected and non-blocking. Throws SystemError; EAGAIN: the listener's backlog is full.
UniqueFd connect_unix(const std::string& path);

// The same of a socket that takes datagrams.
UniqueFd connect_unix_datagram(const std::string& path);

}  // namespace berth
