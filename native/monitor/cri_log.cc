#include "monitor/cri_log.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "monitor/monitor_log.h"

namespace berth {

namespace {

constexpr size_t kPage = 4096;
constexpr size_t kOutputBytes = 512 << 10;
constexpr size_t kPrefixBytes = 64;
static_assert(kOutputBytes > kLargestLineBytes + kPrefixBytes + 1);
// finish() reads so much of a stream at most, since another process may go on filling it.
constexpr int kReadsToFinish = 16;
constexpr uint64_t kTellDroppedMs = 1000;
// How often those attached are looked at, while one of them holds up a container.
constexpr uint64_t kStalledLookMs = 1000;
#ifdef __SANITIZE_ADDRESS__
constexpr size_t kStackBytes = 1 << 20;
#else
constexpr size_t kStackBytes = 64 << 10;
#endif

// The writer's only buffers. They cost memory while they are in use, and are given back when the pod is quiet.
struct Buffers {
  // What was held back of a stream is put at the end of `before_data`.
  alignas(kPage) char before_data[kLargestLineBytes];
  char data[kReadBytes];
  alignas(kPage) char output[kOutputBytes];
};
Buffers buffers;

void wake(int event) {
  const uint64_t one = 1;
  // It fails only when the counter is full, and then its reader is awake anyway.
  if (write(event, &one, sizeof one) < 0) return;
}

void clear(int event) {
  uint64_t count = 0;
  if (read(event, &count, sizeof count) < 0) return;
}

class Lock {
 public:
  explicit Lock(pthread_mutex_t& mutex) : mutex_(mutex) { pthread_mutex_lock(&mutex_); }
  ~Lock() { pthread_mutex_unlock(&mutex_); }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;

 private:
  pthread_mutex_t& mutex_;
};

// 0 or errno. A file that is there but not a regular one is refused: a fifo would block, a device would be written to.
int open_log_file(const char* path, UniqueFd& file, bool& made) {
  constexpr int kFlags = O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
  UniqueFd opened(open(path, kFlags | O_EXCL, 0640));
  made = static_cast<bool>(opened);
  if (!opened && errno == EEXIST) opened.reset(open(path, kFlags, 0640));
  if (!opened) return errno;
  struct stat status = {};
  if (fstat(opened.get(), &status) != 0) return errno;
  if (!S_ISREG(status.st_mode)) return EINVAL;
  file = std::move(opened);
  return 0;
}

}  // namespace

// Whole records to one log's file, in as few writes as there is room for.
class LogWriter::Output final : public RecordSink {
 public:
  Output(LogWriter& writer, ContainerLog& log) : writer_(writer), log_(log) {}
  ~Output() override { flush(); }

  char* reserve(size_t size) override {
    if (used_ + size > sizeof buffers.output) flush();
    return buffers.output + used_;
  }
  void commit(size_t size) override { used_ += size; }

 private:
  void flush();
  void drop(size_t written, int reason);

