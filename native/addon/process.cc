// Processes by pidfd.
extern "C" {  // glibc 2.36 forgot it in the header
#include <sys/pidfd.h>
}
#include <sys/wait.h>

#include <fcntl.h>
#include <cerrno>
#include <csignal>
#include <memory>

#include "addon/arguments.h"
#include "addon/event_loop.h"
#include "addon/functions.h"
#include "common/unique_fd.h"

namespace berth {
namespace {

struct Watch {
  Napi::Env env;
  UniqueFd pidfd;  // a copy: the caller may close its own at any time
  Napi::FunctionReference on_exit;
  std::shared_ptr<LoopPoll> poll;

  void close() {
    poll->close();
    pidfd.reset();
    on_exit.Reset();
  }
};

// Calls back at most once; `watch` is held by the poll's callback until the poll is closed.
void ended(const std::shared_ptr<Watch>& watch) {
  siginfo_t info = {};
  int result = waitid(P_PIDFD, static_cast<id_t>(watch->pidfd.get()), &info, WEXITED | WNOHANG);
  if (result == 0 && info.si_pid == 0) return;  // ours, and not yet to be reaped: a tracer holds it
  Napi::HandleScope handles(watch->env);
  Napi::Value code = watch->env.Null();
  Napi::Value signal = watch->env.Null();
  if (result == 0) {
    Napi::Value& which = info.si_code == CLD_EXITED ? code : signal;
    which = Napi::Number::New(watch->env, info.si_status);
  }
  Napi::FunctionReference on_exit = std::move(watch->on_exit);
  watch->close();
  call_from_loop(watch->env, on_exit, {code, signal});
}

Napi::Value watch_process(const Napi::CallbackInfo& info) {
  int pidfd = int_argument(info, 0, "pidfd");
  Napi::Function on_exit = function_argument(info, 1, "onExit");
  UniqueFd own(fcntl(pidfd, F_DUPFD_CLOEXEC, 0));
  if (!own) throw_errno("fcntl", "pidfd " + std::to_string(pidfd));
  auto watch = std::make_shared<Watch>(Watch{info.Env(), std::move(own), Napi::Persistent(on_exit), nullptr});
  watch->poll = LoopPoll::open(info.Env(), watch->pidfd.get(), [watch](int) { ended(watch); });
  watch->poll->listen(loop_readable);
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("close", Napi::Function::New(info.Env(), [watch](const Napi::CallbackInfo&) { watch->close(); }, "close"));
  return result;
}

Napi::Value open_process(const Napi::CallbackInfo& info) {
  int pid = int_argument(info, 0, "pid");
  int pidfd = pidfd_open(pid, 0);
  if (pidfd < 0) throw_errno("pidfd_open", "process " + std::to_string(pid));
  return Napi::Number::New(info.Env(), pidfd);
}

Napi::Value send_signal(const Napi::CallbackInfo& info) {
  int pidfd = int_argument(info, 0, "pidfd");
  int signal = int_argument(info, 1, "signal");
  if (pidfd_send_signal(pidfd, signal, nullptr, 0) < 0) {
    throw_errno("pidfd_send_signal", "pidfd " + std::to_string(pidfd) + ", signal " + std::to_string(signal));
  }
  return info.Env().Undefined();
}

}  // namespace

void register_process(Napi::Object exports) {
  export_function<watch_process>(exports, "watchProcess");
  export_function<open_process>(exports, "openProcess");
  export_function<send_signal>(exports, "sendSignal");
}

}  // namespace berth
