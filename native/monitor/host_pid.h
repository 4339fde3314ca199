// Process numbers as the host sees them: the monitor is in a PID namespace of its own.
#pragma once

#include <cstdint>

namespace berth {

// Of the process behind a pidfd, by the mounted /proc; 0: it has been reaped, or cannot be told.
int32_t host_pid_of(int pidfd);

}  // namespace berth
