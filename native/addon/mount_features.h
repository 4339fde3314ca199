#pragma once

namespace berth {

// Overlay takes its layers one at a time by "lowerdir+" (Linux 6.8). Probed once.
bool overlay_takes_lowerdir_plus();

}  // namespace berth
