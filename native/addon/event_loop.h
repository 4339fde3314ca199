// The agent's event loop, as far as the addon needs it: readiness of a descriptor, and a wake-up from other threads.
//
// libuv's headers are not part of node-api-headers. The few functions used are declared here; they and the two handle
// numbers belong to libuv's stable 1.x ABI, and handles are allocated by the size that libuv itself tells.
#pragma once

#include <napi.h>

#include <functional>
#include <memory>

namespace berth {

constexpr int loop_readable = 1;
constexpr int loop_writable = 2;

// Watches one descriptor, which it does not own. Keeps the loop alive until close(). All on the loop's thread.
class LoopPoll {
 public:
  // Throws SystemError. `ready` gets the events, or a negative errno.
  static std::shared_ptr<LoopPoll> open(Napi::Env env, int fd, std::function<void(int)> ready);
  void listen(int events);
  void let_go();  // does not keep the loop alive any more
  // The callback is not called any more; idempotent, and may be called from within it.
  void close();

  struct Private {};
  explicit LoopPoll(Private) {}
  LoopPoll(const LoopPoll&) = delete;
  LoopPoll& operator=(const LoopPoll&) = delete;
  ~LoopPoll() { close(); }

 private:
  static void close_at_exit(void* poll);

  void* handle_ = nullptr;
  napi_env env_ = nullptr;
};

// Wakes the loop from any thread. Does not keep the loop alive while `hold` has not been called.
class LoopWake {
 public:
  LoopWake(Napi::Env env, std::function<void()> woken);
  void send();  // any thread, until close()
  void hold();
  void let_go();
  void close();

 private:
  void* handle_ = nullptr;
};

// Calls a JavaScript function from the loop; what it throws is an uncaught exception of the process.
void call_from_loop(Napi::Env env, const Napi::FunctionReference& function,
                    const std::initializer_list<napi_value>& arguments);

}  // namespace berth