  LogWriter& writer_;
  ContainerLog& log_;
  size_t used_ = 0;
};

void LogWriter::Output::flush() {
  size_t written = 0;
  while (written < used_) {
    const ssize_t count = write(log_.file_.get(), buffers.output + written, used_ - written);
    if (count > 0) {
      written += static_cast<size_t>(count);
    } else if (count == 0 || errno != EINTR) {
      drop(written, count == 0 ? ENOSPC : errno);
      break;
    }
  }
  if (written == used_ && used_ > 0 && log_.dropping_) {
    log_.dropping_ = false;
    writer_.tell_dropped(log_, false);
    monitor_log(log_.path_, "it can be written to again; what was dropped before is missing");
  }
  used_ = 0;
}

// The disk is full or broken. The container goes on; what could be written of the batch stays, up to a record's end.
void LogWriter::Output::drop(size_t written, int reason) {
  size_t whole = written;
  while (whole > 0 && buffers.output[whole - 1] != '\n') --whole;
  struct stat status = {};
  const auto torn = static_cast<off_t>(written - whole);
  if (torn > 0 && fstat(log_.file_.get(), &status) == 0 && status.st_size >= torn &&
      ftruncate(log_.file_.get(), status.st_size - torn) != 0) {
    monitor_log(log_.path_, "a torn record could not be taken back");
  }
  log_.dropped_bytes_ += used_ - whole;
  log_.dropped_errno_ = reason;
  if (!log_.dropping_) monitor_log(log_.path_, strerrordesc_np(reason));
  if (!log_.dropping_ || monotonic_ms() - log_.dropped_told_ms_ >= kTellDroppedMs) {
    writer_.tell_dropped(log_, !log_.dropping_);
  }
  log_.dropping_ = true;
}

void ContainerLog::Stream::on_ready(uint32_t) { writer->on_readable(*this); }

ContainerLog::ContainerLog(std::string path, size_t max_line_bytes, uint64_t bytes_per_second)
    : path_(std::move(path)),
      bytes_per_second_(bytes_per_second),
      streams_{Stream("stdout", max_line_bytes), Stream("stderr", max_line_bytes)} {
  for (size_t i = 0; i < streams_.size(); ++i) {
    streams_[i].log = this;
    streams_[i].number = i;
  }
}

// ---- the main thread ----

bool LogWriter::start() {
  if (started_) return true;
  epoll_.reset(epoll_create1(EPOLL_CLOEXEC));
  order_event_.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  notice_event_.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!epoll_ || !order_event_ || !notice_event_) return false;
  attachments_.use(epoll_.get());
  epoll_event event = {};
  event.events = EPOLLIN;
  event.data.ptr = nullptr;
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, order_event_.get(), &event) != 0) return false;
  if (!loop_.add(notice_event_.get(), EPOLLIN, on_notice_)) return false;
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kStackBytes);
  pthread_t thread;
  const int failed = pthread_create(&thread, &attributes, run_thread, this);
  pthread_attr_destroy(&attributes);
  if (failed != 0) {
    loop_.remove(notice_event_.get(), on_notice_);
    errno = failed;
    return false;
  }
  pthread_detach(thread);
  started_ = true;
  return true;
}

void LogWriter::order(ContainerLog* log, uint32_t orders) {
  {
    const Lock lock(mutex_);
    if (log->orders_ == 0) {
      log->next_order_ = first_order_;
      first_order_ = log;
    }
    log->orders_ |= orders;
  }
  wake(order_event_.get());
}

ContainerLog* LogWriter::open(const Log& wanted, LogObserver& observer) {
  const size_t line_bytes = wanted.max_line_bytes == 0 ? kDefaultLineBytes : wanted.max_line_bytes;
  auto* log = new ContainerLog(wanted.path, std::min(line_bytes, kLargestLineBytes), wanted.bytes_per_second);
  log->observer_ = &observer;
  order(log, ContainerLog::kOpen);
  return log;
}

void LogWriter::reopen(ContainerLog* log) { order(log, ContainerLog::kOpen); }

void LogWriter::read_from(ContainerLog* log, UniqueFd stdout_fd, UniqueFd stderr_fd) {
  {
    const Lock lock(mutex_);
    log->new_streams_[0] = std::move(stdout_fd);
    log->new_streams_[1] = std::move(stderr_fd);
  }
  order(log, ContainerLog::kRead);
}

void LogWriter::attach(ContainerLog* log, std::unique_ptr<Attachment> attachment) {
  {
    const Lock lock(mutex_);
    attachment->next = log->new_attachments_;
    log->new_attachments_ = attachment.release();
  }
  order(log, ContainerLog::kAttach);
}

void LogWriter::finish(ContainerLog* log) { order(log, ContainerLog::kFinish); }

void LogWriter::release(ContainerLog* log, bool unlink_made) {
  log->observer_ = nullptr;
  bool made = false;
  {
    const Lock lock(mutex_);
    made = log->made_file_;
  }
  if (unlink_made && made) unlink(log->path_.c_str());
  order(log, ContainerLog::kRelease);
}

