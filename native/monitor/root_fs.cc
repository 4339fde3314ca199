#include "monitor/root_fs.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstring>

#include "common/clone3.h"
#include "monitor/copy_up.h"
#include "monitor/path_in_root.h"
#include "monitor/program.h"
#include "monitor/terminal.h"

namespace berth {

namespace {

// PIDFD_GET_PID_NAMESPACE (Linux 6.11)
constexpr unsigned long kPidfdGetPidNamespace = _IO(0xFF, 5);

// The kernel's own words about a mount that it refused, if it has any.
void read_mount_message(int context, char (&text)[256]) {
  const ssize_t length = read(context, text, sizeof text - 1);
  text[length > 0 ? length : 0] = '\0';
  text[strcspn(text, "\n")] = '\0';
}

bool is_device(const Device& device) { return S_ISCHR(device.type) || S_ISBLK(device.type); }

// Of a device's node among the others: its place in the plan.
struct NodeName {
  explicit NodeName(size_t index) { snprintf(text, sizeof text, "%zu", index); }
  char text[24];
};

// In the tmpfs of the nodes: where a root of a user namespace is attached, who cannot enter the pod's directory.
constexpr const char* kRootPlace = "root";
// And what hooks, who cannot enter it either, are shown of it.
constexpr const char* kBundlePlace = "bundle";

bool is_directory(int fd) {
  struct stat status = {};
  return fstat(fd, &status) == 0 && S_ISDIR(status.st_mode);
}

bool set_attributes(int mount_fd, uint64_t set, uint64_t propagation, bool recursive) {
  mount_attr attributes = {};
  attributes.attr_set = set;
  // The access time is one of several choices rather than a flag: the old choice must be cleared.
  if ((set & MOUNT_ATTR__ATIME) != 0) attributes.attr_clr = MOUNT_ATTR__ATIME;
  attributes.propagation = propagation;
  return mount_setattr(mount_fd, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), &attributes,
                       sizeof attributes) == 0;
}

}  // namespace

UniqueFd RootFs::clone_mount(int fd, unsigned flags, const char* step, const char* path) {
  UniqueFd copy(open_tree(fd, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | flags));
  if (!copy) channel_.refuse(step, path);
  return copy;
}

void RootFs::make_nodes(const UserNamespace& users) {
  const UniqueFd context(fsopen("tmpfs", FSOPEN_CLOEXEC));
  if (!context || fsconfig(context.get(), FSCONFIG_SET_STRING, "source", "tmpfs", 0) != 0 ||
      fsconfig(context.get(), FSCONFIG_SET_STRING, "mode", "0755", 0) != 0 ||
      fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) {
    channel_.break_off("mount a tmpfs for the devices");
  }
  nodes_.reset(fsmount(context.get(), FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC));
  if (!nodes_) channel_.break_off("mount a tmpfs for the devices");
  if (mkdirat(nodes_.get(), kRootPlace, 0755) != 0) channel_.break_off("mkdir", kRootPlace);
  for (size_t i = 0; i < plan_.devices.size(); ++i) {
    const Device& device = plan_.devices[i];
    if (!is_device(device)) continue;
    const NodeName name(i);
    if (mknodat(nodes_.get(), name.text, (device.type & S_IFMT) | (device.mode & 07777),
                makedev(device.major, device.minor)) != 0 ||
        fchownat(nodes_.get(), name.text, device.of_host ? 0 : users.uids.to_host(device.uid),
                 device.of_host ? 0 : users.gids.to_host(device.gid), AT_SYMLINK_NOFOLLOW) != 0) {
      channel_.refuse("mknod", device.path.c_str());
    }
    // For hooks it stands in for the host's /dev.
    const char* path = device.path.c_str();
    if (plan_.hooks.pause && strncmp(path, "/dev/", 5) == 0 && strchr(path + 5, '/') == nullptr &&
        symlinkat(name.text, nodes_.get(), path + 5) != 0 && errno != EEXIST) {
      channel_.break_off("symlink", path);
    }
  }
  if (plan_.hooks.bundle.empty()) return;
  const char* bundle = plan_.hooks.bundle.c_str();
  bundle_.reset(open_tree(AT_FDCWD, bundle, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW));
  if (!bundle_ || !set_attributes(bundle_.get(), MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, 0, false) ||
      mkdirat(nodes_.get(), kBundlePlace, 0755) != 0) {
    channel_.break_off("show the bundle", bundle);
  }
}

