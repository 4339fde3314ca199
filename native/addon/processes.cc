// What /proc tells of the processes of cgroups: open files, and among them sockets; threads by their state. And of
// processes by number: their memory.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "addon/arguments.h"
#include "addon/file_access.h"
#include "addon/functions.h"
#include "addon/own_thread.h"
#include "common/unique_fd.h"

namespace berth {
namespace {

constexpr size_t list_limit = 1 << 20;
constexpr double unknown = std::numeric_limits<double>::quiet_NaN();

// What a pass looks at altogether: a container may have a million files open, or threads by the ten thousand, and each is
// a call of the kernel's. What is not looked at to the end is not told.
struct Budget {
  size_t files = 100'000;
  size_t threads = 20'000;
};

enum Value { files, sockets, running, sleeping, stopped, uninterruptible, value_count };
using Values = std::array<double, value_count>;

using Directory = std::unique_ptr<DIR, int (*)(DIR*)>;

// Calls `each` with the names until it says false.
template <typename Each>
bool for_each_name(const std::string& path, Each each) {
  Directory directory(opendir(path.c_str()), closedir);
  // A process that has ended meanwhile has nothing.
  if (directory == nullptr) return true;
  while (dirent* entry = readdir(directory.get())) {
    if (entry->d_name[0] != '.' && !each(dirfd(directory.get()), entry->d_name)) return false;
  }
  return true;
}

// False: the budget is spent.
bool count_files(const std::string& process, Budget* budget, Values* values) {
  return for_each_name(process + "/fd", [&](int directory, const char* name) {
    if (budget->files == 0) return false;
    budget->files--;
    (*values)[files]++;
    char target[16];
    ssize_t length = readlinkat(directory, name, target, sizeof target);
    if (length > 7 && memcmp(target, "socket:", 7) == 0) (*values)[sockets]++;
    return true;
  });
}

std::optional<Value> kind_of(char state) {
  switch (state) {
    case 'R':
      return running;
    case 'S':
    case 'I':
      return sleeping;
    case 'T':
    case 't':
      return stopped;
    case 'D':
      return uninterruptible;
    default:
      return std::nullopt;
  }
}

struct Stat {
  std::optional<Value> kind;
  long threads = 0;
};

// "7 (a name) S ...", whose 20th word is the number of threads: a name may have anything in it.
Stat read_stat(int directory, const std::string& path) {
  Stat stat;
  UniqueFd fd(openat(directory, path.c_str(), O_RDONLY | O_CLOEXEC));
  char text[512];
  ssize_t length = fd ? read(fd.get(), text, sizeof text - 1) : -1;
  if (length <= 0) return stat;
  text[length] = '\0';
  const void* found = memrchr(text, ')', static_cast<size_t>(length));
  if (found == nullptr) return stat;
  char state = 0;
  constexpr const char* words = " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %ld";
  if (sscanf(static_cast<const char*>(found) + 1, words, &state, &stat.threads) > 0) stat.kind = kind_of(state);
  return stat;
}

// False: the budget is spent.
bool count_threads(const std::string& process, Budget* budget, Values* values) {
  auto count = [&](const Stat& stat) {
    if (budget->threads == 0) return false;
    budget->threads--;
    if (stat.kind) (*values)[*stat.kind]++;
    return true;
  };
  // Of a process with one thread its own state is that thread's, and there is no list to go through.
  Stat whole = read_stat(AT_FDCWD, process + "/stat");
  if (whole.threads <= 1) return whole.threads == 0 || count(whole);
  return for_each_name(process + "/task", [&](int directory, const char* name) {
    return count(read_stat(directory, std::string(name) + "/stat"));
  });
}

Values look_at(const std::string& directory, Budget* budget) {
  Values values{};
  bool all_files = true;
  bool all_threads = true;
  std::string list;
  try {
    list = read_file(directory + "/cgroup.procs", list_limit);
  } catch (const SystemError&) {
    values.fill(unknown);
    return values;
  }
  for (size_t at = 0; at < list.size();) {
    size_t end = std::min(list.find('\n', at), list.size());
    std::string process = "/proc/" + list.substr(at, end - at);
    all_files = all_files && count_files(process, budget, &values);
    all_threads = all_threads && count_threads(process, budget, &values);
    at = end + 1;
  }
  if (!all_files) values[files] = values[sockets] = unknown;
  if (!all_threads) std::fill(values.begin() + running, values.end(), unknown);
  return values;
}

Napi::Value look_at_processes(const Napi::CallbackInfo& info) {
  std::vector<std::string> directories = to_texts(info[0], "directories");
  return on_yielding_thread(info.Env(), [directories = std::move(directories)]() -> Settle {
    auto all = std::make_shared<std::vector<Values>>();
    all->reserve(directories.size());
    Budget budget;
    for (const std::string& directory : directories) all->push_back(look_at(directory, &budget));
    return [all](Napi::Env env) {
      Napi::Float64Array result = Napi::Float64Array::New(env, all->size() * value_count);
      double* at = result.Data();
      for (const Values& values : *all) at = std::copy(values.begin(), values.end(), at);
      return result;
    };
  });
}

// statm: "size resident shared ..." in pages; what is not shared with a file is the process's own.
double own_memory(int pid) {
  unsigned long resident = 0;
  unsigned long shared = 0;
  try {
    std::string text = read_file("/proc/" + std::to_string(pid) + "/statm", 256);
    if (sscanf(text.c_str(), "%*u %lu %lu", &resident, &shared) != 2 || resident < shared) return unknown;
  } catch (const SystemError&) {
    return unknown;
  }
  return static_cast<double>(resident - shared) * static_cast<double>(sysconf(_SC_PAGESIZE));
}

Napi::Value memory_of(const Napi::CallbackInfo& info) {
  Napi::Array given = object_argument(info, 0, "pids").As<Napi::Array>();
  std::vector<int> pids;
  for (uint32_t i = 0; i < given.Length(); i++) pids.push_back(given.Get(i).ToNumber().Int32Value());
  return on_own_thread(info.Env(), [pids = std::move(pids)]() -> Settle {
    auto all = std::make_shared<std::vector<double>>();
    all->reserve(pids.size());
    for (int pid : pids) all->push_back(own_memory(pid));
    return [all](Napi::Env env) {
      Napi::Float64Array result = Napi::Float64Array::New(env, all->size());
      std::copy(all->begin(), all->end(), result.Data());
      return result;
    };
  });
}

}  // namespace

void register_processes(Napi::Object exports) {
  export_function<look_at_processes>(exports, "lookAtProcesses");
  export_function<memory_of>(exports, "memoryOf");
}

}  // namespace berth
