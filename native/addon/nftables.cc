// nftables through libnftables in this process. One context for life: opening it costs more than a rule, and closing its
// socket waits for the kernel.
#include <nftables/libnftables.h>

#include <cerrno>
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

void register_nftables(Napi::Object exports) { export_function<run_nftables>(exports, "runNftables"); }

}  // namespace berth