void LogWriter::on_notice(uint32_t) {
  clear(notice_event_.get());
  Attachment* detached;
  {
    const Lock lock(mutex_);
    detached = std::exchange(detached_, nullptr);
  }
  while (detached != nullptr) {
    const std::unique_ptr<Attachment> last(detached);
    detached = detached->next;
  }
  for (;;) {
    ContainerLog* log;
    uint32_t notices;
    int opened_errno;
    LogDropped dropped;
    {
      const Lock lock(mutex_);
      log = first_notice_;
      if (log == nullptr) return;
      first_notice_ = log->next_notice_;
      notices = log->notices_;
      log->notices_ = 0;
      opened_errno = log->opened_errno_;
      dropped = std::exchange(log->dropped_, LogDropped{});
    }
    if ((notices & ContainerLog::kReleased) != 0) {
      delete log;
      continue;
    }
    if ((notices & ContainerLog::kOpened) != 0 && log->observer_ != nullptr) {
      log->observer_->on_log_opened(opened_errno);
    }
    if ((notices & ContainerLog::kDropped) != 0 && log->observer_ != nullptr) log->observer_->on_log_dropped(dropped);
    if ((notices & ContainerLog::kInputEnded) != 0 && log->observer_ != nullptr) {
      log->observer_->on_attached_input_ended();
    }
    if ((notices & ContainerLog::kFinished) != 0 && log->observer_ != nullptr) log->observer_->on_log_finished();
  }
}

// ---- the writer's thread ----

void* LogWriter::run_thread(void* self) {
  static_cast<LogWriter*>(self)->run();
  return nullptr;
}

void LogWriter::notify(ContainerLog& log, uint32_t notices) {
  {
    const Lock lock(mutex_);
    if (log.notices_ == 0) {
      log.next_notice_ = first_notice_;
      first_notice_ = &log;
    }
    log.notices_ |= notices;
  }
  wake(notice_event_.get());
}

void LogWriter::take_orders() {
  clear(order_event_.get());
  for (;;) {
    ContainerLog* log;
    uint32_t orders;
    {
      const Lock lock(mutex_);
      log = first_order_;
      if (log == nullptr) return;
      first_order_ = log->next_order_;
      orders = log->orders_;
      log->orders_ = 0;
    }
    if ((orders & ContainerLog::kOpen) != 0) open_file(*log);
    if ((orders & ContainerLog::kRead) != 0) start_reading(*log);
    if ((orders & ContainerLog::kAttach) != 0) start_attachments(*log);
    if ((orders & ContainerLog::kFinish) != 0) finish_streams(*log);
    if ((orders & ContainerLog::kRelease) != 0) {
      attachments_.release(*log);
      for (ContainerLog** place = &first_limited_; *place != nullptr; place = &(*place)->next_limited_) {
        if (*place != log) continue;
        *place = log->next_limited_;
        break;
      }
      for (ContainerLog::Stream& stream : log->streams_) stream.fd.reset();
      log->file_.reset();
      notify(*log, ContainerLog::kReleased);  // nothing may touch it from here on
    }
  }
}

void LogWriter::open_file(ContainerLog& log) {
  bool made = false;
  const int failed = log.path_.empty() ? 0 : open_log_file(log.path_.c_str(), log.file_, made);
  {
    const Lock lock(mutex_);
    log.opened_errno_ = failed;
    log.made_file_ |= made;
  }
  notify(log, ContainerLog::kOpened);
}

void LogWriter::start_reading(ContainerLog& log) {
  log.started_ = true;
  for (size_t i = 0; i < log.streams_.size(); ++i) {
    ContainerLog::Stream& stream = log.streams_[i];
    stream.writer = this;
    {
      const Lock lock(mutex_);
      stream.fd = std::move(log.new_streams_[i]);
    }
    if (!stream.fd) continue;
    if (!watch(stream, EPOLL_CTL_ADD)) {
      monitor_log(log.path_, "its output cannot be watched");
      stream.fd.reset();
      continue;
    }
    ++log.open_streams_;
  }
  if (log.open_streams_ == 0) notify(log, ContainerLog::kFinished);
}

void LogWriter::start_attachments(ContainerLog& log) {
  Attachment* attachment;
  {
    const Lock lock(mutex_);
    attachment = std::exchange(log.new_attachments_, nullptr);
  }
  if (attachment == nullptr) return;
  while (attachment != nullptr) {
    Attachment& current = *attachment;
    attachment = attachment->next;
    attachments_.add(current, log);
  }
  if (!log.started_) return;
  for (const ContainerLog::Stream& stream : log.streams_) {
    if (!stream.fd) attachments_.end(log, stream.number);
  }
}

