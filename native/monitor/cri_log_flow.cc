// What lets the log's writer read on, or makes a container wait: see cri_log.h.
#include <sys/epoll.h>
#include <time.h>

#include <algorithm>
#include <utility>

#include "monitor/cri_log.h"

namespace berth {

namespace {

// Reads of one stream in a row, before the others get their turn.
constexpr int kReadsPerTurn = 4;
constexpr uint64_t kNsPerMs = 1000000;
// Reads of so little, so soon after each other, are gathered: see gather().
constexpr size_t kLittleBytes = 16 << 10;
constexpr uint64_t kOftenNs = kNsPerMs / 2;
constexpr uint64_t kAloneNs = 1000 * kNsPerMs;
constexpr long kMomentNs = 100000;
// A container with a limit may write so much of a second's output at once.
constexpr uint64_t kBurstNs = 100 * kNsPerMs;

}  // namespace

bool LogWriter::watch(ContainerLog::Stream& stream, int operation) {
  epoll_event event = {};
  // Of one that is paused the end would be told all the same, again and again.
  event.events = stream.paused() ? EPOLLET : EPOLLIN;
  event.data.ptr = static_cast<WriterSource*>(&stream);
  return epoll_ctl(epoll_.get(), operation, stream.fd.get(), &event) == 0;
}

void LogWriter::on_readable(ContainerLog::Stream& stream) {
  size_t taken = kReadBytes;
  for (int turn = 0; turn < kReadsPerTurn && !stream.paused() && taken == kReadBytes; ++turn) taken = read_once(stream);
  if (taken > 0) gather(stream, taken);
}

// A program that writes often and little at a time would wake the thread for each of its writes: what it writes within a
// moment is read at once. Not of one that writes to both streams, since that tells which of two lines came first.
void LogWriter::gather(ContainerLog::Stream& stream, size_t taken) {
  const uint64_t now_ns = monotonic_ns();
  const bool often = now_ns - std::exchange(stream.read_ns, now_ns) < kOftenNs;
  const bool alone = now_ns - stream.log->streams_[1 - stream.number].read_ns > kAloneNs;
  if (taken > kLittleBytes || !often || !alone) return;
  const timespec moment = {.tv_sec = 0, .tv_nsec = kMomentNs};
  nanosleep(&moment, nullptr);
}

void LogWriter::on_drained(ContainerLog& log, size_t number) {
  ContainerLog::Stream& stream = log.streams_[number];
  if (!stream.held_up || !stream.fd) return;
  stream.held_up = false;
  watch(stream, EPOLL_CTL_MOD);
}

void LogWriter::count(ContainerLog& log, size_t bytes) {
  const uint64_t now_ns = monotonic_ms() * kNsPerMs;
  log.paid_until_ns_ = std::max(log.paid_until_ns_, now_ns) + bytes * 1000 * kNsPerMs / log.bytes_per_second_;
  if (log.limited_ || log.paid_until_ns_ - now_ns <= kBurstNs) return;
  log.limited_ = true;
  log.next_limited_ = first_limited_;
  first_limited_ = &log;
  watch_all(log);
}

void LogWriter::watch_all(ContainerLog& log) {
  for (ContainerLog::Stream& stream : log.streams_) {
    if (stream.fd) watch(stream, EPOLL_CTL_MOD);
  }
}

void LogWriter::lift_limits(uint64_t now_ms) {
  for (ContainerLog** place = &first_limited_; *place != nullptr;) {
    ContainerLog& log = **place;
    if (log.paid_until_ns_ > now_ms * kNsPerMs) {
      place = &log.next_limited_;
      continue;
    }
    *place = log.next_limited_;
    log.limited_ = false;
    watch_all(log);
  }
}

int LogWriter::wait_ms(bool rested) const {
  int wait = rested && !attachments_.any_held() ? -1 : kRestAfterMs;
  if (first_limited_ == nullptr) return wait;
  const uint64_t now_ns = monotonic_ms() * kNsPerMs;
  for (const ContainerLog* log = first_limited_; log != nullptr; log = log->next_limited_) {
    const uint64_t left_ms = log->paid_until_ns_ <= now_ns ? 0 : (log->paid_until_ns_ - now_ns) / kNsPerMs + 1;
    const auto left = static_cast<int>(std::min<uint64_t>(left_ms, kRestAfterMs));
    wait = wait < 0 ? left : std::min(wait, left);
  }
  return wait;
}

}  // namespace berth
