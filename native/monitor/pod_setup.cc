#include "monitor/pod_setup.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>

#include "monitor/monitor_log.h"

namespace berth {

namespace {

constexpr const char* kShm = "/shm";
constexpr unsigned long kShmFlags = MS_NOSUID | MS_NODEV | MS_NOEXEC;

constexpr std::string_view kAllowedSysctls[] = {"kernel/shm", "kernel/msg", "fs/mqueue/", "net/"};

// Lets the main thread go to other mount namespaces, and takes it back to the host's, with the root that it had.
class HostMounts {
 public:
  bool save() {
    namespace_.reset(open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC));
    root_.reset(open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
    // A thread that shares its root with another (the log writer) cannot change its mount namespace.
    return namespace_ && root_ && unshare(CLONE_FS) == 0;
  }
  void restore() {
    if (setns(namespace_.get(), CLONE_NEWNS) == 0 && fchdir(root_.get()) == 0 && chroot(".") == 0) return;
    // Going on in another mount namespace would build containers on the wrong files.
    monitor_log("the host's mount namespace cannot be entered again");
    abort();
  }

 private:
  UniqueFd namespace_;
  UniqueFd root_;
};

// The main thread acts as another user of the host. Its real and saved ids stay root's: nobody else may signal it or look
// into it because of this.
class EffectiveUser {
 public:
  explicit EffectiveUser(uid_t uid) { syscall(SYS_setresuid, -1, uid, -1); }
  ~EffectiveUser() {
    const int saved = errno;
    // A change of credentials sets this to what fs.suid_dumpable says.
    if (syscall(SYS_setresuid, -1, 0, -1) != 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) {
      monitor_log("the host's root cannot be become again");
      abort();
    }
    errno = saved;
  }
  EffectiveUser(const EffectiveUser&) = delete;
  EffectiveUser& operator=(const EffectiveUser&) = delete;
};

// It is the host's node: a read-only mount of it, so that nobody can change its mode or owner.
std::optional<Failure> clone_null_device(UniqueFd& mount) {
  mount.reset(open_tree(AT_FDCWD, "/dev/null", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW));
  if (!mount) return failure(ErrorKind::kInternal, last_error("open_tree", "/dev/null"));
  mount_attr attributes = {};
  attributes.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC;
  if (mount_setattr(mount.get(), "", AT_EMPTY_PATH, &attributes, sizeof attributes) != 0) {
    return failure(ErrorKind::kInternal, last_error("mount_setattr", "/dev/null"));
  }
  struct stat status = {};
  if (fstat(mount.get(), &status) != 0) return failure(ErrorKind::kInternal, last_error("stat", "/dev/null"));
  if (S_ISCHR(status.st_mode) && status.st_rdev == makedev(1, 3)) return std::nullopt;
  return failure(ErrorKind::kInternal, "open", "/dev/null", "the host's /dev/null is not the null device");
}

// With the places that other things are mounted at; a detached mount.
std::optional<Failure> make_empty_root(UniqueFd& root) {
  const UniqueFd context(fsopen("tmpfs", FSOPEN_CLOEXEC));
  if (!context || fsconfig(context.get(), FSCONFIG_SET_STRING, "mode", "0755", 0) != 0 ||
      fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) {
    return failure(ErrorKind::kInternal, last_error("make an empty root", "tmpfs"));
  }
  root.reset(fsmount(context.get(), FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC));
  if (!root || mknodat(root.get(), PodMounts::kNull + 1, S_IFREG | 0600, 0) != 0 ||
      mkdirat(root.get(), PodMounts::kRoot + 1, 0755) != 0 || mkdirat(root.get(), kShm + 1, 0755) != 0) {
    return failure(ErrorKind::kInternal, last_error("make an empty root", "tmpfs"));
  }
  return std::nullopt;
}

// False: errno says why.
bool write_sysctl(int directory, const std::string& path, const std::string& value) {
  open_how how = {};
  how.flags = O_WRONLY | O_CLOEXEC;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV;
  const UniqueFd file(static_cast<int>(syscall(SYS_openat2, directory, path.c_str(), &how, sizeof how)));
  return file && write(file.get(), value.data(), value.size()) == static_cast<ssize_t>(value.size());
}

}  // namespace

std::optional<Failure> set_hostname(const std::string& hostname) {
  if (hostname.empty() || sethostname(hostname.data(), hostname.size()) == 0) return std::nullopt;
  return failure(ErrorKind::kInvalid, last_error("sethostname", hostname));
}

std::optional<Failure> own_message_queues(const UserNamespace& users) {
  if (!users.exists()) return std::nullopt;
  // All mounts of it in an IPC namespace are one file system.
  const UniqueFd context(fsopen("mqueue", FSOPEN_CLOEXEC));
  if (!context || fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) {
    return failure(ErrorKind::kInternal, last_error("mount", "mqueue"));
  }
  const UniqueFd queues(fsmount(context.get(), FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC));
  if (!queues || fchownat(queues.get(), "", users.uids.to_host(0), users.gids.to_host(0), AT_EMPTY_PATH) != 0) {
    return failure(ErrorKind::kInternal, last_error("chown", "mqueue"));
  }
  return std::nullopt;
}

std::string sysctl_path(const std::string& name) {
  std::string path = name;
  const size_t separator = path.find_first_of("./");
  if (separator == std::string::npos) return {};
  if (path[separator] == '.') {
    // Dots separate; a dot within a part is written as "/".
    for (char& letter : path) letter = letter == '.' ? '/' : letter == '/' ? '.' : letter;
  }
  for (const char letter : path) {
    const bool plain = (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z') ||
                       (letter >= '0' && letter <= '9');
    if (!plain && letter != '_' && letter != '-' && letter != '.' && letter != '/' && letter != '*') return {};
  }
  // No empty part, and none that goes up again: what is allowed is told by how the path begins.
  if (("/" + path + "/").find("//") != std::string::npos || ("/" + path + "/").find("/./") != std::string::npos ||
      ("/" + path + "/").find("/../") != std::string::npos) {
    return {};
  }
  if (path == "kernel/sem") return path;
  for (const std::string_view allowed : kAllowedSysctls) {
    if (path.starts_with(allowed)) return path;
  }
  return {};
}

std::optional<Failure> set_sysctls(const std::vector<std::pair<std::string, std::string>>& sysctls,
                                   const UserNamespace& users) {
  std::vector<std::pair<std::string, const std::string*>> writes;
  for (const auto& [name, value] : sysctls) {
    std::string path = sysctl_path(name);
    if (path.empty()) {
      return failure(ErrorKind::kInvalid, "set the sysctl", name, "it does not belong to a namespace of the pod");
    }
    for (const char letter : value) {
      if (static_cast<unsigned char>(letter) < 0x20 && letter != '\t') {
        return failure(ErrorKind::kInvalid, "set the sysctl", name, "its value holds a control character");
      }
    }
    writes.emplace_back(std::move(path), &value);
  }
  if (writes.empty()) return std::nullopt;
  const UniqueFd directory(open("/proc/sys", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  struct statfs status = {};
  if (!directory || fstatfs(directory.get(), &status) != 0 || status.f_type != PROC_SUPER_MAGIC) {
    return failure(ErrorKind::kInternal, "open", "/proc/sys", "/proc/sys is not there, or no procfs");
  }
  for (const auto& [path, value] : writes) {
    if (write_sysctl(directory.get(), path, *value)) continue;
    if (errno == EACCES && users.exists()) {
      const EffectiveUser root(users.uids.to_host(0));
      if (write_sysctl(directory.get(), path, *value)) continue;
    }
    return failure(ErrorKind::kInvalid, last_error("set the sysctl", path));
  }
  return std::nullopt;
}

std::optional<Failure> PodMounts::make() {
  HostMounts host;
  if (!host.save()) return failure(ErrorKind::kInternal, last_error("open", "/proc/self/ns/mnt"));
  UniqueFd null;
  if (auto failed = clone_null_device(null)) return failed;
  UniqueFd root;
  if (auto failed = make_empty_root(root)) return failed;
  if (unshare(CLONE_NEWNS) != 0) return failure(ErrorKind::kInternal, last_error("unshare", "the pod's mounts"));
  UniqueFd made(open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC));
  std::optional<Failure> failed;
  // Any directory serves to mount it on: it is left at once.
  if (!made || mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
      move_mount(root.get(), "", AT_FDCWD, "/proc", MOVE_MOUNT_F_EMPTY_PATH) != 0 ||
      move_mount(null.get(), "", root.get(), kNull + 1, MOVE_MOUNT_F_EMPTY_PATH) != 0 || fchdir(root.get()) != 0 ||
      syscall(SYS_pivot_root, ".", ".") != 0 || umount2(".", MNT_DETACH) != 0) {
    failed = failure(ErrorKind::kInternal, last_error("mount", "the pod's mounts"));
  } else {
    null_.reset(open(kNull, O_RDWR | O_CLOEXEC));
    if (!null_) failed = failure(ErrorKind::kInternal, last_error("open", "/dev/null"));
  }
  host.restore();
  if (!failed) namespace_ = std::move(made);
  return failed;
}

std::optional<Failure> PodMounts::set_shm(uint64_t bytes, const std::string& label, const UserNamespace& users) {
  if (bytes == 0) return std::nullopt;
  char options[96];
  snprintf(options, sizeof options, "mode=1777,size=%llu,uid=%u,gid=%u", static_cast<unsigned long long>(bytes),
           users.uids.to_host(0), users.gids.to_host(0));
  // A label may have commas.
  const std::string labelled = std::string(options) + (label.empty() ? "" : ",context=\"" + label + "\"");
  HostMounts host;
  if (!host.save()) return failure(ErrorKind::kInternal, last_error("open", "/proc/self/ns/mnt"));
  if (setns(namespace_.get(), CLONE_NEWNS) != 0) return failure(ErrorKind::kInternal, last_error("setns", "/dev/shm"));
  std::optional<Failure> failed;
  if (mount("shm", kShm, "tmpfs", kShmFlags | (has_shm_ ? MS_REMOUNT : 0), labelled.c_str()) != 0) {
    failed = failure(ErrorKind::kInvalid, last_error("give a size", "/dev/shm"));
  }
  host.restore();
  if (!failed) has_shm_ = true;
  return failed;
}

std::optional<Failure> PodMounts::open_shm(UniqueFd& mount) {
  if (!has_shm_) {
    return failure(ErrorKind::kInvalid, "mount", "/dev/shm", "the pod has no /dev/shm: SetUpPod gave it no size");
  }
  HostMounts host;
  if (!host.save()) return failure(ErrorKind::kInternal, last_error("open", "/proc/self/ns/mnt"));
  if (setns(namespace_.get(), CLONE_NEWNS) != 0) return failure(ErrorKind::kInternal, last_error("setns", "/dev/shm"));
  mount.reset(open_tree(AT_FDCWD, kShm, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
  std::optional<Failure> failed;
  if (!mount) failed = failure(ErrorKind::kInternal, last_error("open_tree", "/dev/shm"));
  host.restore();
  return failed;
}

}  // namespace berth
