// Copies a directory of the image into a new tmpfs that will hide it. For children between clone and exec: nothing
// allocates.
#pragma once

namespace berth {

// Directories, files, links, fifos and devices with owner and mode; at most 64 levels deep. False with errno.
bool copy_up(int from, int to);

}  // namespace berth
