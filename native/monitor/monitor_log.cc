#include "monitor/monitor_log.h"

#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>

namespace berth {

namespace {
// The file is in memory, and a probe that fails writes a line each second.
constexpr off_t kMostBytes = 64 << 10;
}  // namespace

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
  struct stat file = {};
  if (fstat(STDERR_FILENO, &file) == 0 && S_ISREG(file.st_mode) && file.st_size > kMostBytes &&
      ftruncate(STDERR_FILENO, 0) != 0) {
    return;
  }
  if (writev(STDERR_FILENO, parts, 5) < 0) return;  // the disk is full, and there is nobody else to tell
}

}  // namespace berth
