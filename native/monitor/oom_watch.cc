#include "monitor/oom_watch.h"

#include <fcntl.h>
#include <sys/eventfd.h>

#include <cstdio>

namespace berth {

UniqueFd open_oom_notice(const std::string& oom_kill_file) {
  if (oom_kill_file.empty()) return UniqueFd();
  const std::string directory = oom_kill_file.substr(0, oom_kill_file.rfind('/'));
  if (!oom_kill_file.ends_with("/memory.oom_control")) {
    UniqueFd notice(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
    if (!notice || inotify_add_watch(notice.get(), oom_kill_file.c_str(), IN_MODIFY) < 0) return UniqueFd();
    return notice;
  }
  UniqueFd notice(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  const UniqueFd counter(open(oom_kill_file.c_str(), O_RDONLY | O_CLOEXEC));
  const UniqueFd control(open((directory + "/cgroup.event_control").c_str(), O_WRONLY | O_CLOEXEC));
  if (!notice || !counter || !control) return UniqueFd();
  char text[32];
  const int length = snprintf(text, sizeof text, "%d %d", notice.get(), counter.get());
  if (write(control.get(), text, static_cast<size_t>(length)) != length) return UniqueFd();
  return notice;
}

}  // namespace berth
