// The transport of cri-proto/monitor.proto: frames of a 4-byte little-endian length and that many bytes, descriptors as
// SCM_RIGHTS with a frame's first byte. What the bytes mean is not known here.
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "addon/arguments.h"
#include "addon/event_loop.h"
#include "addon/functions.h"
#include "addon/unix_socket.h"
#include "common/unique_fd.h"

namespace berth {
namespace {

constexpr size_t header_size = 4;
constexpr size_t frame_limit = 32 << 20;
constexpr size_t descriptor_limit = 253;  // the kernel's, of one SCM_RIGHTS
constexpr size_t read_size = 64 << 10;
// One turn of the loop reads at most this much from one monitor, so that the others get theirs.
constexpr size_t turn_limit = 1 << 20;

struct Outgoing {
  std::vector<uint8_t> bytes;  // header and frame
  size_t sent = 0;
  std::vector<UniqueFd> descriptors;
};

// Those that came with one frame.
struct Descriptors {
  std::vector<UniqueFd> fds;
  bool lost = false;  // the table of descriptors was full: not all of them came
};

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(Napi::Env env, std::string path, UniqueFd socket, Napi::Function on_frame, Napi::Function on_close)
      : env_(env),
        path_(std::move(path)),
        socket_(std::move(socket)),
        on_frame_(Napi::Persistent(on_frame)),
        on_close_(Napi::Persistent(on_close)) {}

  void start() {
    auto self = shared_from_this();
    poll_ = LoopPoll::open(env_, socket_.get(), [self](int events) { self->ready(events); });
    poll_->listen(loop_readable);
  }

  void send(const uint8_t* frame, size_t size, const std::vector<int>& descriptors) {
    if (!socket_) throw SystemError(ENOTCONN, "send", path_, "the connection is closed");
    if (size > frame_limit) throw SystemError(EMSGSIZE, "send", path_, "the frame is over 32 MiB");
    if (descriptors.size() > descriptor_limit) {
      throw SystemError(EINVAL, "send", path_, "a frame carries at most 253 descriptors");
    }
    uint8_t header[header_size];
    for (size_t i = 0; i < header_size; i++) header[i] = static_cast<uint8_t>(size >> (8 * i));
    size_t sent = 0;
    if (outgoing_.empty() && !broken_) {
      sent = try_send(header, header_size, frame, size, descriptors);
      if (sent == header_size + size) return;
    }
    // With its first byte the kernel took the descriptors, too.
    queue(header, frame, size, sent, sent == 0 ? descriptors : std::vector<int>());
    poll_->listen(loop_readable | loop_writable);
  }

  // Those of the frame that was delivered last, when it speaks of any. The caller owns them. EMFILE: they are lost, and
  // nothing else is.
  std::vector<int> take_descriptors(size_t count) {
    if (count == 0) return {};
    Descriptors came;
    if (!incoming_.empty()) {
      came = std::move(incoming_.front());
      incoming_.pop_front();
    }
    if (came.lost) throw SystemError(EMFILE, "recvmsg", path_);
    if (count > came.fds.size()) {
      throw SystemError(EPROTO, "recvmsg", path_, "a frame speaks of descriptors that did not come");
    }
    std::vector<int> taken;
    for (size_t i = 0; i < count; i++) taken.push_back(came.fds[i].release());
    return taken;
  }

  void close() {
    if (!socket_) return;
    poll_->close();
    socket_.reset();
    outgoing_.clear();
    incoming_.clear();
    on_frame_.Reset();
    on_close_.Reset();
  }

 private:
  void ready(int events) {
    auto self = shared_from_this();
    Napi::HandleScope handles(env_);
    if (events < 0) return fail(SystemError(-events, "poll", path_));
    if (events & loop_writable) flush();
    if (socket_ && (events & loop_readable)) read();
  }

  // ---- out ----

  // Sends what fits; a broken pipe shows itself to the reader, who closes.
  size_t try_send(const uint8_t* header, size_t header_bytes, const uint8_t* frame, size_t frame_bytes,
                  const std::vector<int>& descriptors) {
    iovec parts[2] = {{const_cast<uint8_t*>(header), header_bytes}, {const_cast<uint8_t*>(frame), frame_bytes}};
    msghdr message = {};
    message.msg_iov = parts;
    message.msg_iovlen = 2;
    std::vector<char> control;
    if (!descriptors.empty()) {
      size_t size = descriptors.size() * sizeof(int);
      control.resize(CMSG_SPACE(size));
      message.msg_control = control.data();
      message.msg_controllen = control.size();
      cmsghdr* rights = CMSG_FIRSTHDR(&message);
      rights->cmsg_level = SOL_SOCKET;
      rights->cmsg_type = SCM_RIGHTS;
      rights->cmsg_len = CMSG_LEN(size);
      memcpy(CMSG_DATA(rights), descriptors.data(), size);
    }
    while (true) {
      ssize_t sent = sendmsg(socket_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent >= 0) return static_cast<size_t>(sent);
      if (errno == EINTR) continue;
      if (errno == EAGAIN) return 0;
      if (errno == EPIPE || errno == ECONNRESET) {
        broken_ = true;
        return 0;
      }
      throw_errno("sendmsg", path_);
    }
  }

