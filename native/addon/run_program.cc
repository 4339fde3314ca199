// Runs one of Berth's own confined programs. The clone shares this process's memory, so that the size of Node's heap costs
// nothing, and comes from a thread that stays until the program has ended: a program that wants to die with its parent
// (PR_SET_PDEATHSIG) dies with that thread.
#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "addon/arguments.h"
#include "addon/clone_on_stack.h"
#include "addon/functions.h"
#include "addon/own_thread.h"
#include "common/unique_fd.h"

namespace berth {
namespace {

// what one reads of a pipe at once, and what an unprivileged pipe may hold
constexpr int pipe_bytes = 1 << 20;
// what the child's descriptors are moved from must not stand on one of them
constexpr int first_safe_fd = 3;

struct Pipe {
  UniqueFd read;
  UniqueFd write;
};

Pipe open_pipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) < 0) throw_errno("pipe2", "");
  Pipe pipe{UniqueFd(ends[0]), UniqueFd(ends[1])};
  for (UniqueFd* end : {&pipe.read, &pipe.write}) {
    if (end->get() >= first_safe_fd) continue;
    UniqueFd moved(fcntl(end->get(), F_DUPFD_CLOEXEC, first_safe_fd));
    if (!moved) throw_errno("fcntl", "a pipe");
    *end = std::move(moved);
  }
  return pipe;
}

// The process, as long as there is one: shared by the thread that waits for it and by those who signal it.
class Running {
 public:
  void started(pid_t pid) {
    std::lock_guard lock(mutex_);
    pid_ = pid;
    if (is_nice_) setpriority(PRIO_PROCESS, static_cast<id_t>(pid), nice_);
    if (killed_) ::kill(pid, SIGKILL);
  }

  // It has ended: its number is somebody else's as soon as it is reaped.
  void ended() {
    std::lock_guard lock(mutex_);
    pid_ = 0;
  }

  void kill() {
    std::lock_guard lock(mutex_);
    killed_ = true;
    if (pid_ > 0) ::kill(pid_, SIGKILL);
  }

  // A host that does not let us: then it has the priority that it had.
  void set_nice(int nice) {
    std::lock_guard lock(mutex_);
    is_nice_ = true;
    nice_ = nice;
    if (pid_ > 0) setpriority(PRIO_PROCESS, static_cast<id_t>(pid_), nice);
  }

 private:
  std::mutex mutex_;
  pid_t pid_ = 0;
  bool killed_ = false;
  bool is_nice_ = false;
  int nice_ = 0;
};

struct Options {
  std::string executable;
  std::vector<std::string> args;
  size_t output_limit = 0;
};

// ---- the child ----

struct Child {
  const char* executable;
  char* const* argv;
  int input;
  int output;
  int errors;
  int failed_errno = 0;
};

void run_child(void* argument) {
  Child* child = static_cast<Child*>(argument);
  char* const environment[] = {nullptr};  // nothing of the agent's steers the loader or the libraries
  if (reset_signal_handlers() && syscall(SYS_dup3, child->input, STDIN_FILENO, 0) >= 0 &&
      syscall(SYS_dup3, child->output, STDOUT_FILENO, 0) >= 0 &&
      syscall(SYS_dup3, child->errors, STDERR_FILENO, 0) >= 0 && syscall(SYS_close_range, 3, ~0U, 0) >= 0 &&
      unblock_signals()) {
    syscall(SYS_execve, child->executable, child->argv, environment);
  }
  child->failed_errno = errno;
  _exit(127);
}

// ---- the parent ----

struct Ending {
  int code = 0;
  int signal = 0;
  std::string output;
  std::string errors;
};

pid_t start(const Options& options, int input, int output, int errors) {
  std::vector<char*> argv{const_cast<char*>(options.executable.c_str())};
  for (const std::string& argument : options.args) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  Child child = {options.executable.c_str(), argv.data(), input, output, errors};
  ChildStack stack;
  clone_args arguments = {};
  arguments.flags = CLONE_VM | CLONE_VFORK;
  arguments.exit_signal = SIGCHLD;
  stack.set_in(&arguments);
  // comes back when the child has executed the program, or has ended
  const long pid = clone3_on_stack(&arguments, run_child, &child);
  if (pid < 0) throw SystemError(static_cast<int>(-pid), "clone3", options.executable);
  if (child.failed_errno != 0) {
    waitpid(static_cast<pid_t>(pid), nullptr, 0);
    throw SystemError(child.failed_errno, "execve", options.executable);
  }
  return static_cast<pid_t>(pid);
}

