// Removes a tree that a container has written: names are bytes, links lead anywhere, and directories can be nested deeper
// than any path reaches and than there are descriptors.
#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>
#include <string>

#include "addon/arguments.h"
#include "addon/functions.h"
#include "addon/own_thread.h"
#include "common/unique_fd.h"

namespace berth {
namespace {

// Each level holds a descriptor.
constexpr int deepest = 128;

class TreeRemoval {
 public:
  explicit TreeRemoval(std::string path) : path_(std::move(path)) {}

  // Goes on where something cannot be removed, and throws the first such error in the end.
  void run() {
    top_.reset(open(path_.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!top_) {
      if (errno == ENOENT) return;
      throw_errno("open", path_);
    }
    do {
      moved_ = false;
      empty(top_.get(), ".", 0);
    } while (moved_);
    if (!error_ && rmdir(path_.c_str()) < 0 && errno != ENOENT) note("rmdir");
    if (error_) throw *error_;
  }

 private:
  using Listing = std::unique_ptr<DIR, int (*)(DIR*)>;

  void note(const char* call) {
    if (!error_) error_.emplace(errno, call, path_);
  }

  // What is mounted in the tree is none of it (EXDEV).
  static Listing list(int parent, const char* name) {
    open_how how = {};
    how.flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    how.resolve = RESOLVE_NO_XDEV;
    UniqueFd fd(static_cast<int>(syscall(SYS_openat2, parent, name, &how, sizeof how)));
    Listing listing(fd ? fdopendir(fd.get()) : nullptr, closedir);
    if (listing) static_cast<void>(fd.release());
    return listing;
  }

  static bool is_directory(int parent, const dirent& entry) {
    if (entry.d_type != DT_UNKNOWN) return entry.d_type == DT_DIR;
    struct stat status;
    return fstatat(parent, entry.d_name, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(status.st_mode);
  }

  void empty(int parent, const char* name, int depth) {
    const Listing listing = list(parent, name);
    if (!listing) {
      if (errno != ENOENT) note("openat2");
      return;
    }
    const int directory = dirfd(listing.get());
    while (true) {
      errno = 0;
      const dirent* entry = readdir(listing.get());
      if (entry == nullptr) {
        if (errno != 0) note("readdir");
        return;
      }
      if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
      const bool is_tree = is_directory(directory, *entry);
      if (is_tree && depth == deepest) {
        move_to_top(directory, entry->d_name);
        continue;
      }
      if (is_tree) empty(directory, entry->d_name, depth + 1);
      if (unlinkat(directory, entry->d_name, is_tree ? AT_REMOVEDIR : 0) < 0 && errno != ENOENT) note("unlinkat");
    }
  }

  // Where the next round finds it.
  void move_to_top(int directory, const char* name) {
    while (true) {
      const std::string place = ".moved-" + std::to_string(++moves_);
      if (renameat2(directory, name, top_.get(), place.c_str(), RENAME_NOREPLACE) == 0) {
        moved_ = true;
        return;
      }
      // a removal that was cut off has left one of that name
      if (errno == EEXIST) continue;
      if (errno != ENOENT) note("renameat2");
      return;
    }
  }

  const std::string path_;
  UniqueFd top_;
  bool moved_ = false;
  int moves_ = 0;
  std::optional<SystemError> error_;
};

Napi::Value remove_tree(const Napi::CallbackInfo& info) {
  std::string path = string_argument(info, 0, "path");
  return on_own_thread(info.Env(), [path]() -> Settle {
    TreeRemoval(path).run();
    return settle_nothing();
  });
}

}  // namespace

void register_remove_tree(Napi::Object exports) { export_function<remove_tree>(exports, "removeTree"); }

}  // namespace berth
