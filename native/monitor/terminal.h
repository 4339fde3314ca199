// The terminals of containers and execs. The slave is taken from the master itself (TIOCGPTPEER), never by its path.
#pragma once

#include "common/unique_fd.h"
#include "monitor/child_channel.h"
#include "monitor/messages.h"

namespace berth {

// The other end of a master just opened: owned by the process's user, in the size that was asked for.
UniqueFd open_terminal_slave(int master, const Process& process, const ChildChannel& channel);

// A new terminal of the devpts at /dev/pts of the container whose root is the caller's "/"; its master is sent.
UniqueFd open_terminal_in_container(const Process& process, const ChildChannel& channel);

}  // namespace berth
