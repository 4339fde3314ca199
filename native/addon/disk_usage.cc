// How much a tree occupies: a walk that can be told to rest, because a container may have written millions of files.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>
#include <mutex>
#include <set>
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

using Clock = std::chrono::steady_clock;

struct Usage {
  uint64_t bytes = 0;
  uint64_t inodes = 0;
  bool done = false;
};

// A directory yet to be read: a path below an open one. Containers can nest directories deeper than PATH_MAX and deeper
// than there are descriptors; so a long path is replaced by a descriptor of its own.
struct Pending {
  std::shared_ptr<UniqueFd> base;
  std::string path;
};

constexpr size_t long_path = 2048;
constexpr int entries_between_looks = 64;

class UsageWalk {
 public:
  explicit UsageWalk(std::string root) : root_(std::move(root)) {}

  Usage step(Clock::duration limit) {
    std::lock_guard one_at_a_time(mutex_);
    Clock::time_point end = Clock::now() + limit;
    if (!begun_) begin();
    for (int entries = 0; listing_ != nullptr || !pending_.empty(); entries++) {
      if (listing_ == nullptr) {
        Pending next = std::move(pending_.back());
        pending_.pop_back();
        open_directory(std::move(next));
      } else if (!read_entry()) {
        listing_.reset();
      }
      if (entries % entries_between_looks == entries_between_looks - 1 && Clock::now() >= end) return usage_;
    }
    usage_.done = true;
    // nobody knows when the last reference to a walk goes: until then it would keep the file system from being unmounted
    base_.reset();
    return usage_;
  }

 private:
  struct CloseDirectory {
    void operator()(DIR* directory) const { closedir(directory); }
  };

  void begin() {
    auto fd = std::make_shared<UniqueFd>(open_file(root_, O_RDONLY | O_DIRECTORY));
    struct stat status;
    if (fstat(fd->get(), &status) < 0) throw_errno("fstat", root_);
    device_ = status.st_dev;
    count(status);
    pending_.push_back({std::move(fd), "."});
    begun_ = true;
  }

  // What vanishes while it is counted is not counted.
  void open_directory(Pending next) {
    UniqueFd fd(openat(next.base->get(), next.path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!fd) {
      if (errno == ENOENT || errno == ENOTDIR || errno == ELOOP) return;
      throw_errno("open", next.path);
    }
    base_ = next.base;
    prefix_ = next.path + "/";
    if (next.path.size() > long_path) {
      base_ = std::make_shared<UniqueFd>(fcntl(fd.get(), F_DUPFD_CLOEXEC, 0));
      if (!*base_) throw_errno("fcntl", next.path);
      prefix_.clear();
    }
    listing_.reset(fdopendir(fd.get()));
    if (listing_ == nullptr) throw_errno("fdopendir", next.path);
    fd.release();
  }

  // False: that was the last one.
  bool read_entry() {
    errno = 0;
    dirent* entry = readdir(listing_.get());
    if (entry == nullptr) {
      if (errno != 0 && errno != ENOENT) throw_errno("readdir", prefix_);
      return false;
    }
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) return true;
    struct stat status;
    if (fstatat(dirfd(listing_.get()), entry->d_name, &status, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) < 0) {
      if (errno == ENOENT) return true;
      throw_errno("stat", prefix_ + entry->d_name);
    }
    if (status.st_dev == device_ && count(status) && S_ISDIR(status.st_mode)) {
      pending_.push_back({base_, prefix_ + entry->d_name});
    }
    return true;
  }

  // False: a further name of something that was counted already.
  bool count(const struct stat& status) {
    if (!S_ISDIR(status.st_mode) && status.st_nlink > 1 && !linked_.insert(status.st_ino).second) return false;
    usage_.bytes += static_cast<uint64_t>(status.st_blocks) * 512;
    usage_.inodes++;
    return true;
  }

  const std::string root_;
  std::mutex mutex_;
  bool begun_ = false;
  Usage usage_;
  dev_t device_ = 0;
  std::set<ino_t> linked_;
  std::vector<Pending> pending_;
  // The directory that is being read, and what its directories are opened by.
  std::unique_ptr<DIR, CloseDirectory> listing_;
  std::shared_ptr<UniqueFd> base_;
  std::string prefix_;
};

Napi::Value open_usage_walk(const Napi::CallbackInfo& info) {
  auto walk = std::make_shared<UsageWalk>(string_argument(info, 0, "directory"));
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("step", Napi::Function::New(info.Env(), [walk](const Napi::CallbackInfo& step) -> Napi::Value {
               std::chrono::milliseconds limit(int_argument(step, 0, "limitMs"));
               return on_own_thread(step.Env(), [walk, limit]() -> Settle {
                 Usage usage = walk->step(limit);
                 return [usage](Napi::Env env) {
                   Napi::Object counted = Napi::Object::New(env);
                   counted.Set("done", Napi::Boolean::New(env, usage.done));
                   counted.Set("bytes", Napi::Number::New(env, static_cast<double>(usage.bytes)));
                   counted.Set("inodes", Napi::Number::New(env, static_cast<double>(usage.inodes)));
                   return counted;
                 };
               });
             }));
  return result;
}

}  // namespace

void register_disk_usage(Napi::Object exports) { export_function<open_usage_walk>(exports, "openUsageWalk"); }

}  // namespace berth
