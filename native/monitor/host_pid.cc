#include "monitor/host_pid.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "common/unique_fd.h"

namespace berth {

int32_t host_pid_of(int pidfd) {
  char path[64];
  char text[512];
  snprintf(path, sizeof path, "/proc/self/fdinfo/%d", pidfd);
  const UniqueFd file(open(path, O_RDONLY | O_CLOEXEC));
  if (!file) return 0;
  const ssize_t length = read(file.get(), text, sizeof text - 1);
  if (length <= 0) return 0;
  text[length] = '\0';
  const char* line = strstr(text, "\nPid:");
  const long pid = line == nullptr ? 0 : strtol(line + 5, nullptr, 10);
  return pid > 0 ? static_cast<int32_t>(pid) : 0;
}

}  // namespace berth
