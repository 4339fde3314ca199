// Takes everything from this process but the layer's directory.
#pragma once

#include <string>
#include <vector>

namespace berth::unpack {

// Gives the process an own network, IPC, UTS and mount namespace with the directory as its root, drops all capabilities
// but those that writing a layer needs, forbids new privileges, limits memory and descriptors, and leaves an allow-list
// of system calls. Only standard input, output and error stay open, and the descriptors in `keep`. Throws Failure.
void confine(const std::string& directory, const std::vector<int>& keep);

}  // namespace berth::unpack
