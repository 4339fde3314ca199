#include "monitor/event_loop.h"

#include <time.h>

#include <algorithm>
#include <cerrno>
#include <climits>

namespace berth {

uint64_t monotonic_ns() {
  timespec now = {};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000000000 + static_cast<uint64_t>(now.tv_nsec);
}

uint64_t monotonic_ms() { return monotonic_ns() / 1000000; }

int64_t realtime_ns() {
  timespec now = {};
  clock_gettime(CLOCK_REALTIME, &now);
  return now.tv_sec * 1000000000LL + now.tv_nsec;
}

void TimerBase::arm_in(uint64_t delay_ms) {
  const uint64_t now = monotonic_ms();
  deadline_ms_ = delay_ms > UINT64_MAX - now ? UINT64_MAX : now + delay_ms;
  if (armed_) return;
  armed_ = true;
  loop_.timers_.push_back(this);
}

void TimerBase::disarm() {
  if (!armed_) return;
  armed_ = false;
  std::erase(loop_.timers_, this);
}

bool EventLoop::open() {
  epoll_.reset(epoll_create1(EPOLL_CLOEXEC));
  return static_cast<bool>(epoll_);
}

bool EventLoop::add(int fd, uint32_t events, EventSource& source) {
  epoll_event event = {};
  event.events = events;
  event.data.ptr = &source;
  return epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0;
}

void EventLoop::change(int fd, uint32_t events, EventSource& source) {
  epoll_event event = {};
  event.events = events;
  event.data.ptr = &source;
  epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event);
}

void EventLoop::remove(int fd, EventSource& source) {
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
  for (int i = 0; i < round_size_; ++i) {
    if (round_[i].data.ptr == &source) round_[i].data.ptr = nullptr;
  }
}

int EventLoop::wait_ms() const {
  if (timers_.empty()) return -1;
  uint64_t nearest = UINT64_MAX;
  for (const TimerBase* timer : timers_) nearest = std::min(nearest, timer->deadline_ms_);
  const uint64_t now = monotonic_ms();
  if (nearest <= now) return 0;
  return static_cast<int>(std::min<uint64_t>(nearest - now, INT_MAX));
}

void EventLoop::run_timers() {
  const uint64_t now = monotonic_ms();
  // A timer may arm, disarm and destroy others: the list is looked at anew after each.
  for (;;) {
    const auto due = std::find_if(timers_.begin(), timers_.end(),
                                  [now](const TimerBase* timer) { return timer->deadline_ms_ <= now; });
    if (due == timers_.end()) return;
    TimerBase* timer = *due;
    timer->disarm();
    timer->on_time();
  }
}

void EventLoop::run() {
  stopped_ = false;
  while (!stopped_) {
    round_size_ = epoll_wait(epoll_.get(), round_, kRound, wait_ms());
    if (round_size_ < 0) {
      round_size_ = 0;
      if (errno != EINTR) return;
    }
    for (int i = 0; i < round_size_ && !stopped_; ++i) {
      auto* source = static_cast<EventSource*>(round_[i].data.ptr);
      if (source != nullptr) source->on_ready(round_[i].events);
    }
    round_size_ = 0;
    run_timers();
    disposed_.clear();
  }
}

}  // namespace berth
