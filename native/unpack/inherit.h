// Directories that a layer holds without describing them look like those of the layers below.
#pragma once

#include <string>
#include <vector>

namespace berth::unpack {

// Reads NUL-terminated paths from `input` and gives each such directory in the root of this (confined) process the
// mode, owner and extended attributes of the topmost directory of that path among `lower` (topmost first). No link of a
// layer is followed. Throws Failure.
void inherit(int input, const std::vector<int>& lower);

}  // namespace berth::unpack
