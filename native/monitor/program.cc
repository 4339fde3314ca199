#include "monitor/program.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>

namespace berth {

namespace {

constexpr const char* kDefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

void close_from_to(unsigned first, unsigned last, const ChildChannel& channel) {
  if (first > last) return;
  if (syscall(SYS_close_range, first, last, 0) != 0) channel.break_off("close_range");
}

const char* search_path(char* const* envp) {
  for (; *envp != nullptr; ++envp) {
    if (strncmp(*envp, "PATH=", 5) == 0) return *envp + 5;
  }
  return kDefaultPath;
}

}  // namespace

ProgramVectors::ProgramVectors(const std::vector<std::string>& args, const std::vector<std::string>& env) {
  for (const std::string& arg : args) argv_.push_back(const_cast<char*>(arg.c_str()));
  argv_.push_back(nullptr);
  for (const std::string& variable : env) envp_.push_back(const_cast<char*>(variable.c_str()));
  envp_.push_back(nullptr);
}

bool make_stream(UniqueFd& read_end, UniqueFd& write_end, uid_t owner) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return false;
  read_end.reset(ends[0]);
  write_end.reset(ends[1]);
  return owner == 0 || fchown(ends[0], owner, static_cast<gid_t>(-1)) == 0;
}

void Descriptors::sort() {
  std::erase_if(kept, [](int fd) { return fd < 0; });
  std::sort(kept.begin(), kept.end());
}

void keep_only(const Descriptors& descriptors, const ChildChannel& channel) {
  // The monitor's own 0, 1 and 2 are always open (main.cc), so that none of the others is among them.
  const int streams[] = {descriptors.stdin_fd, descriptors.stdout_fd, descriptors.stderr_fd};
  for (int stream = 0; stream < 3; ++stream) {
    if (streams[stream] >= 0 && dup2(streams[stream], stream) < 0) channel.break_off("dup2");
  }
  unsigned next = 3;
  for (const int fd : descriptors.kept) {
    const auto kept = static_cast<unsigned>(fd);
    if (kept > next) close_from_to(next, kept - 1, channel);
    next = std::max(next, kept + 1);
  }
  close_from_to(next, ~0U, channel);
}

void keep_only_channel(const ChildChannel& channel) {
  const auto fd = static_cast<unsigned>(channel.fd());
  close_from_to(3, fd - 1, channel);
  close_from_to(fd + 1, ~0U, channel);
}

bool is_null_device(int fd) {
  struct stat status = {};
  return fstat(fd, &status) == 0 && S_ISCHR(status.st_mode) && status.st_rdev == makedev(1, 3);
}

void use_own_null_device(const ChildChannel& channel) {
  // Something else may have been put there: nothing is waited for, and it is looked at before it is used.
  const UniqueFd null(open("/dev/null", O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!null || !is_null_device(null.get()) || fcntl(null.get(), F_SETFL, 0) != 0) return;
  for (int stream = 0; stream < 3; ++stream) {
    if (is_null_device(stream) && dup2(null.get(), stream) < 0) channel.break_off("dup2");
  }
}

bool enter_working_directory(const Process& process, WhoEnters who, const ChildChannel& channel) {
  const char* path = process.cwd.empty() ? "/" : process.cwd.c_str();
  if (chdir(path) != 0) {
    if (who == WhoEnters::kRoot && (errno == EACCES || errno == EPERM)) return false;
    channel.refuse("enter the working directory", path);
  }
  // The system call itself: the kernel puts "(unreachable)" in front of a directory that is not below the root.
  char found[PATH_MAX];
  const long length = syscall(SYS_getcwd, found, sizeof found);
  if (length <= 0) channel.refuse("getcwd", path);
  if (found[0] != '/') {
    channel.fail(ErrorKind::kInvalid, "enter the working directory", path, 0,
                 "the working directory is outside of the container's root");
  }
  return true;
}

void start_session(bool terminal, const ChildChannel& channel) {
  if (setsid() < 0) channel.break_off("setsid");
  if (terminal && ioctl(STDIN_FILENO, TIOCSCTTY, 0) != 0) channel.break_off("take the terminal");
}

void reset_signals() {
  struct sigaction action = {};
  action.sa_handler = SIG_DFL;
  // SIGKILL, SIGSTOP and glibc's own two are refused, and need nothing.
  for (int signal = 1; signal <= SIGRTMAX; ++signal) sigaction(signal, &action, nullptr);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
}

void execute(const Process& process, const ProgramVectors& vectors, const ChildChannel& channel) {
  const char* name = process.args.front().c_str();
  if (strchr(name, '/') != nullptr) {
    execve(name, vectors.argv(), vectors.envp());
    channel.refuse("execve", name);
  }
  int found_errno = ENOENT;
  const size_t name_length = strlen(name);
  for (const char* part = search_path(vectors.envp());; ++part) {
    const size_t length = strcspn(part, ":");
    char path[PATH_MAX];
    if (length > 0 && name_length > 0 && length + 1 + name_length < sizeof path) {
      memcpy(path, part, length);
      path[length] = '/';
      memcpy(path + length + 1, name, name_length + 1);
      execve(path, vectors.argv(), vectors.envp());
      // One that is there but may not be executed is told only when no other is found.
      if (errno == EACCES) {
        found_errno = EACCES;
      } else if (errno != ENOENT && errno != ENOTDIR) {
        channel.refuse("execve", name);
      }
    }
    part += length;
    if (*part == '\0') break;
  }
  channel.fail(ErrorKind::kInvalid, "execve", name, found_errno);
}

}  // namespace berth
