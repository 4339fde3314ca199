#pragma once

namespace berth {

// Overlay takes its layers one at a time by "lowerdir+" (Linux 6.8). Probed once.
bool overlay_takes_lowerdir_plus();

// Overlay takes a layer by descriptor, of a mount that is attached nowhere (Linux 6.15). Probed once.
bool overlay_takes_detached_layers();

}  // namespace berth
