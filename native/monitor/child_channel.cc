#include "monitor/child_channel.h"

#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace berth {

namespace {

template <size_t Size>
void copy_text(char (&into)[Size], const char* text) {
  const size_t length = strnlen(text, Size - 1);
  memcpy(into, text, length);
  into[length] = '\0';
}

}  // namespace

Failure to_failure(const Report& report) {
  return Failure{report.error_kind, SysError{report.step, report.errno_value, report.subject}, report.message};
}

void ChildChannel::send(ReportKind kind) const {
  Report report;
  report.kind = kind;
  // write, not send: a container's seccomp filter may already be in force.
  if (write(fd_, &report, sizeof report) != sizeof report) _exit(1);
}

void ChildChannel::send_terminal(int master) const {
  Report report;
  report.kind = ReportKind::kTerminal;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  iovec part = {&report, sizeof report};
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  cmsghdr* rights = CMSG_FIRSTHDR(&message);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(rights), &master, sizeof master);
  if (sendmsg(fd_, &message, MSG_NOSIGNAL) < 0) break_off("pass the terminal");
}

bool ChildChannel::wait_for_go(int32_t& host_pid) const {
  ssize_t count;
  do {
    count = read(fd_, &host_pid, sizeof host_pid);
  } while (count < 0 && errno == EINTR);
  return count == sizeof host_pid;
}

void ChildChannel::fail(ErrorKind kind, const char* step, const char* subject, int errno_value,
                        const char* message) const {
  Report report;
  report.kind = ReportKind::kFailed;
  report.error_kind = kind;
  report.errno_value = errno_value;
  copy_text(report.step, step);
  copy_text(report.subject, subject);
  copy_text(report.message, message);
  if (write(fd_, &report, sizeof report) < 0) _exit(2);
  _exit(1);
}

void ChildChannel::refuse(const char* step, const char* subject) const {
  fail(ErrorKind::kInvalid, step, subject, errno);
}

void ChildChannel::break_off(const char* step, const char* subject) const {
  fail(ErrorKind::kInternal, step, subject, errno);
}

bool ChildLink::open(UniqueFd& child_end) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return false;
  fd_.reset(ends[0]);
  child_end.reset(ends[1]);
  const int on = 1;
  return setsockopt(fd_.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == 0;
}

ChildLink::Result ChildLink::receive(Report& report, pid_t& sender, UniqueFd& descriptor) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(ucred))];
  iovec part = {&report, sizeof report};
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t count;
  do {
    count = recvmsg(fd_.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  } while (count < 0 && errno == EINTR);
  if (count < 0 && errno == EAGAIN) return Result::kWouldBlock;
  if (count != sizeof report) return Result::kEnd;
  for (cmsghdr* piece = CMSG_FIRSTHDR(&message); piece != nullptr; piece = CMSG_NXTHDR(&message, piece)) {
    if (piece->cmsg_level != SOL_SOCKET) continue;
    if (piece->cmsg_type == SCM_CREDENTIALS) {
      ucred credentials;
      memcpy(&credentials, CMSG_DATA(piece), sizeof credentials);
      sender = credentials.pid;
    } else if (piece->cmsg_type == SCM_RIGHTS) {
      int fd = -1;
      memcpy(&fd, CMSG_DATA(piece), sizeof fd);
      descriptor.reset(fd);
    }
  }
  report.step[sizeof report.step - 1] = '\0';
  report.subject[sizeof report.subject - 1] = '\0';
  report.message[sizeof report.message - 1] = '\0';
  return Result::kReport;
}

bool ChildLink::send_go(int32_t host_pid) {
  return ::send(fd_.get(), &host_pid, sizeof host_pid, MSG_NOSIGNAL | MSG_DONTWAIT) == sizeof host_pid;
}

}  // namespace berth
