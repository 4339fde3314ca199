#include "monitor/monitor_log.h"

#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>

namespace berth {

void monitor_log(std::string_view what, std::string_view detail) {
  timespec now = {};
  clock_gettime(CLOCK_REALTIME, &now);
  char stamp[40];
  const int length = snprintf(stamp, sizeof stamp, "%lld.%03ld ", static_cast<long long>(now.tv_sec),
                              now.tv_nsec / 1000000);
  const iovec parts[] = {
      {stamp, static_cast<size_t>(length)},
      {const_cast<char*>(what.data()), what.size()},
      {const_cast<char*>(" "), detail.empty() ? 0U : 1U},
      {const_cast<char*>(detail.data()), detail.size()},
      {const_cast<char*>("\n"), 1},
  };
  if (writev(STDERR_FILENO, parts, 5) < 0) return;  // the disk is full, and there is nobody else to tell
}

}  // namespace berth
