// What a failed system call leaves behind, as a value: the native core has no exceptions.
#pragma once

#include <string>
#include <string_view>

namespace berth {

struct SysError {
  std::string call;     // the system call, or the step in words: "clone3", "mount /data"
  int errno_value = 0;  // 0: no system call failed
  std::string subject;  // the path or the name that it was about; may be empty

  // "clone3 /sys/fs/cgroup/x: No space left on device"
  std::string describe() const;
};

// Takes errno as it stands.
SysError last_error(std::string_view call, std::string_view subject = {});

}  // namespace berth
