#include "addon/event_loop.h"

#include <cstdlib>
#include <utility>

#include "addon/system_error.h"

extern "C" {
size_t uv_handle_size(int type);
void* uv_handle_get_data(const void* handle);
void uv_handle_set_data(void* handle, void* data);
void uv_close(void* handle, void (*closed)(void* handle));
void uv_ref(void* handle);
void uv_unref(void* handle);
int uv_poll_init(uv_loop_s* loop, void* handle, int fd);
int uv_poll_start(void* handle, int events, void (*ready)(void* handle, int status, int events));
int uv_async_init(uv_loop_s* loop, void* handle, void (*woken)(void* handle));
int uv_async_send(void* handle);
}

namespace berth {
namespace {

constexpr int handle_async = 1;
constexpr int handle_poll = 8;

uv_loop_s* loop_of(Napi::Env env) {
  uv_loop_s* loop = nullptr;
  if (napi_get_uv_event_loop(env, &loop) != napi_ok) throw Napi::Error::New(env, "this environment has no event loop");
  return loop;
}

using Ready = std::function<void(int)>;
using Woken = std::function<void()>;

template <typename Callback>
void closed(void* handle) {
  delete static_cast<Callback*>(uv_handle_get_data(handle));
  std::free(handle);
}

void poll_ready(void* handle, int status, int events) {
  // The callback may close the handle: the function itself lives until `closed`.
  auto* ready = static_cast<Ready*>(uv_handle_get_data(handle));
  if (ready != nullptr) (*ready)(status < 0 ? status : events);
}

}  // namespace

std::shared_ptr<LoopPoll> LoopPoll::open(Napi::Env env, int fd, Ready ready) {
  auto poll = std::make_shared<LoopPoll>(Private{});
  void* handle = std::calloc(1, uv_handle_size(handle_poll));
  if (handle == nullptr) throw SystemError(ENOMEM, "uv_poll_init", "");
  int status = uv_poll_init(loop_of(env), handle, fd);
  if (status < 0) {
    std::free(handle);
    throw SystemError(-status, "uv_poll_init", "descriptor " + std::to_string(fd));
  }
  uv_handle_set_data(handle, new Ready(std::move(ready)));
  poll->handle_ = handle;
  poll->env_ = env;
  napi_add_env_cleanup_hook(env, close_at_exit, poll.get());
  return poll;
}

void LoopPoll::listen(int events) {
  if (handle_ != nullptr) uv_poll_start(handle_, events, poll_ready);
}

void LoopPoll::let_go() {
  if (handle_ != nullptr) uv_unref(handle_);
}

void LoopPoll::close() {
  if (handle_ == nullptr) return;
  napi_remove_env_cleanup_hook(env_, close_at_exit, this);
  uv_close(std::exchange(handle_, nullptr), closed<Ready>);
}

void LoopPoll::close_at_exit(void* data) {
  void* handle = std::exchange(static_cast<LoopPoll*>(data)->handle_, nullptr);
  auto* ready = static_cast<Ready*>(uv_handle_get_data(handle));
  uv_handle_set_data(handle, nullptr);
  uv_close(handle, closed<Ready>);
  // References into JavaScript end here, while there still is one. May delete the LoopPoll itself.
  delete ready;
}

LoopWake::LoopWake(Napi::Env env, Woken woken) {
  handle_ = std::calloc(1, uv_handle_size(handle_async));
  if (handle_ == nullptr) throw SystemError(ENOMEM, "uv_async_init", "");
  auto run = [](void* handle) { (*static_cast<Woken*>(uv_handle_get_data(handle)))(); };
  int status = uv_async_init(loop_of(env), handle_, run);
  if (status < 0) {
    std::free(handle_);
    throw SystemError(-status, "uv_async_init", "");
  }
  uv_handle_set_data(handle_, new Woken(std::move(woken)));
  uv_unref(handle_);
}

void LoopWake::send() { uv_async_send(handle_); }
void LoopWake::hold() { uv_ref(handle_); }
void LoopWake::let_go() { uv_unref(handle_); }
void LoopWake::close() {
  if (handle_ != nullptr) uv_close(std::exchange(handle_, nullptr), closed<Woken>);
}

void call_from_loop(Napi::Env env, const Napi::FunctionReference& function,
                    const std::initializer_list<napi_value>& arguments) {
  try {
    function.MakeCallback(env.Global(), arguments);
  } catch (const Napi::Error& error) {
    napi_fatal_exception(env, error.Value());
  }
}

}  // namespace berth