void RootFs::attach(const Places& places) {
  if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) channel_.break_off("make mounts private", "/");
  UniqueFd null(open(places.null, O_PATH | O_CLOEXEC | O_NOFOLLOW));
  if (!null) channel_.break_off("open", "/dev/null");
  if (!is_null_device(null.get())) {
    channel_.fail(ErrorKind::kInternal, "open", "/dev/null", 0, "the host's /dev/null is not the null device");
  }
  null_.mount = clone_mount(null.get(), 0, "open_tree", "/dev/null");
  // It is the host's node: who is root in the container must not change its mode or owner through a masked path.
  if (!set_attributes(null_.mount.get(), MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, 0, false)) {
    channel_.break_off("mount_setattr", "/dev/null");
  }
  // Attached, because before Linux 6.15 no other mount can be copied; it goes with the old root.
  if (nodes_ && move_mount(nodes_.get(), "", AT_FDCWD, kUnprivilegedPlace, MOVE_MOUNT_F_EMPTY_PATH) != 0) {
    channel_.break_off("attach the devices", kUnprivilegedPlace);
  }
  if (bundle_ && move_mount(bundle_.get(), "", nodes_.get(), kBundlePlace, MOVE_MOUNT_F_EMPTY_PATH) != 0) {
    channel_.break_off("attach the bundle", plan_.hooks.bundle.c_str());
  }
  const int at = nodes_ ? nodes_.get() : AT_FDCWD;
  if (move_mount(root_, "", at, nodes_ ? kRootPlace : places.root, MOVE_MOUNT_F_EMPTY_PATH) != 0) {
    channel_.refuse("attach the root file system", places.root);
  }
}

void RootFs::attach_at(int mount_fd, int target, const char* path) {
  if (move_mount(mount_fd, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) == 0) return;
  const int saved = errno;
  // the kernel's EINVAL says nothing, and this is what people get wrong
  if (saved == EINVAL && is_directory(mount_fd) != is_directory(target)) {
    const bool directory = is_directory(mount_fd);
    channel_.fail(ErrorKind::kInvalid, "mount", path, directory ? ENOTDIR : EISDIR,
                  directory ? "a directory cannot be mounted on what is none"
                            : "what is no directory cannot be mounted on one");
  }
  errno = saved;
  channel_.refuse("mount", path);
}

// The procfs of a PID namespace that the caller is not in: a process in there could be taken over by others in there.
UniqueFd RootFs::open_proc_context() {
  UniqueFd context(fsopen("proc", FSOPEN_CLOEXEC));
  if (!context) channel_.break_off("fsopen", "proc");
  const UniqueFd pid_namespace(ioctl(sources_.pid_namespace_fd, kPidfdGetPidNamespace, 0));
  if (pid_namespace && fsconfig(context.get(), FSCONFIG_SET_FD, "pidns", nullptr, pid_namespace.get()) == 0) return context;

  // Before Linux 6.17 it is the one in which fsopen is called. Whoever calls it there puts the descriptor in this one's place,
  // as they share their descriptors, and ends.
  const int place = context.get();
  const pid_t outer = clone_fork(CLONE_FILES);
  if (outer == 0) {
    if (setns(sources_.pid_namespace_fd, CLONE_NEWPID) != 0) _exit(errno);
    const pid_t inner = clone_fork(CLONE_FILES);
    if (inner == 0) {
      const int opened = fsopen("proc", FSOPEN_CLOEXEC);
      _exit(opened >= 0 && dup3(opened, place, O_CLOEXEC) == place && close(opened) == 0 ? 0 : errno);
    }
    int status = 0;
    _exit(inner < 0 || waitpid(inner, &status, 0) != inner ? errno : WIFEXITED(status) ? WEXITSTATUS(status) : EINTR);
  }
  int status = 0;
  if (outer < 0 || waitpid(outer, &status, 0) != outer) channel_.break_off("clone", "for /proc");
  const int failed = WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
  if (failed != 0) {
    const bool ending = failed == ESRCH || failed == ENOMEM || failed == EINTR;
    channel_.fail(ending ? ErrorKind::kNotRunning : ErrorKind::kInternal, "join the PID namespace", "/proc", failed);
  }
  return context;
}

UniqueFd RootFs::open_context(const Mount& mount) {
  if (mount.type == "proc" && sources_.pid_namespace_fd >= 0) return open_proc_context();
  UniqueFd context(fsopen(mount.type.c_str(), FSOPEN_CLOEXEC));
  if (!context) channel_.refuse("fsopen", mount.type.c_str());
  return context;
}