// Both to their ends; what is beyond the limit is thrown away.
void collect(const UniqueFd& output, const UniqueFd& errors, size_t limit, Ending& ending) {
  std::vector<char> buffer(64 << 10);
  pollfd states[] = {{output.get(), POLLIN, 0}, {errors.get(), POLLIN, 0}};
  std::string* texts[] = {&ending.output, &ending.errors};
  for (int open = 2; open > 0;) {
    if (poll(states, 2, -1) < 0) {
      if (errno == EINTR) continue;
      throw_errno("poll", "a program's output");
    }
    for (int i = 0; i < 2; i++) {
      if (states[i].fd < 0 || states[i].revents == 0) continue;
      const ssize_t count = read(states[i].fd, buffer.data(), buffer.size());
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) {
        states[i].fd = -1;
        open--;
        continue;
      }
      const size_t room = limit - std::min(limit, texts[i]->size());
      texts[i]->append(buffer.data(), std::min(room, static_cast<size_t>(count)));
    }
  }
}

Ending run(const Options& options, UniqueFd input, Running& running) {
  Pipe output = open_pipe();
  Pipe errors = open_pipe();
  const pid_t pid = start(options, input.get(), output.write.get(), errors.write.get());
  running.started(pid);
  for (UniqueFd* of_child : {&input, &output.write, &errors.write}) of_child->reset();
  Ending ending;
  try {
    collect(output.read, errors.read, options.output_limit, ending);
  } catch (...) {
    running.kill();
    running.ended();
    waitpid(pid, nullptr, 0);
    throw;
  }
  siginfo_t info = {};
  while (waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT) < 0) {
    if (errno != EINTR) throw_errno("waitid", options.executable);
  }
  running.ended();
  waitpid(pid, nullptr, 0);
  (info.si_code == CLD_EXITED ? ending.code : ending.signal) = info.si_status;
  return ending;
}

Napi::Value to_js(Napi::Env env, const Ending& ending) {
  Napi::Object result = Napi::Object::New(env);
  result.Set("code", ending.signal == 0 ? Napi::Number::New(env, ending.code) : env.Null());
  result.Set("signal", ending.signal != 0 ? Napi::Number::New(env, ending.signal) : env.Null());
  result.Set("output", Napi::Buffer<char>::Copy(env, ending.output.data(), ending.output.size()));
  result.Set("errors", Napi::Buffer<char>::Copy(env, ending.errors.data(), ending.errors.size()));
  return result;
}

Napi::Value run_program(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Napi::Object object = object_argument(info, 0, "options");
  Options options{text_field(object, "executable"), texts_field(object, "args"),
                  static_cast<size_t>(int_field(object, "outputLimitBytes"))};
  Pipe input = open_pipe();
  // so that neither side waits for each of the other's steps; a host that allows less is slower
  fcntl(input.write.get(), F_SETPIPE_SZ, pipe_bytes);
  auto running = std::make_shared<Running>();
  auto for_child = std::make_shared<UniqueFd>(std::move(input.read));
  Napi::Promise ended = on_own_thread(env, [options, for_child, running]() -> Settle {
    auto ending = std::make_shared<Ending>(run(options, std::move(*for_child), *running));
    return [ending](Napi::Env loop) { return to_js(loop, *ending); };
  });
  Napi::Object result = Napi::Object::New(env);
  result.Set("input", input.write.release());
  result.Set("ended", ended);
  result.Set("kill", Napi::Function::New(env, [running](const Napi::CallbackInfo&) { running->kill(); }, "kill"));
  result.Set("setNice", Napi::Function::New(
                            env,
                            [running](const Napi::CallbackInfo& call) { running->set_nice(int_argument(call, 0, "nice")); },
                            "setNice"));
  return result;
}

}  // namespace

void register_run_program(Napi::Object exports) { export_function<run_program>(exports, "runProgram"); }

}  // namespace berth
