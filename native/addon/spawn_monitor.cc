// Starts a pod's monitor. The clone shares this process's memory (CLONE_VM|CLONE_VFORK), so that the size of Node's heap
// costs nothing; therefore the child only makes system calls on memory that was prepared before, and never allocates.
#include <fcntl.h>
#include <linux/close_range.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "addon/arguments.h"
#include "addon/clone_on_stack.h"
#include "addon/functions.h"
#include "addon/namespace_pin.h"
#include "addon/own_thread.h"
#include "addon/unix_socket.h"
#include "addon/user_namespace.h"
#include "common/unique_fd.h"

namespace berth {
namespace {

struct Options {
  std::string executable;
  std::vector<std::string> args;
  std::string socket_path;
  std::string log_path;
  uint64_t namespaces = 0;
  std::string network_pin;  // empty: its network namespace is not pinned
  std::vector<std::string> tasks_files;
  std::string cgroup2_directory;
  // Set: net, IPC and UTS are new and belong to a new user namespace; the monitor itself stays in the host's.
  std::optional<IdMaps> user_namespace;
};

// ---- the child ----

enum class Step { none, setsid, chdir, join_cgroup, join_namespaces, descriptors, signals, exec };

// Shared with the child, who also writes into it.
struct Child {
  int executable;
  int listener;
  int log;
  int null;
  int pod_namespaces;  // pidfd of a process whose net, IPC and UTS namespaces are joined; -1: none
  int user_namespace;  // the monitor keeps it open; -1: none
  char* const* argv;
  char* const* environment;
  const char* const* tasks_files;  // ends with a null pointer
  Step failed_step = Step::none;
  const char* failed_path = nullptr;
  int failed_errno = 0;
};

constexpr int listener_fd = 3;
constexpr int executable_fd = 4;
constexpr int user_namespace_fd = 5;
// What is moved onto the numbers above must not stand on one of them itself.
constexpr int first_safe_fd = 10;

[[noreturn]] void fail(Child* child, Step step, const char* path = nullptr) {
  child->failed_errno = errno;
  child->failed_path = path;
  child->failed_step = step;
  _exit(127);
}

void join_tasks_file(Child* child, const char* path) {
  int fd = static_cast<int>(syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CLOEXEC, 0));
  if (fd < 0) fail(child, Step::join_cgroup, path);
  if (syscall(SYS_write, fd, "0", 1) != 1) fail(child, Step::join_cgroup, path);
  syscall(SYS_close, fd);
}

void run_child(void* argument) {
  Child* child = static_cast<Child*>(argument);
  if (!reset_signal_handlers()) fail(child, Step::signals);
  if (syscall(SYS_setsid) < 0) fail(child, Step::setsid);
  if (syscall(SYS_chdir, "/") < 0) fail(child, Step::chdir);
  syscall(SYS_umask, 022);
  for (const char* const* path = child->tasks_files; *path != nullptr; path++) join_tasks_file(child, *path);

  if (child->pod_namespaces >= 0 &&
      syscall(SYS_setns, child->pod_namespaces, CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) < 0) {
    fail(child, Step::join_namespaces);
  }

  int last_fd = executable_fd;
  if (child->user_namespace >= 0) {
    if (syscall(SYS_dup3, child->user_namespace, user_namespace_fd, 0) < 0) fail(child, Step::descriptors);
    last_fd = user_namespace_fd;
  }
  if (syscall(SYS_dup3, child->null, STDIN_FILENO, 0) < 0 || syscall(SYS_dup3, child->null, STDOUT_FILENO, 0) < 0 ||
      syscall(SYS_dup3, child->log, STDERR_FILENO, 0) < 0 || syscall(SYS_dup3, child->listener, listener_fd, 0) < 0 ||
      syscall(SYS_dup3, child->executable, executable_fd, O_CLOEXEC) < 0 ||
      syscall(SYS_close_range, last_fd + 1, ~0U, 0) < 0) {
    fail(child, Step::descriptors);
  }
  if (!unblock_signals()) fail(child, Step::signals);
  syscall(SYS_execveat, executable_fd, "", child->argv, child->environment, AT_EMPTY_PATH);
  fail(child, Step::exec);
}

// ---- the parent ----

// The monitor is executed from a read-only clone of its mount: whoever finds it through /proc/PID/exe cannot open it for
// writing. One clone serves all monitors, until the file is replaced.
class Executables {
 public:
  // A descriptor of the caller's own.
  UniqueFd open_readonly(const std::string& path) {
    std::lock_guard lock(mutex_);
    struct stat now;
    if (stat(path.c_str(), &now) < 0) throw_errno("stat", path);
    if (!clone_ || path != path_ || !same_file(now, seen_)) {
      clone_ = clone_readonly(path);
      path_ = path;
      seen_ = now;
    }
    UniqueFd copy(fcntl(clone_.get(), F_DUPFD_CLOEXEC, first_safe_fd));
    if (!copy) throw_errno("fcntl", path);
    return copy;
  }

