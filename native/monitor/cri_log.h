// The pod's log writer: one thread that reads the containers' output and writes the CRI log files. Regular files block, and
// nothing but output may wait for a slow disk.
//
// The thread neither allocates nor frees: a child of the monitor is a copy of it with only the main thread, and could find
// the allocator's lock held for ever.
#pragma once

#include <pthread.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "common/sys_error.h"
#include "common/unique_fd.h"
#include "monitor/attachment.h"
#include "monitor/cri_format.h"
#include "monitor/event_loop.h"
#include "monitor/messages.h"

namespace berth {

class LogWriter;

// Told on the main thread.
class LogObserver {
 public:
  virtual ~LogObserver() = default;
  // The answer to open() or reopen(); errno_value 0: done.
  virtual void on_log_opened(int errno_value) = 0;
  // All streams have ended (or were closed by finish()), and what they held is written.
  virtual void on_log_finished() = 0;
  virtual void on_log_dropped(const LogDropped& dropped) = 0;
  // One of those attached that could give input has ended it, or has gone.
  virtual void on_attached_input_ended() = 0;
};

// One container's log. Made by LogWriter::open; the main thread's functions only leave a note for the writer.
class ContainerLog {
 public:
  // `bytes_per_second`: 0 is no limit.
  ContainerLog(std::string path, size_t max_line_bytes, uint64_t bytes_per_second);

  const std::string& path() const { return path_; }

 private:
  friend class LogWriter;

  struct Stream final : public WriterSource {
    Stream(std::string_view name, size_t max_line_bytes) : formatter(name, max_line_bytes) {}
    void on_ready(uint32_t events) override;

    UniqueFd fd;
    RecordFormatter formatter;
    LogWriter* writer = nullptr;
    ContainerLog* log = nullptr;
    size_t number = 0;
    uint64_t read_ns = 0;  // when something was read last
    bool held_up = false;  // one of those attached does not take what was read
    bool paused() const { return held_up || log->limited_; }
  };

  // What the main thread asks, and what the writer answers: bits, under the writer's mutex.
  enum Order : uint32_t { kOpen = 1, kRead = 2, kFinish = 4, kRelease = 8, kAttach = 16 };
  enum Notice : uint32_t { kOpened = 1, kFinished = 2, kReleased = 4, kInputEnded = 8, kDropped = 16 };

  const std::string path_;
  const uint64_t bytes_per_second_;
  LogObserver* observer_ = nullptr;  // the main thread's

  // Under the mutex.
  uint32_t orders_ = 0;
  uint32_t notices_ = 0;
  int opened_errno_ = 0;
  bool made_file_ = false;
  ContainerLog* next_order_ = nullptr;
  ContainerLog* next_notice_ = nullptr;
  std::array<UniqueFd, 2> new_streams_;
  Attachment* new_attachments_ = nullptr;
  LogDropped dropped_;

  // The writer's.
  UniqueFd file_;
  std::array<Stream, 2> streams_;
  int open_streams_ = 0;
  bool started_ = false;
  uint64_t dropped_bytes_ = 0;  // not told yet
  uint64_t dropped_told_ms_ = 0;
  int dropped_errno_ = 0;
  bool dropping_ = false;
  bool limited_ = false;         // it has written more than it may, and is in the writer's list
  uint64_t paid_until_ns_ = 0;   // by what it may write in that time
  ContainerLog* next_limited_ = nullptr;
};

class LogWriter final : public AttachmentObserver {
 public:
  explicit LogWriter(EventLoop& loop) : loop_(loop) {}

  // Starts the thread. False with errno.
  bool start();
  // An empty path: output is read and dropped. on_log_opened() follows.
  ContainerLog* open(const Log& log, LogObserver& observer);
  // Opens the path anew (it was renamed); on_log_opened() follows. When that fails the old file stays in use.
  void reopen(ContainerLog* log);
  // Gives it the read ends; a descriptor that is not there is an ended stream.
  void read_from(ContainerLog* log, UniqueFd stdout_fd, UniqueFd stderr_fd);
  // What is there now is read, and the streams are closed, whoever else still has their other ends.
  void finish(ContainerLog* log);
  // From here on the output goes there, too.
  void attach(ContainerLog* log, std::unique_ptr<Attachment> attachment);
  // The observer hears no more. The log is deleted once the writer has let go of it. `unlink_made`: a file that was not
  // there before open() goes away again.
  void release(ContainerLog* log, bool unlink_made);

 private:
  class Output;
  friend class ContainerLog;
  static constexpr int kRestAfterMs = 1000;


  static void* run_thread(void* self);
  void run();
  void order(ContainerLog* log, uint32_t orders);
  void on_notice(uint32_t events);

  // On the writer's thread.
  void notify(ContainerLog& log, uint32_t notices);
  void take_orders();
  void open_file(ContainerLog& log);
  void start_reading(ContainerLog& log);
  void start_attachments(ContainerLog& log);
  void on_readable(ContainerLog::Stream& stream);
  bool watch(ContainerLog::Stream& stream, int operation);
  // The bytes read; 0: the stream has nothing more for now, or has ended.
  size_t read_once(ContainerLog::Stream& stream);
  void gather(ContainerLog::Stream& stream, size_t taken);
  void end_stream(ContainerLog::Stream& stream);
  void finish_streams(ContainerLog& log);
  void rest();
  void tell_dropped(ContainerLog& log, bool begins);
  void count(ContainerLog& log, size_t bytes);
  void watch_all(ContainerLog& log);
  void lift_limits(uint64_t now_ms);
  int wait_ms(bool rested) const;
  void on_drained(ContainerLog& log, size_t stream) override;
  void on_input_ended(ContainerLog& log) override;
  void on_detached(Attachment& attachment) override;

  EventLoop& loop_;
  Notifier<LogWriter, &LogWriter::on_notice> on_notice_{*this};
  UniqueFd epoll_;
  UniqueFd order_event_;
  UniqueFd notice_event_;
  bool started_ = false;
  // The writer's.
  Attachments attachments_{*this};
  ContainerLog* first_limited_ = nullptr;

  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
  ContainerLog* first_order_ = nullptr;
  ContainerLog* first_notice_ = nullptr;
  Attachment* detached_ = nullptr;
};

}  // namespace berth