UniqueFd RootFs::make_file_system(const Mount& mount) {
  const char* destination = mount.destination.c_str();
  const UniqueFd context = open_context(mount);
  char words[256] = {};
  if (!mount.source.empty() &&
      fsconfig(context.get(), FSCONFIG_SET_STRING, "source", mount.source.c_str(), 0) != 0) {
    const int saved = errno;
    read_mount_message(context.get(), words);
    channel_.fail(ErrorKind::kInvalid, "mount", destination, saved, words);
  }
  for (const std::string& option : mount.options) {
    char key[256];
    const size_t key_length = strcspn(option.c_str(), "=");
    if (key_length >= sizeof key) {
      channel_.fail(ErrorKind::kInvalid, "mount", destination, EINVAL, "the name of a mount option is too long");
    }
    memcpy(key, option.c_str(), key_length);
    key[key_length] = '\0';
    const bool has_value = option[key_length] == '=';
    if (fsconfig(context.get(), has_value ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG, key,
                 has_value ? option.c_str() + key_length + 1 : nullptr, 0) != 0) {
      const int saved = errno;
      read_mount_message(context.get(), words);
      channel_.fail(ErrorKind::kInvalid, "mount", destination, saved, words);
    }
  }
  if (fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) {
    const int saved = errno;
    read_mount_message(context.get(), words);
    channel_.fail(ErrorKind::kInvalid, "mount", destination, saved, words);
  }
  // A tmpfs that begins with the image's files is writable until they are there.
  const auto attributes = static_cast<unsigned>(mount.tmpcopyup ? mount.attributes & ~MOUNT_ATTR_RDONLY
                                                                : mount.attributes);
  UniqueFd made(fsmount(context.get(), FSMOUNT_CLOEXEC, attributes));
  if (!made) channel_.refuse("fsmount", destination);
  return made;
}

void RootFs::mount_one(const Mount& mount, int source_fd) {
  const char* destination = mount.destination.c_str();
  const Links links = links_for(destination);
  MakeMissing missing;
  missing.as_file = mount.is_file;
  const UniqueFd target = make_in_root(root_, destination, links, missing);
  if (!target) channel_.refuse("mount", destination);
  if (mount.source_fd != 0 && links == Links::kWithinRoot && is_in_own_proc(target.get())) {
    channel_.fail(ErrorKind::kInvalid, "mount", destination, 0, "a link leads the mount into the container's own /proc");
  }

  UniqueFd made;
  if (source_fd < 0) {
    made = make_file_system(mount);
    source_fd = made.get();
  }
  if (mount.tmpcopyup) {
    const UniqueFd from = open_in_root(root_, destination, O_RDONLY | O_DIRECTORY, links);
    if (!from || !copy_up(from.get(), source_fd)) channel_.refuse("copy the image's files", destination);
  }
  const uint64_t attributes = made && !mount.tmpcopyup ? 0 : mount.attributes;
  if ((attributes != 0 || mount.propagation != 0) &&
      !set_attributes(source_fd, attributes, mount.propagation, mount.recursive_attributes)) {
    channel_.refuse("mount_setattr", destination);
  }
  attach_at(source_fd, target.get(), destination);
  if (mount.type == "proc" && made) remember_own_proc(made.get());
  if (mount.type == "devpts" && made && mount.destination == "/dev/pts") terminals_mount_ = std::move(made);
}

void RootFs::remember_own_proc(int mount_fd) {
  struct stat status = {};
  if (fstat(mount_fd, &status) != 0) channel_.refuse("stat", "/proc");
  own_proc_ = status.st_dev;
}

// Told by the file system and not by its type: a volume may well be the host's /proc, with another volume in it.
bool RootFs::is_in_own_proc(int fd) {
  struct stat status = {};
  if (fstat(fd, &status) != 0) channel_.refuse("stat", "the mount's destination");
  return own_proc_ != 0 && status.st_dev == own_proc_;
}

