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

// The netlink port of libnftables' socket; 0: none yet.
std::atomic<uint32_t> own_port = 0;

uint32_t port_of(int fd) {
  sockaddr_nl address = {};
  socklen_t size = sizeof address;
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) < 0 || address.nl_family != AF_NETLINK) return 0;
  return address.nl_pid;
}

bool has_option(int fd, int option, int wanted) {
  int value = -1;
  socklen_t size = sizeof value;
  return getsockopt(fd, SOL_SOCKET, option, &value, &size) == 0 && value == wanted;
}

// Not one that listens, as the watch's does.
bool is_nfnetlink_requester(int fd) {
  if (!has_option(fd, SO_DOMAIN, AF_NETLINK) || !has_option(fd, SO_PROTOCOL, NETLINK_NETFILTER)) return false;
  sockaddr_nl address = {};
  socklen_t size = sizeof address;
  return getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0 && address.nl_groups == 0;
}

// libnftables does not tell its socket. One that has no port yet gets it here, and not with its first message, so that the
// first changes are known for our own, too.
int find_own_socket() {
  int found = -1;
  std::error_code failed;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd", failed)) {
    int fd = atoi(entry.path().filename().c_str());
    if (!is_nfnetlink_requester(fd) || is_own_elements_port(port_of(fd))) continue;
    found = fd;
    if (port_of(fd) != 0) continue;
    sockaddr_nl any = {};
    any.nl_family = AF_NETLINK;
    if (bind(fd, reinterpret_cast<sockaddr*>(&any), sizeof any) == 0) break;
  }
  return found;
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
    follow_socket();
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
    follow_socket();
  }

  // It opens another one when a listing of its own was interrupted by somebody's change.
  void follow_socket() {
    if (own_port != 0 && port_of(socket_) == own_port) return;
    if (!is_nfnetlink_requester(socket_) || port_of(socket_) == 0) socket_ = find_own_socket();
    own_port = port_of(socket_);
  }

  static std::string text_of(const char* buffer) {
    std::string text = buffer != nullptr ? buffer : "";
    while (!text.empty() && text.back() == '\n') text.pop_back();
    return text;
  }

  std::mutex mutex_;
  nft_ctx* context_ = nullptr;
  int socket_ = -1;  // of the context
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

bool is_own_nftables_port(uint32_t port) { return port != 0 && (port == own_port || is_own_elements_port(port)); }

void register_nftables(Napi::Object exports) { export_function<run_nftables>(exports, "runNftables"); }

}  // namespace berth
