// What a child of the monitor and the monitor tell each other between clone and exec: reports one way, "go on" the other.
// The channel is close-on-exec: its end without a report of failure means that the program runs.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>

#include "common/unique_fd.h"
#include "monitor/messages.h"

namespace berth {

enum class ReportKind : uint32_t {
  kHello = 0,     // from a child that another child has cloned, before anything else: the kernel tells its number
  kTerminal = 1,  // carries the terminal's master
  kReady = 2,     // a container's init waits to be started
  kFailed = 3,    // and the child has ended
  kPaused = 4,    // a container's init waits for the hooks that run outside
};

struct Report {
  ReportKind kind = ReportKind::kFailed;
  ErrorKind error_kind = ErrorKind::kInternal;
  int32_t errno_value = 0;
  char step[64] = {};
  char subject[512] = {};
  char message[1024] = {};
};

Failure to_failure(const Report& report);

// The child's end. Nothing here allocates or locks.
class ChildChannel {
 public:
  explicit ChildChannel(int fd) : fd_(fd) {}

  int fd() const { return fd_; }
  void send(ReportKind kind) const;
  void send_terminal(int master) const;
  // True: go on. False: the monitor has gone, or does not want the container any more.
  // `host_pid` receives the process's number on the host, as the monitor knows it.
  bool wait_for_go(int32_t& host_pid) const;
  // Each reports and ends the process; `errno_value` 0 means that no system call failed.
  [[noreturn]] void fail(ErrorKind kind, const char* step, const char* subject, int errno_value,
                         const char* message = "") const;
  // INVALID, with errno as it stands: the request's content made the step fail.
  [[noreturn]] void refuse(const char* step, const char* subject) const;
  // INTERNAL, with errno as it stands.
  [[noreturn]] void break_off(const char* step, const char* subject = "") const;

 private:
  int fd_;
};

// The monitor's end.
class ChildLink {
 public:
  enum class Result { kReport, kWouldBlock, kEnd };

  // Makes both ends; the child's is to be closed after the clone. False with errno.
  bool open(UniqueFd& child_end);
  void close() { fd_.reset(); }
  int fd() const { return fd_.get(); }
  explicit operator bool() const { return static_cast<bool>(fd_); }

  // `sender`: the number of the process that sent it, in this process's PID namespace.
  Result receive(Report& report, pid_t& sender, UniqueFd& descriptor);
  bool send_go(int32_t host_pid);

 private:
  UniqueFd fd_;
};

}  // namespace berth