size_t LogWriter::read_once(ContainerLog::Stream& stream) {
  ssize_t count;
  do {
    count = read(stream.fd.get(), buffers.data, sizeof buffers.data);
  } while (count < 0 && errno == EINTR);
  if (count < 0 && errno == EAGAIN) return 0;
  // A terminal whose other end is closed says EIO.
  if (count <= 0) {
    end_stream(stream);
    return 0;
  }
  ContainerLog& log = *stream.log;
  // What was read may answer one who has been told already that he is attached.
  start_attachments(log);
  if (!attachments_.pass(log, stream.number, buffers.data, static_cast<size_t>(count)) && !stream.held_up) {
    stream.held_up = true;
    watch(stream, EPOLL_CTL_MOD);
  }
  if (log.bytes_per_second_ > 0) this->count(log, static_cast<size_t>(count));
  if (!log.file_) return static_cast<size_t>(count);
  timespec now = {};
  clock_gettime(CLOCK_REALTIME, &now);
  const char* data = stream.formatter.prepend_held(buffers.data);
  const auto length = static_cast<size_t>(buffers.data + count - data);
  Output output(*this, log);
  stream.formatter.format(data, length, now.tv_sec * 1000000000LL + now.tv_nsec, output);
  return static_cast<size_t>(count);
}

void LogWriter::end_stream(ContainerLog::Stream& stream) {
  ContainerLog& log = *stream.log;
  if (log.file_) {
    Output output(*this, log);
    stream.formatter.finish(realtime_ns(), output);
  }
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, stream.fd.get(), nullptr);
  stream.fd.reset();
  attachments_.end(log, stream.number);
  if (--log.open_streams_ > 0) return;
  if (log.dropped_bytes_ > 0) tell_dropped(log, false);
  notify(log, ContainerLog::kFinished);
}

void LogWriter::finish_streams(ContainerLog& log) {
  for (ContainerLog::Stream& stream : log.streams_) {
    if (!stream.fd) continue;
    for (int turn = 0; turn < kReadsToFinish && read_once(stream) > 0; ++turn) continue;
    if (stream.fd) end_stream(stream);
  }
}

void LogWriter::tell_dropped(ContainerLog& log, bool begins) {
  {
    const Lock lock(mutex_);
    log.dropped_.bytes += log.dropped_bytes_;
    log.dropped_.errno_value = log.dropped_errno_;
    log.dropped_.begins |= begins;
  }
  log.dropped_bytes_ = 0;
  log.dropped_told_ms_ = monotonic_ms();
  notify(log, ContainerLog::kDropped);
}

// ---- those attached ----

void LogWriter::on_input_ended(ContainerLog& log) { notify(log, ContainerLog::kInputEnded); }

void LogWriter::on_detached(Attachment& attachment) {
  {
    const Lock lock(mutex_);
    attachment.next = detached_;
    detached_ = &attachment;
  }
  wake(notice_event_.get());
}

void LogWriter::rest() { madvise(&buffers, sizeof buffers, MADV_DONTNEED); }

void LogWriter::run() {
  bool rested = true;
  uint64_t stalled_look_ms = 0;
  for (;;) {
    // One at a time: what is done for one may end another.
    epoll_event event;
    const int wait = wait_ms(rested);
    const int count = epoll_wait(epoll_.get(), &event, 1, wait);
    if (count < 0 && errno != EINTR) return;
    if (first_limited_ != nullptr) lift_limits(monotonic_ms());
    if (count == 0 && wait == kRestAfterMs && !rested) {
      rest();
      rested = true;
    }
    if (attachments_.any_held() && monotonic_ms() - stalled_look_ms >= kStalledLookMs) {
      stalled_look_ms = monotonic_ms();
      attachments_.cut_off_stalled(stalled_look_ms);
    }
    if (count <= 0) continue;
    if (event.data.ptr == nullptr) {
      take_orders();
      continue;
    }
    rested = false;
    static_cast<WriterSource*>(event.data.ptr)->on_ready(event.events);
  }
}

}  // namespace berth
