// Batch reads for statistics: one thread reads all the files of all pods, instead of a promise for each.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <memory>
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

constexpr size_t file_limit = 64 << 10;

// ---- small files ----

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

// ---- disk usage ----

struct Usage {
  uint64_t bytes = 0;
  uint64_t inodes = 0;
};

// A directory yet to be read: a path below an open one. Containers can nest directories deeper than PATH_MAX and deeper
// than there are descriptors; so a long path is replaced by a descriptor of its own.
struct Pending {
  std::shared_ptr<UniqueFd> base;
  std::string path;
};

constexpr size_t long_path = 2048;

class UsageWalk {
 public:
  explicit UsageWalk(const std::string& root) {
    auto fd = std::make_shared<UniqueFd>(open_file(root, O_RDONLY | O_DIRECTORY));
    struct stat status;
    if (fstat(fd->get(), &status) < 0) throw_errno("fstat", root);
    device_ = status.st_dev;
    count(status);
    pending_.push_back({std::move(fd), "."});
    while (!pending_.empty()) {
      Pending next = std::move(pending_.back());
      pending_.pop_back();
      read_directory(std::move(next));
    }
  }

  const Usage& usage() const { return usage_; }

 private:
  // What vanishes while it is counted is not counted.
  void read_directory(Pending next) {
    int fd = openat(next.base->get(), next.path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
      if (errno == ENOENT || errno == ENOTDIR || errno == ELOOP) return;
      throw_errno("open", next.path);
    }
    std::shared_ptr<UniqueFd> base = next.base;
    std::string prefix = next.path + "/";
    if (next.path.size() > long_path) {
      base = std::make_shared<UniqueFd>(fcntl(fd, F_DUPFD_CLOEXEC, 0));
      if (!*base) {
        int value = errno;
        close(fd);
        throw SystemError(value, "fcntl", next.path);
      }
      prefix.clear();
    }
    std::unique_ptr<DIR, int (*)(DIR*)> listing(fdopendir(fd), closedir);
    if (listing == nullptr) {
      int value = errno;
      close(fd);
      throw SystemError(value, "fdopendir", next.path);
    }
    while (true) {
      errno = 0;
      dirent* entry = readdir(listing.get());
      if (entry == nullptr) {
        if (errno != 0 && errno != ENOENT) throw_errno("readdir", next.path);
        return;
      }
      if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
      struct stat status;
      if (fstatat(fd, entry->d_name, &status, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) < 0) {
        if (errno == ENOENT) continue;
        throw_errno("stat", prefix + entry->d_name);
      }
      if (status.st_dev != device_) continue;
      if (count(status) && S_ISDIR(status.st_mode)) pending_.push_back({base, prefix + entry->d_name});
    }
  }

  // False: a further name of something that was counted already.
  bool count(const struct stat& status) {
    if (!S_ISDIR(status.st_mode) && status.st_nlink > 1 && !linked_.insert(status.st_ino).second) return false;
    usage_.bytes += static_cast<uint64_t>(status.st_blocks) * 512;
    usage_.inodes++;
    return true;
  }

  Usage usage_;
  dev_t device_ = 0;
  std::set<ino_t> linked_;
  std::vector<Pending> pending_;
};

Napi::Value disk_usage(const Napi::CallbackInfo& info) {
  std::string directory = string_argument(info, 0, "directory");
  return on_own_thread(info.Env(), [directory]() -> Settle {
    Usage usage = UsageWalk(directory).usage();
    return [usage](Napi::Env env) {
      Napi::Object result = Napi::Object::New(env);
      result.Set("bytes", Napi::Number::New(env, static_cast<double>(usage.bytes)));
      result.Set("inodes", Napi::Number::New(env, static_cast<double>(usage.inodes)));
      return result;
    };
  });
}

}  // namespace

void register_stats(Napi::Object exports) {
  export_function<read_files>(exports, "readFiles");
  export_function<disk_usage>(exports, "diskUsage");
}

}  // namespace berth
