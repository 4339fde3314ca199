#include "monitor/hooks.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "common/clone3.h"

namespace berth {

namespace {

constexpr int kPollMs = 5;
constexpr int kStopped = 1;

struct Pipe {
  UniqueFd read_end;
  UniqueFd write_end;

  Pipe(const char* path, const HookStage& stage, const ChildChannel& channel) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) channel.fail(ErrorKind::kInternal, stage.step, path, errno);
    read_end.reset(ends[0]);
    write_end.reset(ends[1]);
  }
};

// The beginning of what a hook wrote, with as much as a report has room for.
struct Output {
  char text[sizeof(Report::message) - 64] = {};
  size_t length = 0;

  void add(const char* data, size_t size) {
    const size_t room = sizeof text - 1 - length;
    const size_t taken = size < room ? size : room;
    memcpy(text + length, data, taken);
    length += taken;
  }
  const char* trimmed() {
    while (length > 0 && (text[length - 1] == '\n' || text[length - 1] == ' ')) --length;
    text[length] = '\0';
    return text;
  }
};

uint64_t now_ms() {
  timespec now = {};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000 + static_cast<uint64_t>(now.tv_nsec) / 1000000;
}

[[noreturn]] void execute_hook(const Hook& hook, const ProgramVectors& vectors, int in, int out, int failed) {
  if (dup2(in, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0 || dup2(out, STDERR_FILENO) < 0 || setsid() < 0 ||
      syscall(SYS_close_range, STDERR_FILENO + 1, ~0U, CLOSE_RANGE_CLOEXEC) != 0) {
    _exit(kStopped);
  }
  reset_signals();
  execve(hook.path.c_str(), vectors.argv(), vectors.envp());
  const int reason = errno;
  if (write(failed, &reason, sizeof reason) < 0) _exit(kStopped);
  _exit(kStopped);
}

// The state, and the number that ends it, as much as the pipe takes at a time. False: everything is written, or the hook
// does not read.
bool write_state(int fd, std::string_view state, std::string_view ending, size_t& written) {
  while (written < state.size() + ending.size()) {
    const bool in_state = written < state.size();
    const std::string_view part = in_state ? state.substr(written) : ending.substr(written - state.size());
    const ssize_t count = write(fd, part.data(), part.size());
    if (count < 0) return errno == EAGAIN;
    written += static_cast<size_t>(count);
  }
  return false;
}

void run_hook(const HookStage& stage, size_t index, std::string_view ending, const ChildChannel& channel) {
  const Hook& hook = stage.hooks[index];
  const char* path = hook.path.c_str();
  Pipe in(path, stage, channel);
  Pipe out(path, stage, channel);
  Pipe failed(path, stage, channel);
  // The older call: a container's filter may be in force.
  const pid_t pid = clone_fork(0);
  if (pid < 0) channel.fail(ErrorKind::kInvalid, stage.step, path, errno);
  if (pid == 0) {
    execute_hook(hook, stage.vectors.at(index), in.read_end.get(), out.write_end.get(), failed.write_end.get());
  }
  in.read_end.reset();
  out.write_end.reset();
  failed.write_end.reset();
  if (fcntl(in.write_end.get(), F_SETFL, O_NONBLOCK) != 0 || fcntl(out.read_end.get(), F_SETFL, O_NONBLOCK) != 0) {
    channel.fail(ErrorKind::kInternal, stage.step, path, errno);
  }

  Output output;
  size_t written = 0;
  int status = 0;
  bool timed_out = false;
  const uint64_t end = now_ms() + hook.timeout_ms;
  const auto read_output = [&out, &output] {
    char part[1024];
    ssize_t count;
    while ((count = read(out.read_end.get(), part, sizeof part)) > 0) output.add(part, static_cast<size_t>(count));
    if (count == 0) out.read_end.reset();
  };
  for (;;) {
    if (in.write_end && !write_state(in.write_end.get(), stage.state, ending, written)) in.write_end.reset();
    if (out.read_end) read_output();
    const pid_t ended = waitpid(pid, &status, WNOHANG);
    if (ended == pid) break;
    if (ended < 0 && errno != EINTR) channel.fail(ErrorKind::kInternal, stage.step, path, errno);
    if (!timed_out && hook.timeout_ms != 0 && now_ms() >= end) {
      timed_out = true;
      // Its session, as far as it has not left it, and itself, should it not have one yet.
      kill(-pid, SIGKILL);
      kill(pid, SIGKILL);
    }
    pollfd sources[2] = {{out.read_end.get(), POLLIN, 0}, {in.write_end.get(), POLLOUT, 0}};
    // Negative descriptors are passed over. The hook's end is not among them: with its output it is seen at once.
    poll(sources, 2, kPollMs);
  }
  if (out.read_end) read_output();

  int reason = 0;
  if (read(failed.read_end.get(), &reason, sizeof reason) == sizeof reason) {
    channel.fail(ErrorKind::kInvalid, stage.step, path, reason);
  }
  if (!timed_out && WIFEXITED(status) && WEXITSTATUS(status) == 0) return;
  char message[sizeof(Report::message)];
  if (timed_out) {
    snprintf(message, sizeof message, "it was not done within %llu ms: %s",
             static_cast<unsigned long long>(hook.timeout_ms), output.trimmed());
  } else if (WIFSIGNALED(status)) {
    snprintf(message, sizeof message, "it was ended by signal %d: %s", WTERMSIG(status), output.trimmed());
  } else {
    snprintf(message, sizeof message, "it ended with code %d: %s", WEXITSTATUS(status), output.trimmed());
  }
  channel.fail(ErrorKind::kInvalid, stage.step, path, 0, message);
}

}  // namespace

HookVectors::HookVectors(const std::vector<Hook>& hooks) {
  vectors_.reserve(hooks.size());
  for (const Hook& hook : hooks) vectors_.emplace_back(hook.args, hook.env);
}

void run_hooks(const HookStage& stage, int32_t pid, const ChildChannel& channel) {
  if (stage.hooks.empty()) return;
  // A hook need not read its standard input.
  signal(SIGPIPE, SIG_IGN);
  char ending[16];
  const int length = snprintf(ending, sizeof ending, "%d}", pid);
  for (size_t i = 0; i < stage.hooks.size(); ++i) {
    run_hook(stage, i, std::string_view(ending, static_cast<size_t>(length)), channel);
  }
}

}  // namespace berth