 private:
  static bool same_file(const struct stat& a, const struct stat& b) {
    return a.st_dev == b.st_dev && a.st_ino == b.st_ino && a.st_mtim.tv_sec == b.st_mtim.tv_sec &&
           a.st_mtim.tv_nsec == b.st_mtim.tv_nsec && a.st_size == b.st_size;
  }

  static UniqueFd clone_readonly(const std::string& path) {
    UniqueFd tree(open_tree(AT_FDCWD, path.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
    if (!tree) throw_errno("open_tree", path);
    struct mount_attr attributes = {};
    attributes.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
    if (mount_setattr(tree.get(), "", AT_EMPTY_PATH, &attributes, sizeof attributes) < 0) {
      throw_errno("mount_setattr", path);
    }
    return tree;
  }

  std::mutex mutex_;
  UniqueFd clone_;
  std::string path_;
  struct stat seen_ = {};
};

Executables& executables() {
  // Never destroyed: a thread may still use it while the process exits.
  static Executables& instance = *new Executables();
  return instance;
}

UniqueFd on_safe_number(UniqueFd fd, const std::string& subject) {
  if (fd.get() >= first_safe_fd) return fd;
  UniqueFd moved(fcntl(fd.get(), F_DUPFD_CLOEXEC, first_safe_fd));
  if (!moved) throw_errno("fcntl", subject);
  return moved;
}

UniqueFd open_safe(const std::string& path, int flags, mode_t mode = 0) {
  UniqueFd fd(open(path.c_str(), flags | O_CLOEXEC, mode));
  if (!fd) throw_errno("open", path);
  return on_safe_number(std::move(fd), path);
}

SystemError error_of(const Child& child, const Options& options) {
  std::string path = child.failed_path != nullptr ? child.failed_path : "";
  switch (child.failed_step) {
    case Step::setsid:
      return SystemError(child.failed_errno, "setsid", "");
    case Step::chdir:
      return SystemError(child.failed_errno, "chdir", "/");
    case Step::join_cgroup:
      return SystemError(child.failed_errno, "join cgroup", path);
    case Step::join_namespaces:
      return SystemError(child.failed_errno, "setns", "the pod's namespaces");
    case Step::descriptors:
      return SystemError(child.failed_errno, "dup3", "the monitor's descriptors");
    case Step::signals:
      return SystemError(child.failed_errno, "rt_sigaction", "");
    case Step::none:
    case Step::exec:
      break;
  }
  return SystemError(child.failed_errno, "execveat", options.executable);
}

struct Spawned {
  pid_t pid;
  UniqueFd pidfd;
};

Spawned clone_monitor(const Options& options, int listener) {
  UniqueFd executable = executables().open_readonly(options.executable);
  UniqueFd log = open_safe(options.log_path, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW, 0600);
  UniqueFd null = open_safe("/dev/null", O_RDWR);
  UniqueFd cgroup;
  if (!options.cgroup2_directory.empty()) cgroup = open_safe(options.cgroup2_directory, O_PATH | O_DIRECTORY);

  std::optional<UserNamespaceChild> namespaces;
  UniqueFd user_namespace;
  if (options.user_namespace) {
    namespaces.emplace(*options.user_namespace, CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS);
    user_namespace = on_safe_number(namespaces->open_user_namespace(), "the pod's user namespace");
  }

  std::vector<char*> argv;
  argv.push_back(const_cast<char*>(options.executable.c_str()));
  for (const std::string& argument : options.args) argv.push_back(const_cast<char*>(argument.c_str()));
  std::string listen_option = "--listen-fd";
  std::string listen_number = std::to_string(listener_fd);
  argv.insert(argv.end(), {listen_option.data(), listen_number.data()});
  std::vector<std::string> user_arguments;
  if (options.user_namespace) {
    user_arguments = {"--user-namespace-fd", std::to_string(user_namespace_fd),
                      "--uid-map", options.user_namespace->uids.as_argument(),
                      "--gid-map", options.user_namespace->gids.as_argument()};
  }
  for (std::string& argument : user_arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  char* environment[] = {nullptr};
  std::vector<const char*> tasks_files;
  for (const std::string& path : options.tasks_files) tasks_files.push_back(path.c_str());
  tasks_files.push_back(nullptr);

  Child child = {
      .executable = executable.get(),
      .listener = listener,
      .log = log.get(),
      .null = null.get(),
      .pod_namespaces = namespaces ? namespaces->pidfd() : -1,
      .user_namespace = user_namespace.get(),
      .argv = argv.data(),
      .environment = environment,
      .tasks_files = tasks_files.data(),
  };
  ChildStack stack;
  int pidfd = -1;
  clone_args arguments = {};
  arguments.flags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD | options.namespaces;
  arguments.pidfd = reinterpret_cast<uintptr_t>(&pidfd);
  arguments.exit_signal = SIGCHLD;
  stack.set_in(&arguments);
  if (cgroup) {
    arguments.flags |= CLONE_INTO_CGROUP;
    arguments.cgroup = static_cast<uint64_t>(cgroup.get());
  }
  // Comes back when the child has executed the monitor, or has ended.
  long pid = clone3_on_stack(&arguments, run_child, &child);
  if (pid < 0) throw SystemError(static_cast<int>(-pid), "clone3", options.cgroup2_directory);
  Spawned spawned{static_cast<pid_t>(pid), UniqueFd(pidfd)};
  if (child.failed_step != Step::none) {
    waitid(P_PIDFD, static_cast<id_t>(pidfd), nullptr, WEXITED);
    throw error_of(child, options);
  }
  return spawned;
}

void kill_and_reap(const Spawned& monitor) {
  syscall(SYS_pidfd_send_signal, monitor.pidfd.get(), SIGKILL, nullptr, 0);
  waitid(P_PIDFD, static_cast<id_t>(monitor.pidfd.get()), nullptr, WEXITED);
}

Spawned spawn(const Options& options) {
  UniqueFd listener = on_safe_number(listen_unix(options.socket_path), options.socket_path);
  try {
    Spawned monitor = clone_monitor(options, listener.get());
    if (options.network_pin.empty()) return monitor;
    try {
      pin_namespace("/proc/" + std::to_string(monitor.pid) + "/ns/net", options.network_pin);
    } catch (...) {
      kill_and_reap(monitor);
      throw;
    }
    return monitor;
  } catch (...) {
    unlink(options.socket_path.c_str());
    throw;
  }
}

Napi::Value spawn_monitor(const Napi::CallbackInfo& info) {
  Napi::Object object = object_argument(info, 0, "options");
  Napi::Object namespaces = object_field(object, "namespaces");
  Options options;
  options.executable = text_field(object, "executable");
  options.args = texts_field(object, "args");
  options.socket_path = text_field(object, "socketPath");
  options.log_path = text_field(object, "logPath");
  options.network_pin = text_field(object, "networkPin");
  options.tasks_files = texts_field(object, "cgroupTasksFiles");
  options.cgroup2_directory = text_field(object, "cgroup2Directory");
  if (bool_field(namespaces, "network")) options.namespaces |= CLONE_NEWNET;
  if (bool_field(namespaces, "ipc")) options.namespaces |= CLONE_NEWIPC;
  if (bool_field(namespaces, "uts")) options.namespaces |= CLONE_NEWUTS;
  if (bool_field(namespaces, "pid")) options.namespaces |= CLONE_NEWPID;
  if (has_field(object, "userNamespace")) {
    options.user_namespace = to_id_maps(object_field(object, "userNamespace"));
    options.namespaces &= CLONE_NEWPID;
  }
  return on_own_thread(info.Env(), [options]() -> Settle {
    Spawned spawned = spawn(options);
    int pid = spawned.pid;
    int pidfd = spawned.pidfd.release();
    return [pid, pidfd](Napi::Env env) {
      Napi::Object result = Napi::Object::New(env);
      result.Set("pid", pid);
      result.Set("pidfd", pidfd);
      return result;
    };
  });
}

}  // namespace

void register_spawn_monitor(Napi::Object exports) { export_function<spawn_monitor>(exports, "spawnMonitor"); }

}  // namespace berth
