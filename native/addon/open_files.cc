// How many files the processes of cgroups have open, and how many of these are sockets.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "addon/arguments.h"
#include "addon/file_access.h"
#include "addon/functions.h"
#include "addon/own_thread.h"

namespace berth {
namespace {

constexpr size_t list_limit = 1 << 20;

struct Count {
  uint64_t files = 0;
  uint64_t sockets = 0;
};

// A process that ends meanwhile has none.
void count_process(const std::string& pid, Count* count) {
  std::string path = "/proc/" + pid + "/fd";
  std::unique_ptr<DIR, int (*)(DIR*)> directory(opendir(path.c_str()), closedir);
  if (directory == nullptr) return;
  while (dirent* entry = readdir(directory.get())) {
    if (entry->d_name[0] == '.') continue;
    count->files++;
    char target[16];
    ssize_t length = readlinkat(dirfd(directory.get()), entry->d_name, target, sizeof target);
    if (length > 7 && memcmp(target, "socket:", 7) == 0) count->sockets++;
  }
}

Count count_cgroup(const std::string& directory) {
  Count count;
  std::string list;
  try {
    list = read_file(directory + "/cgroup.procs", list_limit);
  } catch (const SystemError&) {
    return count;
  }
  for (size_t at = 0; at < list.size();) {
    size_t end = std::min(list.find('\n', at), list.size());
    count_process(list.substr(at, end - at), &count);
    at = end + 1;
  }
  return count;
}

// Of a cgroup that is gone there are none.
Napi::Value count_open_files(const Napi::CallbackInfo& info) {
  std::vector<std::string> directories = to_texts(info[0], "directories");
  return on_own_thread(info.Env(), [directories = std::move(directories)]() -> Settle {
    auto counts = std::make_shared<std::vector<Count>>();
    counts->reserve(directories.size());
    for (const std::string& directory : directories) counts->push_back(count_cgroup(directory));
    return [counts](Napi::Env env) {
      Napi::Float64Array values = Napi::Float64Array::New(env, counts->size() * 2);
      for (size_t i = 0; i < counts->size(); i++) {
        values[i * 2] = static_cast<double>((*counts)[i].files);
        values[i * 2 + 1] = static_cast<double>((*counts)[i].sockets);
      }
      return values;
    };
  });
}

}  // namespace

void register_open_files(Napi::Object exports) { export_function<count_open_files>(exports, "countOpenFiles"); }

}  // namespace berth
