#include "monitor/path_in_root.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/openat2.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstring>

namespace berth {

namespace {

constexpr int kMaxLinks = 40;
constexpr int kMaxRaces = 16;

bool is_at_or_below(const char* path, const char* directory) {
  while (*path == '/') ++path;
  const size_t length = strlen(directory);
  return strncmp(path, directory, length) == 0 && (path[length] == '\0' || path[length] == '/');
}

// In `path`, the component that ends at `end` is a link: puts its target there, in place.
bool replace_link(char (&path)[PATH_MAX], size_t start, size_t end, const char* link) {
  char replaced[PATH_MAX];
  const size_t kept = link[0] == '/' ? 0 : start;
  const size_t link_length = strlen(link);
  const size_t rest = strlen(path + end);
  if (kept + link_length + rest >= sizeof replaced) {
    errno = ENAMETOOLONG;
    return false;
  }
  memcpy(replaced, path, kept);
  memcpy(replaced + kept, link, link_length);
  memcpy(replaced + kept + link_length, path + end, rest + 1);
  memcpy(path, replaced, kept + link_length + rest + 1);
  return true;
}

// The directory is its owner's from its birth. Given away afterwards, its name could have been exchanged for another's file
// meanwhile.
bool make_directory_of(int parent, const char* name, const MakeMissing& make) {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct held[2] = {};
  if (syscall(SYS_capget, &header, held) != 0) return false;
  constexpr auto kJustTell = static_cast<uid_t>(-1);
  syscall(SYS_setfsgid, make.gid);
  syscall(SYS_setfsuid, make.uid);
  bool made = false;
  if (static_cast<uid_t>(syscall(SYS_setfsuid, kJustTell)) != make.uid ||
      static_cast<gid_t>(syscall(SYS_setfsgid, kJustTell)) != make.gid) {
    errno = EPERM;
  } else {
    // The capabilities over files went with root's fsuid.
    made = syscall(SYS_capset, &header, held) == 0 && mkdirat(parent, name, 0755) == 0;
  }
  const int saved = errno;
  syscall(SYS_setfsuid, 0);
  syscall(SYS_setfsgid, 0);
  // A change of credentials sets this to what fs.suid_dumpable says.
  const bool restored = syscall(SYS_capset, &header, held) == 0 && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0;
  if (restored) errno = saved;
  return made && restored;
}

bool make_one(int parent, const char* name, bool last, const MakeMissing& make) {
  if (last && make.as_file) {
    const UniqueFd file(openat(parent, name, O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY | O_CLOEXEC, 0644));
    if (!file) return false;
    return true;
  }
  if (last && make.give_to_owner && (make.uid != 0 || make.gid != 0)) return make_directory_of(parent, name, make);
  return mkdirat(parent, name, 0755) == 0;
}

enum class Step { kDone, kAgain, kFailed };

// Goes down `path` from the root and makes what is missing; kAgain: a link was replaced by its target.
Step make_components(int root, char (&path)[PATH_MAX], Links links, const MakeMissing& make) {
  UniqueFd parent = open_in_root(root, "/", O_PATH | O_DIRECTORY, links);
  if (!parent) return Step::kFailed;
  size_t start = 0;
  int races = 0;
  while (path[start] != '\0') {
    if (path[start] == '/') {
      ++start;
      continue;
    }
    const size_t end = start + strcspn(path + start, "/");
    const bool last = path[end + strspn(path + end, "/")] == '\0';
    char prefix[PATH_MAX];
    memcpy(prefix, path, end);
    prefix[end] = '\0';
    UniqueFd next = open_in_root(root, prefix, O_PATH, links);
    if (next) {
      parent = std::move(next);
      start = end;
      continue;
    }
    if (errno != ENOENT) return Step::kFailed;
    const char* name = prefix + start;
    if (make_one(parent.get(), name, last, make)) continue;
    if (errno != EEXIST || ++races > kMaxRaces) return Step::kFailed;
    char link[PATH_MAX];
    const ssize_t length = readlinkat(parent.get(), name, link, sizeof link - 1);
    if (length > 0) {
      link[length] = '\0';
      return replace_link(path, start, end, link) ? Step::kAgain : Step::kFailed;
    }
    if (errno != EINVAL && errno != ENOENT) return Step::kFailed;
  }
  return Step::kDone;
}

}  // namespace

Links links_for(const char* path) {
  for (const char* kernels : {"proc", "sys", "dev"}) {
    if (is_at_or_below(path, kernels)) return Links::kRefused;
  }
  return Links::kWithinRoot;
}

UniqueFd open_in_root(int root, const char* path, uint64_t flags, Links links) {
  open_how how = {};
  how.flags = flags | O_CLOEXEC;
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
  if (links == Links::kRefused) how.resolve |= RESOLVE_NO_SYMLINKS;
  // EAGAIN: a rename or a mount somewhere on the machine came in between, and the kernel could not be sure.
  for (int tries = 0;; ++tries) {
    const auto fd = static_cast<int>(syscall(SYS_openat2, root, path, &how, sizeof how));
    if (fd >= 0 || (errno != EAGAIN && errno != EINTR) || tries > 1000) return UniqueFd(fd);
  }
}

UniqueFd make_in_root(int root, const char* path, Links links, const MakeMissing& make) {
  char full[PATH_MAX];
  if (strlen(path) >= sizeof full) {
    errno = ENAMETOOLONG;
    return UniqueFd();
  }
  strcpy(full, path);
  for (int followed = 0; followed <= kMaxLinks; ++followed) {
    UniqueFd found = open_in_root(root, full, O_PATH, links);
    if (found || errno != ENOENT) return found;
    if (make_components(root, full, links, make) == Step::kFailed) return UniqueFd();
  }
  errno = ELOOP;
  return UniqueFd();
}

}  // namespace berth
