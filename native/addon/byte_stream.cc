// Pipes, terminals and sockets that carry the bytes of a container's streams. Node's own streams take no terminal's master
// (their writes would block the loop) and allocate for each read; here the caller brings the buffer, and is told when it
// can go on.
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
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
#include "addon/unix_socket.h"
#include "addon/system_error.h"
#include "common/unique_fd.h"

namespace berth {
namespace {

constexpr int ended = -1;
constexpr int broken_off = -2;

Napi::Uint8Array bytes_argument(const Napi::CallbackInfo& info) {
  if (!info[0].IsTypedArray() || info[0].As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
    throw Napi::TypeError::New(info.Env(), "bytes must be a Uint8Array");
  }
  return info[0].As<Napi::Uint8Array>();
}

bool would_block() { return errno == EAGAIN || errno == EWOULDBLOCK; }

// A class with its methods on the prototype: an object for each connection costs nothing but itself.
class ByteStream : public Napi::ObjectWrap<ByteStream> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "ByteStream",
                       {method<&ByteStream::read>("read"), method<&ByteStream::write>("write"),
                        method<&ByteStream::listen>("listen"), method<&ByteStream::has_input>("hasInput"),
                        method<&ByteStream::resize>("resize"), method<&ByteStream::end_output>("endOutput"),
                        method<&ByteStream::watch_peer>("watchPeer"),
                        method<&ByteStream::unacknowledged>("unacknowledged"),
                        method<&ByteStream::silent_ms>("silentMs"),
                        method<&ByteStream::close>("close")});
  }

  // On failure the descriptor is still the caller's.
  explicit ByteStream(const Napi::CallbackInfo& info) : Napi::ObjectWrap<ByteStream>(info) {
    int fd = int_argument(info, 0, "fd");
    Napi::Function on_ready = function_argument(info, 1, "onReady");
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
      throw SystemError(errno, "fcntl", "descriptor " + std::to_string(fd)).to_js(info.Env());
    }
    fd_.reset(fd);
    on_ready_ = Napi::Persistent(on_ready);
  }

  ~ByteStream() override {
    if (poll_ != nullptr) poll_->close();
  }

 private:
  using Method = Napi::Value (ByteStream::*)(const Napi::CallbackInfo&);

  template <Method function>
  Napi::Value guarded_method(const Napi::CallbackInfo& info) {
    try {
      return (this->*function)(info);
    } catch (const SystemError& error) {
      throw error.to_js(info.Env());
    }
  }

  template <Method function>
  static Napi::ClassPropertyDescriptor<ByteStream> method(const char* name) {
    return InstanceMethod<&ByteStream::guarded_method<function>>(name);
  }

  Napi::Value read(const Napi::CallbackInfo& info) {
    Napi::Uint8Array into = bytes_argument(info);
    ssize_t count;
    do {
      count = ::read(fd_.get(), into.Data(), into.ByteLength());
    } while (count < 0 && errno == EINTR);
    if (count < 0 && would_block()) return Napi::Number::New(info.Env(), 0);
    if (count < 0 && errno == ECONNRESET) return Napi::Number::New(info.Env(), broken_off);
    // A terminal whose other end is closed says EIO.
    return Napi::Number::New(info.Env(), count <= 0 ? ended : static_cast<double>(count));
  }

  Napi::Value write(const Napi::CallbackInfo& info) {
    Napi::Uint8Array from = bytes_argument(info);
    ssize_t count;
    do {
      count = ::write(fd_.get(), from.Data(), from.ByteLength());
    } while (count < 0 && errno == EINTR);
    if (count < 0) return Napi::Number::New(info.Env(), would_block() ? 0 : ended);
    return Napi::Number::New(info.Env(), static_cast<double>(count));
  }

  Napi::Value listen(const Napi::CallbackInfo& info) {
    int events = int_argument(info, 0, "events");
    if (!fd_ || events == events_) return info.Env().Undefined();
    // A handle of its own each time that there is something to wait for: one at rest costs nothing.
    if (events == 0) {
      stop();
      return info.Env().Undefined();
    }
    if (poll_ == nullptr) {
      poll_ = LoopPoll::open(info.Env(), fd_.get(), [this](int happened) { ready(happened); });
      // What is waited for is not collected.
      Ref();
    }
    events_ = events;
    poll_->listen(events);
    return info.Env().Undefined();
  }

  Napi::Value has_input(const Napi::CallbackInfo& info) {
    // Unlike FIONREAD it also sees what a terminal has not moved to its master yet.
    pollfd state = {fd_.get(), POLLIN, 0};
    bool there = ::poll(&state, 1, 0) == 1 && (state.revents & POLLIN) != 0;
    return Napi::Boolean::New(info.Env(), there);
  }

  Napi::Value resize(const Napi::CallbackInfo& info) {
    winsize size = {};
    size.ws_col = static_cast<unsigned short>(int_argument(info, 0, "columns"));
    size.ws_row = static_cast<unsigned short>(int_argument(info, 1, "rows"));
    if (ioctl(fd_.get(), TIOCSWINSZ, &size) != 0) throw_errno("ioctl TIOCSWINSZ", "the terminal");
    return info.Env().Undefined();
  }

  Napi::Value end_output(const Napi::CallbackInfo& info) {
    // What is no socket has nothing to shut down: it is closed.
    ::shutdown(fd_.get(), SHUT_WR);
    return info.Env().Undefined();
  }

  Napi::Value watch_peer(const Napi::CallbackInfo& info) {
    const int seconds = int_argument(info, 0, "seconds");
    const int probes = 3;
    const int interval = seconds / probes;
    set_option(SOL_SOCKET, SO_KEEPALIVE, 1);
    set_option(IPPROTO_TCP, TCP_KEEPIDLE, seconds);
    set_option(IPPROTO_TCP, TCP_KEEPINTVL, interval);
    set_option(IPPROTO_TCP, TCP_KEEPCNT, probes);
    // Not TCP_USER_TIMEOUT: it would also end a peer that is there and does not read for a while.
    return info.Env().Undefined();
  }

  Napi::Value unacknowledged(const Napi::CallbackInfo& info) {
    int bytes = 0;
    if (ioctl(fd_.get(), SIOCOUTQ, &bytes) != 0) throw_errno("ioctl SIOCOUTQ", "the connection");
    return Napi::Number::New(info.Env(), bytes);
  }

  Napi::Value silent_ms(const Napi::CallbackInfo& info) {
    tcp_info state = {};
    socklen_t length = sizeof state;
    if (getsockopt(fd_.get(), IPPROTO_TCP, TCP_INFO, &state, &length) != 0) throw_errno("getsockopt", "the connection");
    return Napi::Number::New(info.Env(), state.tcpi_last_ack_recv);
  }

  void set_option(int level, int option, int value) {
    if (setsockopt(fd_.get(), level, option, &value, sizeof value) != 0) throw_errno("setsockopt", "the connection");
  }

  Napi::Value close(const Napi::CallbackInfo& info) {
    stop();
    fd_.reset();
    on_ready_.Reset();
    return info.Env().Undefined();
  }

  void stop() {
    events_ = 0;
    if (poll_ == nullptr) return;
    poll_->close();
    poll_.reset();
    Unref();
  }

  void ready(int happened) {
    Napi::Env env = Env();
    Napi::HandleScope handles(env);
    [[maybe_unused]] Napi::Value self = Value();  // it stays until the callback is over
    // An error, such as a pipe whose reader has gone: reading and writing say which. The loop waits for it no more, though one
    // read need not have brought all that came before the error.
    const bool failed = happened < 0;
    if (failed) happened = loop_readable | loop_writable;
    call_from_loop(env, on_ready_, {Napi::Number::New(env, happened)});
    if (failed && poll_ != nullptr) poll_->listen(events_);
  }

  UniqueFd fd_;
  Napi::FunctionReference on_ready_;
  std::shared_ptr<LoopPoll> poll_;
  int events_ = 0;
};

Napi::Value duplicate_descriptor(const Napi::CallbackInfo& info) {
  int fd = int_argument(info, 0, "fd");
  int duplicate = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (duplicate < 0) throw_errno("fcntl", "descriptor " + std::to_string(fd));
  return Napi::Number::New(info.Env(), duplicate);
}

Napi::Value connect_datagram(const Napi::CallbackInfo& info) {
  UniqueFd connection = connect_unix_datagram(string_argument(info, 0, "path"));
  return Napi::Number::New(info.Env(), connection.release());
}

}  // namespace

void register_byte_stream(Napi::Object exports) {
  exports.Set("ByteStream", ByteStream::define(exports.Env()));
  export_function<duplicate_descriptor>(exports, "duplicateDescriptor");
  export_function<connect_datagram>(exports, "connectDatagram");
}

}  // namespace berth
