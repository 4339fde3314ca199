// Takes everything from this process but one directory.
#pragma once

#include <span>
#include <string>
#include <vector>

namespace berth::unpack {

struct Confinement {
  std::span<const int> capabilities;
  // the most frequent first
  std::span<const int> system_calls;
  // the directory is mounted read-only
  bool read_only = false;
};

// What writing a layer needs.
extern const Confinement kWritesLayers;

// Gives the process an own network, IPC, UTS and mount namespace with the directory as its root, drops all other
// capabilities, forbids new privileges, limits memory and descriptors, and leaves an allow-list of system calls. Only standard input, output and error stay open, and the descriptors in `keep`. Throws Failure.
void confine(const std::string& directory, const std::vector<int>& keep, const Confinement& allowed);

}  // namespace berth::unpack