bool RootFs::make_node(int parent, const char* name, const Device& device, size_t index) {
  const char* path = device.path.c_str();
  if (!nodes_ || !is_device(device)) {
    if (mknodat(parent, name, (device.type & S_IFMT) | (device.mode & 07777), makedev(device.major, device.minor)) == 0) {
      return true;
    }
    if (errno != EEXIST) channel_.refuse("mknod", path);
    return false;
  }
  if (const UniqueFd file(openat(parent, name, O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY | O_CLOEXEC, 0600)); !file) {
    if (errno != EEXIST) channel_.refuse("mknod", path);
    return false;
  }
  const UniqueFd target(openat(parent, name, O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (!target) channel_.refuse("mknod", path);
  const NodeName node_name(index);
  const UniqueFd node(openat(nodes_.get(), node_name.text, O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (!node) channel_.break_off("open the device", path);
  const UniqueFd bound = clone_mount(node.get(), 0, "open_tree", path);
  attach_at(bound.get(), target.get(), path);
  return true;
}

void RootFs::make_device(const Device& device, size_t index) {
  const char* path = device.path.c_str();
  char directory[PATH_MAX];
  const size_t slash = device.path.rfind('/');
  if (slash == std::string::npos || slash >= sizeof directory) channel_.fail(ErrorKind::kInvalid, "mknod", path, EINVAL);
  memcpy(directory, path, slash);
  directory[slash] = '\0';
  const char* name = path + slash + 1;
  const Links links = links_for(path);
  const UniqueFd parent = make_in_root(root_, slash == 0 ? "/" : directory, links, MakeMissing());
  if (!parent) channel_.refuse("mknod", path);

  const bool made = make_node(parent.get(), name, device, index);
  // What is there may be the image's or a volume's, and be swapped: the descriptor is looked at, and used from here on.
  const UniqueFd node(openat(parent.get(), name, O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (!node) channel_.refuse("mknod", path);
  struct stat status = {};
  if (fstat(node.get(), &status) != 0) channel_.refuse("mknod", path);
  if ((status.st_mode & S_IFMT) != (device.type & S_IFMT) ||
      (is_device(device) && status.st_rdev != makedev(device.major, device.minor))) {
    channel_.fail(ErrorKind::kInvalid, "mknod", path, EEXIST, "something else than the device is there already");
  }
  const bool has_owner = nodes_ && is_device(device);
  if (made && !has_owner && fchownat(node.get(), "", device.uid, device.gid, AT_EMPTY_PATH) != 0) channel_.refuse("chown", path);
}

void RootFs::make_device_links() {
  bool has_own_dev = false;
  for (const Mount& mount : plan_.mounts) {
    if (mount.destination == "/dev") has_own_dev = mount.source_fd == 0 && mount.type == "tmpfs";
  }
  if (!has_own_dev) return;
  const UniqueFd dev = open_in_root(root_, "/dev", O_PATH | O_DIRECTORY, Links::kRefused);
  if (!dev) channel_.refuse("open", "/dev");
  static constexpr const char* kLinks[][2] = {
      {"/proc/self/fd", "fd"},         {"/proc/self/fd/0", "stdin"}, {"/proc/self/fd/1", "stdout"},
      {"/proc/self/fd/2", "stderr"}, {"pts/ptmx", "ptmx"},
  };
  for (const auto& [target, name] : kLinks) {
    if (symlinkat(target, dev.get(), name) != 0 && errno != EEXIST) channel_.refuse("symlink /dev", name);
  }
  // Where the kernel has that file; masked or not.
  if (open_in_root(root_, "/proc/kcore", O_PATH, Links::kRefused) &&
      symlinkat("/proc/kcore", dev.get(), "core") != 0 && errno != EEXIST) {
    channel_.refuse("symlink /dev", "core");
  }
}

// Everybody writes to it without a look. A volume over /dev, or a mount on it, may have put something else there.
void RootFs::check_null_device() {
  const UniqueFd null = open_in_root(root_, "/dev/null", O_PATH, Links::kRefused);
  if (!null && (errno == ENOENT || errno == ENOTDIR)) return;
  if (!null || !is_null_device(null.get())) {
    channel_.fail(ErrorKind::kInvalid, "check", "/dev/null", 0, "it is not the null device");
  }
}

void RootFs::mask(const char* path) {
  const UniqueFd target = open_in_root(root_, path, O_PATH, links_for(path));
  if (!target) {
    if (errno == ENOENT || errno == ENOTDIR) return;
    channel_.refuse("mask", path);
  }
  struct stat status = {};
  if (fstat(target.get(), &status) != 0) channel_.refuse("mask", path);
  Cover& cover = S_ISDIR(status.st_mode) ? empty_ : null_;
  if (!cover.mount) {
    // of texts that are short enough to need no memory of the heap, which a clone may not ask for
    Mount nothing;
    nothing.destination = "masked paths";
    nothing.type = "tmpfs";
    nothing.source = "tmpfs";
    nothing.attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
    cover.mount = make_file_system(nothing);
  }
  if (cover.attached) {
    const UniqueFd copy = clone_mount(cover.mount.get(), 0, "mask", path);
    attach_at(copy.get(), target.get(), path);
  } else {
    attach_at(cover.mount.get(), target.get(), path);
    cover.attached = true;
  }
}

void RootFs::make_readonly(const char* path) {
  const UniqueFd target = open_in_root(root_, path, O_PATH, links_for(path));
  if (!target) {
    if (errno == ENOENT || errno == ENOTDIR) return;
    channel_.refuse("make read-only", path);
  }
  // Where a mount begins, it is changed itself; EINVAL: it begins elsewhere.
  if (set_attributes(target.get(), MOUNT_ATTR_RDONLY, 0, true)) return;
  if (errno != EINVAL) channel_.refuse("make read-only", path);
  const UniqueFd copy = clone_mount(target.get(), AT_RECURSIVE, "make read-only", path);
  if (!set_attributes(copy.get(), MOUNT_ATTR_RDONLY, 0, true)) channel_.refuse("make read-only", path);
  attach_at(copy.get(), target.get(), path);
}

void RootFs::fill() {
  make_directories();
  for (size_t i = 0; i < plan_.mounts.size(); ++i) mount_one(plan_.mounts[i], sources_.mount_fds[i]);
  for (size_t i = 0; i < plan_.devices.size(); ++i) make_device(plan_.devices[i], i);
  make_device_links();
  check_null_device();
  // While it can still be made, whatever becomes read-only.
  make_working_directory();
  for (const std::string& path : plan_.readonly_paths) make_readonly(path.c_str());
  for (const std::string& path : plan_.masked_paths) mask(path.c_str());
}

void RootFs::pivot() {
  // The old root ends up on top of the new one, at the same place, and is detached from there: no directory is needed for
  // it.
  if (fchdir(root_) != 0) channel_.break_off("fchdir", "the root file system");
  if (syscall(SYS_pivot_root, ".", ".") != 0) channel_.break_off("pivot_root");
  if (umount2(".", MNT_DETACH) != 0) channel_.break_off("detach the host's root");
  if (chdir("/") != 0) channel_.break_off("chdir", "/");
}

UniqueFd RootFs::open_terminal() {
  if (!terminals_mount_) {
    channel_.fail(ErrorKind::kInvalid, "open a terminal", "/dev/pts", 0, "a terminal needs a devpts mount at /dev/pts");
  }
  const UniqueFd master(openat(terminals_mount_.get(), "ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NOFOLLOW));
  UniqueFd slave = open_terminal_slave(master.get(), plan_.process, channel_);

  const UniqueFd dev = open_in_root(root_, "/dev", O_PATH | O_DIRECTORY, Links::kRefused);
  if (!dev) channel_.refuse("open", "/dev");
  const UniqueFd file(openat(dev.get(), "console", O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY | O_CLOEXEC, 0600));
  if (!file && errno != EEXIST) channel_.refuse("make", "/dev/console");
  const UniqueFd console(openat(dev.get(), "console", O_PATH | O_NOFOLLOW | O_CLOEXEC));
  struct stat status = {};
  if (!console || fstat(console.get(), &status) != 0) channel_.refuse("open", "/dev/console");
  if (S_ISLNK(status.st_mode) || S_ISDIR(status.st_mode)) {
    channel_.fail(ErrorKind::kInvalid, "mount", "/dev/console", 0, "/dev/console is a link or a directory");
  }
  const UniqueFd bound = clone_mount(slave.get(), 0, "open_tree", "/dev/console");
  attach_at(bound.get(), console.get(), "/dev/console");
  channel_.send_terminal(master.get());
  return slave;
}

void RootFs::make_directories() {
  // an image may name what cannot be one: the program finds that out, where it matters
  for (const std::string& path : plan_.directories) make_in_root(root_, path.c_str(), Links::kWithinRoot, {});
}

void RootFs::make_working_directory() {
  const char* path = plan_.process.cwd.c_str();
  if (*path == '\0') return;
  MakeMissing missing;
  missing.give_to_owner = true;
  missing.uid = plan_.process.uid;
  missing.gid = plan_.process.gid;
  // Whether it can be entered is the program's to find out (a volume may keep root out): only a failure to make it counts.
  if (!make_in_root(root_, path, Links::kWithinRoot, missing) && errno != EACCES && errno != EPERM) {
    channel_.refuse("make the working directory", path);
  }
}

void RootFs::finish() {
  if (plan_.root_readonly && !set_attributes(root_, MOUNT_ATTR_RDONLY, 0, false)) {
    channel_.refuse("make the root read-only", "/");
  }
  if (plan_.root_propagation != 0 && !set_attributes(root_, 0, plan_.root_propagation, false)) {
    channel_.refuse("set the root's propagation", "/");
  }
}

}  // namespace berth
