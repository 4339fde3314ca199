// nftables through libnftables in this process. One context for life: opening it costs more than a rule, and closing its
// socket waits for the kernel.
#include "addon/nftables.h"

#include <linux/netlink.h>
#include <nftables/libnftables.h>
#include <sys/socket.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <mutex>
#include <string>
#include <utility>

#include "addon/arguments.h"
#include "addon/functions.h"
#include "addon/own_thread.h"

namespace berth {
namespace {

// libnftables answers failures by text alone; these are the kernel's among them.
int errno_of(const std::string& message) {
  static const std::pair<const char*, int> texts[] = {
      {"No such file or directory", ENOENT}, {"File exists", EEXIST},     {"Device or resource busy", EBUSY},
      {"Operation not permitted", EPERM},    {"not supported", ENOTSUP}, {"Cannot allocate memory", ENOMEM},
  };
  for (const auto& [text, value] : texts) {
    if (message.find(text) != std::string::npos) return value;
  }
  return EINVAL;
}

// 0: none yet; the kernel gives it to no socket.
std::atomic<uint32_t> own_port = 0;

// libnftables does not tell its socket: it is the one of nfnetlink that was not there before.
uint32_t newest_nfnetlink_port() {
  uint32_t newest = 0;
  int newest_fd = -1;
  std::error_code failed;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd", failed)) {
    int fd = atoi(entry.path().filename().c_str());
    int domain = 0;
    int protocol = 0;
    socklen_t size = sizeof domain;
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) < 0 || domain != AF_NETLINK) continue;
    size = sizeof protocol;
    if (getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &size) < 0 || protocol != NETLINK_NETFILTER) continue;
    sockaddr_nl address = {};
    size = sizeof address;
    // only listening: the watch's
    if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) < 0 || address.nl_groups != 0) continue;
    if (fd > newest_fd) {
      newest_fd = fd;
      newest = address.nl_pid;
    }
  }
  return newest;
}

class Nftables {
 public:
  // Of the whole process: it is never closed, and its first use is on a thread in the host's network namespace.
  static Nftables& instance() {
    static Nftables& only = *new Nftables();
    return only;
  }

  std::string run(const std::string& json) {
    std::lock_guard lock(mutex_);
    if (context_ == nullptr) open();
    int status = nft_run_cmd_from_buffer(context_, json.c_str());
    // Reading a buffer also empties it: both, on both ways out.
    std::string output = text_of(nft_ctx_get_output_buffer(context_));
    std::string message = text_of(nft_ctx_get_error_buffer(context_));
    if (status != 0) throw SystemError(errno_of(message), "nftables", "", message);
    return output;
  }

 private:
  void open() {
    nft_ctx* context = nft_ctx_new(NFT_CTX_DEFAULT);
    if (context == nullptr) throw SystemError(ENOMEM, "nft_ctx_new", "");
    nft_ctx_output_set_flags(context, NFT_CTX_OUTPUT_JSON | NFT_CTX_OUTPUT_HANDLE);
    if (nft_ctx_buffer_output(context) != 0 || nft_ctx_buffer_error(context) != 0) {
      nft_ctx_free(context);
      throw SystemError(ENOMEM, "nft_ctx_buffer_output", "");
    }
    context_ = context;
    own_port = newest_nfnetlink_port();
  }

  static std::string text_of(const char* buffer) {
    std::string text = buffer != nullptr ? buffer : "";
    while (!text.empty() && text.back() == '\n') text.pop_back();
    return text;
  }

  std::mutex mutex_;
  nft_ctx* context_ = nullptr;
};

Napi::Value run_nftables(const Napi::CallbackInfo& info) {
  std::string json = string_argument(info, 0, "json");
  // What is no JSON would be read as nft's own language.
  if (!json.starts_with('{')) throw Napi::TypeError::New(info.Env(), "json must be a JSON object");
  return on_own_thread(info.Env(), [json]() -> Settle {
    std::string output = Nftables::instance().run(json);
    return [output](Napi::Env env) { return Napi::String::New(env, output); };
  });
}

}  // namespace

bool is_own_nftables_port(uint32_t port) { return port != 0 && port == own_port; }

void register_nftables(Napi::Object exports) { export_function<run_nftables>(exports, "runNftables"); }

}  // namespace berth
