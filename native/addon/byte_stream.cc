// Pipes, terminals and sockets that carry the bytes of a container's streams. Node's own streams take no terminal's master
// (their writes would block the loop) and allocate for each read; here the caller brings the buffer, and is told when it
// can go on.
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include <cerrno>
#include <memory>

#include "addon/arguments.h"
#include "addon/event_loop.h"
#include "addon/functions.h"
#include "common/unique_fd.h"

namespace berth {
namespace {

constexpr int ended = -1;

class ByteStream : public std::enable_shared_from_this<ByteStream> {
 public:
  ByteStream(Napi::Env env, int fd, Napi::Function on_ready) : env_(env), fd_(fd), on_ready_(Napi::Persistent(on_ready)) {}

  // On failure the descriptor is still the caller's.
  void start() {
    int flags = fcntl(fd_.get(), F_GETFL);
    if (flags < 0 || fcntl(fd_.get(), F_SETFL, flags | O_NONBLOCK) < 0) {
      int number = fd_.release();
      throw_errno("fcntl", "descriptor " + std::to_string(number));
    }
  }

  int fd() const { return fd_.get(); }

  void listen(int events) {
    if (!fd_ || events == events_) return;
    // A handle of its own each time that there is something to wait for: one at rest costs nothing.
    events_ = events;
    if (events == 0) return stop();
    if (poll_ == nullptr) {
      auto self = shared_from_this();
      poll_ = LoopPoll::open(env_, fd_.get(), [self](int happened) { self->ready(happened); });
    }
    poll_->listen(events);
  }

  void close() {
    stop();
    fd_.reset();
    on_ready_.Reset();
  }

 private:
  void stop() {
    events_ = 0;
    if (poll_ != nullptr) poll_->close();
    poll_.reset();
  }

  void ready(int happened) {
    auto self = shared_from_this();
    // An error, such as a pipe whose reader has gone: reading and writing say which.
    if (happened < 0) {
      happened = loop_readable | loop_writable;
      stop();
    }
    Napi::HandleScope handles(env_);
    call_from_loop(env_, on_ready_, {Napi::Number::New(env_, happened)});
  }

  Napi::Env env_;
  UniqueFd fd_;
  Napi::FunctionReference on_ready_;
  std::shared_ptr<LoopPoll> poll_;
  int events_ = 0;
};

ByteStream& stream_of(const Napi::CallbackInfo& info) {
  return **static_cast<std::shared_ptr<ByteStream>*>(info.Data());
}

Napi::Uint8Array bytes_argument(const Napi::CallbackInfo& info) {
  if (!info[0].IsTypedArray() || info[0].As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
    throw Napi::TypeError::New(info.Env(), "bytes must be a Uint8Array");
  }
  return info[0].As<Napi::Uint8Array>();
}

bool would_block() { return errno == EAGAIN || errno == EWOULDBLOCK; }

Napi::Value read_bytes(const Napi::CallbackInfo& info) {
  Napi::Uint8Array into = bytes_argument(info);
  ssize_t count;
  do {
    count = ::read(stream_of(info).fd(), into.Data(), into.ByteLength());
  } while (count < 0 && errno == EINTR);
  if (count < 0 && would_block()) return Napi::Number::New(info.Env(), 0);
  // A terminal whose other end is closed says EIO; a socket that was reset has nothing more, either.
  return Napi::Number::New(info.Env(), count <= 0 ? ended : static_cast<double>(count));
}

Napi::Value write_bytes(const Napi::CallbackInfo& info) {
  Napi::Uint8Array from = bytes_argument(info);
  ssize_t count;
  do {
    count = ::write(stream_of(info).fd(), from.Data(), from.ByteLength());
  } while (count < 0 && errno == EINTR);
  if (count < 0) return Napi::Number::New(info.Env(), would_block() ? 0 : ended);
  return Napi::Number::New(info.Env(), static_cast<double>(count));
}

Napi::Value listen(const Napi::CallbackInfo& info) {
  stream_of(info).listen(int_argument(info, 0, "events"));
  return info.Env().Undefined();
}

Napi::Value has_input(const Napi::CallbackInfo& info) {
  // Unlike FIONREAD it also sees what a terminal has not moved to its master yet.
  pollfd state = {stream_of(info).fd(), POLLIN, 0};
  bool there = ::poll(&state, 1, 0) == 1 && (state.revents & POLLIN) != 0;
  return Napi::Boolean::New(info.Env(), there);
}

Napi::Value resize(const Napi::CallbackInfo& info) {
  winsize size = {};
  size.ws_col = static_cast<unsigned short>(int_argument(info, 0, "columns"));
  size.ws_row = static_cast<unsigned short>(int_argument(info, 1, "rows"));
  if (ioctl(stream_of(info).fd(), TIOCSWINSZ, &size) != 0) throw_errno("ioctl TIOCSWINSZ", "the terminal");
  return info.Env().Undefined();
}

Napi::Value end_output(const Napi::CallbackInfo& info) {
  // What is no socket has nothing to shut down: it is closed.
  ::shutdown(stream_of(info).fd(), SHUT_WR);
  return info.Env().Undefined();
}

Napi::Value close(const Napi::CallbackInfo& info) {
  stream_of(info).close();
  return info.Env().Undefined();
}

template <Napi::Value (*function)(const Napi::CallbackInfo&)>
void set_method(Napi::Object object, const char* name, const std::shared_ptr<ByteStream>& stream) {
  auto* shared = new std::shared_ptr<ByteStream>(stream);
  Napi::Function method = Napi::Function::New<guarded<function>>(object.Env(), name, shared);
  method.AddFinalizer([](Napi::Env, std::shared_ptr<ByteStream>* at_end) { delete at_end; }, shared);
  object.Set(name, method);
}

Napi::Value open_byte_stream(const Napi::CallbackInfo& info) {
  int fd = int_argument(info, 0, "fd");
  Napi::Function on_ready = function_argument(info, 1, "onReady");
  auto stream = std::make_shared<ByteStream>(info.Env(), fd, on_ready);
  stream->start();
  Napi::Object result = Napi::Object::New(info.Env());
  set_method<read_bytes>(result, "read", stream);
  set_method<write_bytes>(result, "write", stream);
  set_method<listen>(result, "listen", stream);
  set_method<has_input>(result, "hasInput", stream);
  set_method<resize>(result, "resize", stream);
  set_method<end_output>(result, "endOutput", stream);
  set_method<close>(result, "close", stream);
  return result;
}

Napi::Value duplicate_descriptor(const Napi::CallbackInfo& info) {
  int fd = int_argument(info, 0, "fd");
  int duplicate = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (duplicate < 0) throw_errno("fcntl", "descriptor " + std::to_string(fd));
  return Napi::Number::New(info.Env(), duplicate);
}

}  // namespace

void register_byte_stream(Napi::Object exports) {
  export_function<open_byte_stream>(exports, "openByteStream");
  export_function<duplicate_descriptor>(exports, "duplicateDescriptor");
}

}  // namespace berth