  void queue(const uint8_t* header, const uint8_t* frame, size_t size, size_t sent, const std::vector<int>& descriptors) {
    Outgoing out;
    for (int fd : descriptors) {
      UniqueFd copy(fcntl(fd, F_DUPFD_CLOEXEC, 0));
      if (!copy) throw_errno("fcntl", "descriptor " + std::to_string(fd));
      out.descriptors.push_back(std::move(copy));
    }
    out.bytes.reserve(header_size + size);
    out.bytes.insert(out.bytes.end(), header, header + header_size);
    out.bytes.insert(out.bytes.end(), frame, frame + size);
    out.sent = sent;
    outgoing_.push_back(std::move(out));
  }

  void flush() {
    try {
      while (!outgoing_.empty() && !broken_) {
        Outgoing& out = outgoing_.front();
        std::vector<int> descriptors;
        for (const UniqueFd& fd : out.descriptors) descriptors.push_back(fd.get());
        size_t sent = try_send(out.bytes.data() + out.sent, out.bytes.size() - out.sent, nullptr, 0, descriptors);
        if (sent == 0 && !broken_) return;
        out.descriptors.clear();
        out.sent += sent;
        if (out.sent == out.bytes.size()) outgoing_.pop_front();
      }
    } catch (const SystemError& error) {
      return fail(error);
    }
    poll_->listen(loop_readable);
  }

  // ---- in ----

  void read() {
    size_t turn = 0;
    while (turn < turn_limit && socket_) {
      bool large = frame_filled_ < frame_.size();
      uint8_t small[read_size];
      // The rest of a large frame goes straight to its place.
      uint8_t* to = large ? frame_.data() + frame_filled_ : small;
      size_t room = large ? frame_.size() - frame_filled_ : sizeof small;
      ssize_t got = receive(to, room);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0 && errno == EAGAIN) return;
      if (got < 0) return fail(SystemError(errno, "recvmsg", path_));
      if (got == 0) return end_of_stream();
      turn += static_cast<size_t>(got);
      if (large) {
        frame_filled_ += static_cast<size_t>(got);
        if (frame_filled_ == frame_.size()) deliver_whole();
      } else if (!take(small, static_cast<size_t>(got))) {
        return;
      }
    }
  }

