// Labels of SELinux on the files of a volume. What is in a volume may be changed by others at any moment: every file is
// opened once, without following links and without leaving its mount, and labelled by that descriptor.
#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "addon/arguments.h"
#include "addon/functions.h"
#include "addon/own_thread.h"
#include "common/unique_fd.h"

namespace berth {
namespace {

constexpr const char* kAttribute = "security.selinux";
// Each level keeps a descriptor open: a volume's content must not use up the agent's.
constexpr int kMaxDepth = 512;

struct CloseDirectory {
  void operator()(DIR* directory) const { closedir(directory); }
};

// Of a link itself. What is mounted there (EXDEV) or has just gone (ENOENT): an empty descriptor.
UniqueFd open_beneath(int directory, const char* name, uint64_t flags) {
  open_how how = {};
  how.flags = flags | O_NOFOLLOW | O_CLOEXEC;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS;
  return UniqueFd(static_cast<int>(syscall(SYS_openat2, directory, name, &how, sizeof how)));
}

// By way of the descriptor, because fsetxattr takes none that is opened with O_PATH.
std::string own_path(int fd) { return "/proc/self/fd/" + std::to_string(fd); }

class Relabel {
 public:
  explicit Relabel(std::string label) : label_(std::move(label)) {}

  void tree(int fd, const std::string& subject) {
    if (!set(fd, subject)) return;
    struct stat status = {};
    if (fstat(fd, &status) != 0) throw_errno("fstat", subject);
    if (S_ISDIR(status.st_mode)) below(fd, subject, 0);
  }

 private:
  // False: the file system keeps no labels, or has one for all its files.
  bool set(int fd, const std::string& subject) {
    const std::string path = own_path(fd);
    char before[512];
    // What has the label already is not written to.
    const ssize_t length = getxattr(path.c_str(), kAttribute, before, sizeof before);
    if (length > 0 && std::string_view(before, strnlen(before, static_cast<size_t>(length))) == label_) return true;
    if (setxattr(path.c_str(), kAttribute, label_.c_str(), label_.size() + 1, 0) == 0) return true;
    if (errno == EOPNOTSUPP) return false;
    throw_errno("setxattr security.selinux", subject);
  }

  void below(int fd, const std::string& subject, int depth) {
    if (depth == kMaxDepth) throw SystemError(ELOOP, "relabel", subject, "its directories are nested too deep");
    for (const std::string& name : label_entries(fd, subject)) {
      const UniqueFd directory = open_beneath(fd, name.c_str(), O_PATH | O_DIRECTORY);
      // somebody has put something else there
      if (directory) below(directory.get(), subject + "/" + name, depth + 1);
    }
  }

  // Answers the directories among them.
  std::vector<std::string> label_entries(int fd, const std::string& subject) {
    UniqueFd own(openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!own) throw_errno("open", subject);
    const std::unique_ptr<DIR, CloseDirectory> listing(fdopendir(own.get()));
    if (!listing) throw_errno("fdopendir", subject);
    own.release();
    std::vector<std::string> directories;
    while (true) {
      errno = 0;
      const dirent* entry = readdir(listing.get());
      if (entry == nullptr) {
        if (errno != 0 && errno != ENOENT) throw_errno("readdir", subject);
        return directories;
      }
      if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
      const std::string name = subject + "/" + entry->d_name;
      const UniqueFd file = open_beneath(fd, entry->d_name, O_PATH);
      if (!file) {
        if (errno == EXDEV || errno == ENOENT) continue;
        throw_errno("open", name);
      }
      struct stat status = {};
      if (fstat(file.get(), &status) != 0) throw_errno("fstat", name);
      if (set(file.get(), name) && S_ISDIR(status.st_mode)) directories.emplace_back(entry->d_name);
    }
  }

  const std::string label_;
};

Napi::Value relabel_tree(const Napi::CallbackInfo& info) {
  Napi::Object options = object_argument(info, 0, "options");
  const int fd = static_cast<int>(int_field(options, "fd"));
  std::string label = text_field(options, "label");
  std::string subject = text_field(options, "path");
  return on_own_thread(info.Env(), [fd, label, subject]() -> Settle {
    Relabel(label).tree(fd, subject);
    return settle_nothing();
  });
}

}  // namespace

void register_relabel(Napi::Object exports) { export_function<relabel_tree>(exports, "relabelTree"); }

}  // namespace berth
