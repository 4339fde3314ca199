// cgroup directories of every version: they are made, written, emptied and removed as the files that they are.
#include <dirent.h>
#include <fcntl.h>
extern "C" {  // glibc 2.36 forgot it in the header
#include <sys/pidfd.h>
}
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "addon/arguments.h"
#include "addon/file_access.h"
#include "addon/functions.h"
#include "addon/own_thread.h"
#include "common/unique_fd.h"

namespace berth {
namespace {

int64_t now_ms() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1'000'000;
}

// Sleeps a little longer each time: half a millisecond to 20.
class Patience {
 public:
  explicit Patience(int64_t timeout_ms) : deadline_ms_(now_ms() + timeout_ms) {}
  bool is_over() const { return now_ms() >= deadline_ms_; }
  void wait() {
    timespec pause = {0, pause_us_ * 1000};
    nanosleep(&pause, nullptr);
    pause_us_ = std::min<long>(pause_us_ * 2, 20'000);
  }

 private:
  int64_t deadline_ms_;
  long pause_us_ = 500;
};

std::vector<std::string> children_of(const std::string& directory) {
  std::vector<std::string> children;
  std::unique_ptr<DIR, int (*)(DIR*)> listing(opendir(directory.c_str()), closedir);
  if (listing == nullptr) {
    if (errno == ENOENT) return children;
    throw_errno("opendir", directory);
  }
  while (true) {
    errno = 0;
    dirent* entry = readdir(listing.get());
    if (entry == nullptr) {
      // A cgroup that is removed while it is read answers ENODEV.
      if (errno != 0 && errno != ENOENT && errno != ENODEV) throw_errno("readdir", directory);
      return children;
    }
    std::string name = entry->d_name;
    if (entry->d_type == DT_DIR && name != "." && name != "..") children.push_back(directory + "/" + name);
  }
}

// The directory and all below it, the deepest first.
void collect_tree(const std::string& directory, std::vector<std::string>* tree) {
  for (const std::string& child : children_of(directory)) collect_tree(child, tree);
  tree->push_back(directory);
}

bool is_gone(int errno_value) { return errno_value == ENOENT || errno_value == ENODEV; }

// ---- create ----

// mkdir -p; what it made is added to `made`, parents first. Most often only the last directory is missing. Its parent may
// be removed meanwhile, but not for ever: where nothing is mounted on /sys/fs/cgroup any more, that directory is there, and
// the kernel says ENOENT of all that is made in it.
void make_directory(const std::string& path, std::vector<std::string>* made) {
  constexpr int most_tries = 16;
  if (path.empty() || path[0] != '/') throw SystemError(EINVAL, "mkdir", path, "the path is not absolute");
  for (int tries = 1;; tries++) {
    if (mkdir(path.c_str(), 0755) == 0) return made->push_back(path);
    if (errno == EEXIST) return;
    const size_t slash = path.rfind('/');
    if (errno != ENOENT || slash == 0 || tries == most_tries) throw_errno("mkdir", path);
    make_directory(path.substr(0, slash), made);
  }
}

void write_all(const Writes& writes) {
  // the device rules of v1 are a dozen writes into one file
  UniqueFd file;
  const std::string* opened = nullptr;
  for (const auto& [path, value] : writes) {
    try {
      if (opened == nullptr || *opened != path) file = open_file(path, O_WRONLY);
      opened = &path;
      write_whole(file.get(), value, path);
    } catch (const SystemError& error) {
      // What was refused is half of the explanation.
      std::string detail = error.detail() + ", writing \"" + value.substr(0, 200) + "\"";
      throw SystemError(error.errno_value(), error.syscall(), path, detail);
    }
  }
}

Napi::Value create_cgroups(const Napi::CallbackInfo& info) {
  Napi::Object options = object_argument(info, 0, "options");
  std::vector<std::string> directories = texts_field(options, "directories");
  Writes writes = to_writes(options.Get("writes"), "writes");
  return on_own_thread(info.Env(), [directories, writes]() -> Settle {
    std::vector<std::string> made;
    try {
      for (const std::string& directory : directories) make_directory(directory, &made);
      write_all(writes);
    } catch (...) {
      for (auto directory = made.rbegin(); directory != made.rend(); ++directory) rmdir(directory->c_str());
      throw;
    }
    std::vector<std::string> parents;
    for (const std::string& one : made) {
      if (std::find(directories.begin(), directories.end(), one) == directories.end()) parents.push_back(one);
    }
    return [parents](Napi::Env env) {
      Napi::Array list = Napi::Array::New(env, parents.size());
      for (uint32_t index = 0; index < parents.size(); index++) list.Set(index, parents[index]);
      return list;
    };
  });
}

Napi::Value write_files(const Napi::CallbackInfo& info) {
  Writes writes = to_writes(info[0], "writes");
  return on_own_thread(info.Env(), [writes]() -> Settle {
    write_all(writes);
    return settle_nothing();
  });
}

// ---- remove ----

void remove_tree(const std::string& directory, Patience* patience) {
  while (true) {
    // Nearly always a leaf: try before looking.
    if (rmdir(directory.c_str()) == 0 || is_gone(errno)) return;
    if (errno != EBUSY && errno != ENOTEMPTY) throw_errno("rmdir", directory);
    for (const std::string& child : children_of(directory)) remove_tree(child, patience);
    if (rmdir(directory.c_str()) == 0 || is_gone(errno)) return;
    if (errno != EBUSY && errno != ENOTEMPTY) throw_errno("rmdir", directory);
    if (patience->is_over()) throw_errno("rmdir", directory);
    patience->wait();
  }
}

Napi::Value remove_cgroups(const Napi::CallbackInfo& info) {
  Napi::Object options = object_argument(info, 0, "options");
  std::vector<std::string> directories = texts_field(options, "directories");
  int64_t timeout_ms = int_field(options, "timeoutMs");
  return on_own_thread(info.Env(), [directories, timeout_ms]() -> Settle {
    Patience patience(timeout_ms);
    for (const std::string& directory : directories) remove_tree(directory, &patience);
    return settle_nothing();
  });
}

// ---- kill ----

std::vector<pid_t> processes_in(const std::string& directory) {
  std::vector<pid_t> pids;
  std::string content;
  try {
    content = read_file(directory + "/cgroup.procs", 16 << 20);
  } catch (const SystemError& error) {
    if (is_gone(error.errno_value())) return pids;
    // A threaded cgroup of v2 cannot list processes; the root of its domain does.
    if (error.errno_value() == EOPNOTSUPP) return pids;
    throw;
  }
  for (size_t start = 0; start < content.size();) {
    size_t end = content.find('\n', start);
    if (end == std::string::npos) end = content.size();
    // 0: a process outside of this process's PID namespace, which cannot be signalled from here.
    pid_t pid = static_cast<pid_t>(std::atoi(content.substr(start, end - start).c_str()));
    if (pid > 0) pids.push_back(pid);
    start = end + 1;
  }
  return pids;
}

std::vector<pid_t> processes_below(const std::string& directory) {
  std::vector<std::string> tree;
  collect_tree(directory, &tree);
  std::vector<pid_t> pids;
  for (const std::string& member : tree) {
    std::vector<pid_t> some = processes_in(member);
    pids.insert(pids.end(), some.begin(), some.end());
  }
  if (std::find(pids.begin(), pids.end(), getpid()) != pids.end()) {
    throw SystemError(EPERM, "kill cgroup", directory, "the agent itself is in there");
  }
  return pids;
}

// The number of a process may be given to another one between the listing and the signal. So it is opened first, and only
// what is still listed afterwards is killed.
void kill_listed(const std::string& directory, const std::vector<pid_t>& pids) {
  std::unordered_map<pid_t, UniqueFd> opened;
  for (pid_t pid : pids) {
    UniqueFd pidfd(pidfd_open(pid, 0));
    if (pidfd) {
      opened.emplace(pid, std::move(pidfd));
    } else if (errno != ESRCH && errno != EINVAL) {  // EINVAL: a thread group whose leader has ended
      throw_errno("pidfd_open", "process " + std::to_string(pid));
    }
  }
  for (pid_t pid : processes_below(directory)) {
    auto found = opened.find(pid);
    if (found == opened.end()) continue;
    if (pidfd_send_signal(found->second.get(), SIGKILL, nullptr, 0) < 0 && errno != ESRCH) {
      throw_errno("pidfd_send_signal", "process " + std::to_string(pid));
    }
  }
}

enum class Freezer { frozen, thawed };

// v1's freezer holds back even SIGKILL.
void set_freezer(const std::string& directory, Freezer state) {
  std::vector<std::string> tree;
  collect_tree(directory, &tree);
  // Thawed from above: a child of a frozen cgroup stays frozen.
  std::reverse(tree.begin(), tree.end());
  for (const std::string& member : tree) {
    std::string file = member + "/freezer.state";
    if (access(file.c_str(), F_OK) != 0) return;
    try {
      if (state == Freezer::thawed && read_file(file, 64) == "THAWED\n") continue;
      write_file(file, state == Freezer::frozen ? "FROZEN" : "THAWED");
    } catch (const SystemError& error) {
      if (!is_gone(error.errno_value())) throw;
    }
  }
}

// True: the cgroup has a cgroup.kill (or is gone).
bool kill_by_file(const std::string& directory) {
  try {
    write_file(directory + "/cgroup.kill", "1");
    return true;
  } catch (const SystemError& error) {
    if (error.errno_value() == ENOENT || error.errno_value() == EACCES) return false;
    if (error.errno_value() == ENODEV) return true;
    throw;
  }
}

void kill_tree(const std::string& directory, Patience* patience) {
  constexpr int rounds_before_freezing = 4;
  if (access(directory.c_str(), F_OK) != 0 && is_gone(errno)) return;
  for (int round = 0;; round++) {
    std::vector<pid_t> pids = processes_below(directory);
    if (pids.empty()) return;
    if (!kill_by_file(directory)) {
      // What forks faster than it is killed is stopped first.
      if (round >= rounds_before_freezing) set_freezer(directory, Freezer::frozen);
      kill_listed(directory, round >= rounds_before_freezing ? processes_below(directory) : pids);
      set_freezer(directory, Freezer::thawed);
    }
    if (patience->is_over()) {
      throw SystemError(ETIMEDOUT, "kill cgroup", directory, "process " + std::to_string(pids.front()) + " and " +
                        std::to_string(pids.size() - 1) + " more did not end in time");
    }
    patience->wait();
  }
}

Napi::Value kill_cgroups(const Napi::CallbackInfo& info) {
  Napi::Object options = object_argument(info, 0, "options");
  std::vector<std::string> directories = texts_field(options, "directories");
  int64_t timeout_ms = int_field(options, "timeoutMs");
  return on_own_thread(info.Env(), [directories, timeout_ms]() -> Settle {
    Patience patience(timeout_ms);
    // On a hybrid host the v1 directories hold the same processes: cgroup2 ends them all at once, before any loop.
    for (const std::string& directory : directories) {
      if (access((directory + "/cgroup.kill").c_str(), F_OK) != 0) continue;
      if (!processes_below(directory).empty()) kill_by_file(directory);
    }
    for (const std::string& directory : directories) kill_tree(directory, &patience);
    return settle_nothing();
  });
}

}  // namespace

void register_cgroup(Napi::Object exports) {
  export_function<create_cgroups>(exports, "createCgroups");
  export_function<write_files>(exports, "writeFiles");
  export_function<remove_cgroups>(exports, "removeCgroups");
  export_function<kill_cgroups>(exports, "killCgroups");
}

}  // namespace berth