  // Descriptors come no later than the first byte of their frame, those of two frames never in one read, and in the frames'
  // order: whose they are is told by the frames themselves.
  ssize_t receive(uint8_t* to, size_t room) {
    alignas(cmsghdr) char control[CMSG_SPACE(descriptor_limit * sizeof(int))];
    iovec part = {to, room};
    msghdr message = {};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    ssize_t got = recvmsg(socket_.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (got < 0) return got;
    Descriptors came;
    came.lost = (message.msg_flags & MSG_CTRUNC) != 0;
    for (cmsghdr* piece = CMSG_FIRSTHDR(&message); piece != nullptr; piece = CMSG_NXTHDR(&message, piece)) {
      if (piece->cmsg_level != SOL_SOCKET || piece->cmsg_type != SCM_RIGHTS) continue;
      size_t count = (piece->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      for (size_t i = 0; i < count; i++) {
        int fd = -1;
        memcpy(&fd, CMSG_DATA(piece) + i * sizeof fd, sizeof fd);
        came.fds.emplace_back(fd);
      }
    }
    if (came.lost || !came.fds.empty()) incoming_.push_back(std::move(came));
    return got;
  }

  // Cuts frames out of what was read. False: the connection is gone.
  bool take(const uint8_t* data, size_t size) {
    while (size > 0) {
      size_t wanted = std::min(header_size - header_filled_, size);
      memcpy(header_ + header_filled_, data, wanted);
      header_filled_ += wanted;
      data += wanted;
      size -= wanted;
      if (header_filled_ < header_size) return true;
      size_t length = header_[0] | header_[1] << 8 | header_[2] << 16 | static_cast<size_t>(header_[3]) << 24;
      if (length > frame_limit) {
        fail(SystemError(EMSGSIZE, "recv", path_, "a frame of " + std::to_string(length) + " bytes is over 32 MiB"));
        return false;
      }
      header_filled_ = 0;
      if (length > size) {
        frame_.resize(length);
        memcpy(frame_.data(), data, size);
        frame_filled_ = size;
        return true;
      }
      deliver(data, length);
      if (!socket_) return false;
      data += length;
      size -= length;
    }
    return true;
  }

  void deliver(const uint8_t* data, size_t size) {
    Napi::HandleScope handles(env_);
    call_from_loop(env_, on_frame_, {Napi::Buffer<uint8_t>::Copy(env_, data, size)});
  }

  void deliver_whole() {
    std::vector<uint8_t> frame = std::move(frame_);
    frame_.clear();
    frame_filled_ = 0;
    deliver(frame.data(), frame.size());
  }

  void end_of_stream() {
    if (header_filled_ > 0 || !frame_.empty()) {
      return fail(SystemError(EPROTO, "recv", path_, "the peer went away in the middle of a frame"));
    }
    finish(env_.Null());
  }

  void fail(const SystemError& error) { finish(error.to_js(env_).Value()); }

  void finish(Napi::Value error) {
    if (!socket_) return;
    Napi::FunctionReference on_close = std::move(on_close_);
    close();
    call_from_loop(env_, on_close, {error});
  }

  Napi::Env env_;
  std::string path_;
  UniqueFd socket_;
  Napi::FunctionReference on_frame_;
  Napi::FunctionReference on_close_;
  std::shared_ptr<LoopPoll> poll_;
  std::deque<Outgoing> outgoing_;
  std::deque<Descriptors> incoming_;
  bool broken_ = false;  // the peer reads no more; what it wrote before is still read
  uint8_t header_[header_size] = {};
  size_t header_filled_ = 0;
  std::vector<uint8_t> frame_;  // one that did not come whole, at its final size
  size_t frame_filled_ = 0;
};

Napi::Value send(const Napi::CallbackInfo& info) {
  auto& connection = *static_cast<std::shared_ptr<Connection>*>(info.Data());
  if (!info[0].IsTypedArray() || info[0].As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
    throw Napi::TypeError::New(info.Env(), "frame must be a Uint8Array");
  }
  Napi::Uint8Array frame = info[0].As<Napi::Uint8Array>();
  std::vector<int> descriptors;
  if (!info[1].IsUndefined()) {
    if (!info[1].IsArray()) throw Napi::TypeError::New(info.Env(), "descriptors must be an array of numbers");
    Napi::Array array = info[1].As<Napi::Array>();
    for (uint32_t i = 0; i < array.Length(); i++) {
      Napi::Value fd = array.Get(i);
      if (!fd.IsNumber()) throw Napi::TypeError::New(info.Env(), "descriptors must be an array of numbers");
      descriptors.push_back(fd.As<Napi::Number>().Int32Value());
    }
  }
  connection->send(frame.Data(), frame.ByteLength(), descriptors);
  return info.Env().Undefined();
}

Napi::Value take_descriptors(const Napi::CallbackInfo& info) {
  auto& connection = *static_cast<std::shared_ptr<Connection>*>(info.Data());
  std::vector<int> taken = connection->take_descriptors(static_cast<size_t>(int_argument(info, 0, "count")));
  Napi::Array result = Napi::Array::New(info.Env(), taken.size());
  for (uint32_t i = 0; i < taken.size(); i++) result.Set(i, Napi::Number::New(info.Env(), taken[i]));
  return result;
}

Napi::Value close(const Napi::CallbackInfo& info) {
  (*static_cast<std::shared_ptr<Connection>*>(info.Data()))->close();
  return info.Env().Undefined();
}

// A method of the JavaScript object, which shares the connection.
template <Napi::Value (*function)(const Napi::CallbackInfo&)>
void set_method(Napi::Object object, const char* name, const std::shared_ptr<Connection>& connection) {
  auto* shared = new std::shared_ptr<Connection>(connection);
  Napi::Function method = Napi::Function::New<guarded<function>>(object.Env(), name, shared);
  method.AddFinalizer([](Napi::Env, std::shared_ptr<Connection>* at_end) { delete at_end; }, shared);
  object.Set(name, method);
}

Napi::Value connect_monitor(const Napi::CallbackInfo& info) {
  std::string path = string_argument(info, 0, "path");
  Napi::Object handlers = object_argument(info, 1, "handlers");
  Napi::Value on_frame = handlers.Get("onFrame");
  Napi::Value on_close = handlers.Get("onClose");
  if (!on_frame.IsFunction()) throw Napi::TypeError::New(info.Env(), "onFrame must be a function");
  if (!on_close.IsFunction()) throw Napi::TypeError::New(info.Env(), "onClose must be a function");
  auto connection = std::make_shared<Connection>(info.Env(), path, connect_unix(path), on_frame.As<Napi::Function>(),
                                                 on_close.As<Napi::Function>());
  connection->start();
  Napi::Object result = Napi::Object::New(info.Env());
  set_method<send>(result, "send", connection);
  set_method<take_descriptors>(result, "takeDescriptors", connection);
  set_method<close>(result, "close", connection);
  return result;
}

}  // namespace

void register_monitor_socket(Napi::Object exports) { export_function<connect_monitor>(exports, "connectMonitor"); }

}  // namespace berth
