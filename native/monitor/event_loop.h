// One epoll loop with timers. Everything in the monitor but the log writer runs on it.
#pragma once

#include <sys/epoll.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "common/unique_fd.h"

namespace berth {

class EventSource {
 public:
  virtual ~EventSource() = default;
  virtual void on_ready(uint32_t events) = 0;
};

// Calls a member function of its owner. The owner outlives it.
template <typename Owner, void (Owner::*Method)(uint32_t)>
class Notifier final : public EventSource {
 public:
  explicit Notifier(Owner& owner) : owner_(owner) {}
  void on_ready(uint32_t events) override { (owner_.*Method)(events); }

 private:
  Owner& owner_;
};

class EventLoop;

// Armed at most once at a time; disarmed by its destructor.
class TimerBase {
 public:
  explicit TimerBase(EventLoop& loop) : loop_(loop) {}
  TimerBase(const TimerBase&) = delete;
  TimerBase& operator=(const TimerBase&) = delete;
  virtual ~TimerBase() { disarm(); }

  void arm_in(uint64_t delay_ms);
  void disarm();
  bool armed() const { return armed_; }
  virtual void on_time() = 0;

 private:
  friend class EventLoop;
  EventLoop& loop_;
  uint64_t deadline_ms_ = 0;
  bool armed_ = false;
};

template <typename Owner, void (Owner::*Method)()>
class Timer final : public TimerBase {
 public:
  Timer(EventLoop& loop, Owner& owner) : TimerBase(loop), owner_(owner) {}
  void on_time() override { (owner_.*Method)(); }

 private:
  Owner& owner_;
};

// What is destroyed only when the current round of events is over, because one of its own functions is running.
class Disposable {
 public:
  virtual ~Disposable() = default;
};

class EventLoop {
 public:
  // False: epoll_create1 failed.
  bool open();
  // Level-triggered. False with errno when the kernel refuses.
  bool add(int fd, uint32_t events, EventSource& source);
  void change(int fd, uint32_t events, EventSource& source);
  // Before the descriptor is closed. The source gets no event any more, also none of the current round.
  void remove(int fd, EventSource& source);
  void dispose(std::unique_ptr<Disposable> object) { disposed_.push_back(std::move(object)); }

  // Until stop() is called by one of the sources.
  void run();
  void stop() { stopped_ = true; }

 private:
  friend class TimerBase;
  int wait_ms() const;
  void run_timers();

  static constexpr int kRound = 32;

  UniqueFd epoll_;
  epoll_event round_[kRound] = {};
  int round_size_ = 0;
  std::vector<TimerBase*> timers_;
  std::vector<std::unique_ptr<Disposable>> disposed_;
  bool stopped_ = false;
};

uint64_t monotonic_ns();
uint64_t monotonic_ms();
int64_t realtime_ns();

}  // namespace berth
