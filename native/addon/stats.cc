// Batch reads for statistics: one thread reads all the files of all pods, instead of a promise for each.
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "addon/arguments.h"
#include "addon/file_access.h"
#include "addon/functions.h"
#include "addon/own_thread.h"

namespace berth {
namespace {

constexpr size_t file_limit = 64 << 10;

struct Content {
  std::string text;
  int errno_value = 0;
};

Content read_small(const std::string& path) {
  try {
    return {read_file(path, file_limit)};
  } catch (const SystemError& error) {
    return {"", error.errno_value()};
  }
}

Napi::Value read_files(const Napi::CallbackInfo& info) {
  std::vector<std::string> paths = to_texts(info[0], "paths");
  return on_own_thread(info.Env(), [paths]() -> Settle {
    auto contents = std::make_shared<std::vector<Content>>();
    contents->reserve(paths.size());
    for (const std::string& path : paths) contents->push_back(read_small(path));
    return [contents](Napi::Env env) {
      Napi::Array result = Napi::Array::New(env, contents->size());
      Napi::String content_key = Napi::String::New(env, "content");
      for (uint32_t i = 0; i < contents->size(); i++) {
        Napi::HandleScope handles(env);
        const Content& content = (*contents)[i];
        Napi::Object read = Napi::Object::New(env);
        if (content.errno_value == 0) {
          read.Set(content_key, Napi::String::New(env, content.text));
        } else {
          const char* name = strerrorname_np(content.errno_value);
          read.Set("errnoName", name != nullptr ? name : "EIO");
        }
        result.Set(i, read);
      }
      return result;
    };
  });
}

}  // namespace

void register_stats(Napi::Object exports) {
  export_function<read_files>(exports, "readFiles");
}

}  // namespace berth
