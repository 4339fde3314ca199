// What the kernel reports of denials by seccomp. It tells audit's multicast group, whether an audit daemon runs or not.
#include <arpa/inet.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <seccomp.h>
#include <sys/socket.h>

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "addon/arguments.h"
#include "addon/event_loop.h"
#include "addon/functions.h"
#include "addon/system_error.h"
#include "common/unique_fd.h"

namespace berth {
namespace {

// A record is at most MAX_AUDIT_MESSAGE_LENGTH.
constexpr size_t receive_size = 16 << 10;
// What comes beyond it in a moment is dropped: a program that is refused in a loop must not keep the agent busy.
constexpr uint32_t most_at_once = 16;
constexpr int most_waiting = 1024;

void hear_of_seccomp_only(int fd) {
  // a load swaps the bytes of what stands there in the machine's order
  sock_filter instructions[] = {
      BPF_STMT(BPF_LD | BPF_H | BPF_ABS, offsetof(nlmsghdr, nlmsg_type)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htons(AUDIT_SECCOMP), 0, 1),
      BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
      BPF_STMT(BPF_RET | BPF_K, 0),
  };
  const sock_fprog filter = {sizeof instructions / sizeof instructions[0], instructions};
  if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter) < 0) {
    throw_errno("setsockopt", "audit, SO_ATTACH_FILTER");
  }
}

UniqueFd listen_to_audit() {
  UniqueFd fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_AUDIT));
  if (!fd) throw_errno("socket", "audit");
  hear_of_seccomp_only(fd.get());
  sockaddr_nl own = {};
  own.nl_family = AF_NETLINK;
  if (bind(fd.get(), reinterpret_cast<sockaddr*>(&own), sizeof own) < 0) throw_errno("bind", "audit");
  const int group = AUDIT_NLGRP_READLOG;
  if (setsockopt(fd.get(), SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group) < 0) {
    throw_errno("setsockopt", "audit, NETLINK_ADD_MEMBERSHIP");
  }
  return fd;
}

class DenialWatch : public std::enable_shared_from_this<DenialWatch> {
 public:
  DenialWatch(Napi::Env env, Napi::Function on_records) : env_(env), on_records_(Napi::Persistent(on_records)) {}

  void start() {
    fd_ = listen_to_audit();
    poll_ = LoopPoll::open(env_, fd_.get(), [self = shared_from_this()](int) { self->ready(); });
    poll_->let_go();
    poll_->listen(loop_readable);
  }

  // Some in a row are told together; then nothing, until this.
  void resume() {
    if (poll_) poll_->listen(loop_readable);
  }

  void close() {
    if (!poll_) return;
    poll_->close();
    poll_.reset();
    fd_.reset();
    on_records_.Reset();
  }

 private:
  void ready() {
    auto self = shared_from_this();
    poll_->listen(0);
    Napi::HandleScope handles(env_);
    Napi::Array records = Napi::Array::New(env_);
    char buffer[receive_size];
    for (int i = 0; i < most_waiting; i++) {
      ssize_t got = recv(fd_.get(), buffer, sizeof buffer, 0);
      if (got < 0 && (errno == EINTR || errno == ENOBUFS)) continue;
      if (got < 0) break;
      if (got < static_cast<ssize_t>(NLMSG_HDRLEN) || records.Length() >= most_at_once) continue;
      records.Set(records.Length(), Napi::String::New(env_, buffer + NLMSG_HDRLEN, got - NLMSG_HDRLEN));
    }
    call_from_loop(env_, on_records_, {records});
  }

  Napi::Env env_;
  Napi::FunctionReference on_records_;
  UniqueFd fd_;
  std::shared_ptr<LoopPoll> poll_;
};

Napi::Value watch_seccomp_denials(const Napi::CallbackInfo& info) {
  auto watch = std::make_shared<DenialWatch>(info.Env(), function_argument(info, 0, "onRecords"));
  watch->start();
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("resume",
             Napi::Function::New(info.Env(), [watch](const Napi::CallbackInfo&) { watch->resume(); }, "resume"));
  result.Set("close", Napi::Function::New(info.Env(), [watch](const Napi::CallbackInfo&) { watch->close(); }, "close"));
  return result;
}

// The kernel's number of an architecture is libseccomp's, too.
Napi::Value syscall_name(const Napi::CallbackInfo& info) {
  Napi::Object call = object_argument(info, 0, "call");
  const auto architecture = static_cast<uint32_t>(int_field(call, "architecture"));
  const auto number = static_cast<int>(int_field(call, "number"));
  std::unique_ptr<char, decltype(&free)> name(seccomp_syscall_resolve_num_arch(architecture, number), &free);
  return Napi::String::New(info.Env(), name ? std::string(name.get()) : std::to_string(number));
}

}  // namespace

void register_seccomp_denials(Napi::Object exports) {
  export_function<watch_seccomp_denials>(exports, "watchSeccompDenials");
  export_function<syscall_name>(exports, "syscallName");
}

}  // namespace berth
