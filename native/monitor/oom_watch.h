// Notices of OOM kills in a cgroup, for events and metrics only: whether a container was killed by it is decided at its
// exit, from the counter.
#pragma once

#include <sys/inotify.h>
#include <unistd.h>

#include <cstdint>
#include <string>

#include "common/unique_fd.h"
#include "monitor/cgroup.h"
#include "monitor/event_loop.h"

namespace berth {

// A descriptor that becomes readable when `oom_kill_file` may have changed: inotify for memory.events (v2), an eventfd that
// is registered in cgroup.event_control for memory.oom_control (v1). Invalid when there is no such notice.
UniqueFd open_oom_notice(const std::string& oom_kill_file);

template <typename Owner, void (Owner::*Method)(uint64_t)>
class OomWatch {
 public:
  OomWatch(EventLoop& loop, Owner& owner) : loop_(loop), owner_(owner) {}
  ~OomWatch() { stop(); }
  OomWatch(const OomWatch&) = delete;
  OomWatch& operator=(const OomWatch&) = delete;

  void start(const std::string& oom_kill_file, uint64_t kills) {
    file_ = oom_kill_file;
    kills_ = kills;
    notice_ = open_oom_notice(file_);
    if (notice_ && !loop_.add(notice_.get(), EPOLLIN, on_notice_)) notice_.reset();
  }

  void stop() {
    if (notice_) loop_.remove(notice_.get(), on_notice_);
    notice_.reset();
  }

 private:
  void on_notice(uint32_t) {
    char ignored[512];
    if (read(notice_.get(), ignored, sizeof ignored) < 0) return;
    const uint64_t kills = read_oom_kills(file_);
    if (kills <= kills_) return;
    kills_ = kills;
    (owner_.*Method)(kills);
  }

  EventLoop& loop_;
  Owner& owner_;
  Notifier<OomWatch, &OomWatch::on_notice> on_notice_{*this};
  std::string file_;
  UniqueFd notice_;
  uint64_t kills_ = 0;
};

}  // namespace berth
