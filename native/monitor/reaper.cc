#include "monitor/reaper.h"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

#include "common/clone3.h"
#include "monitor/child_channel.h"
#include "monitor/program.h"

namespace berth {

namespace {

constexpr int kReadyMs = 5000;
constexpr const char* kName = "berth-pod-init";

#if defined(__x86_64__)
constexpr uint32_t kArchitecture = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr uint32_t kArchitecture = AUDIT_ARCH_AARCH64;
#else
#error "the reaper's filter does not know this architecture"
#endif

// Everybody in the namespace can read /proc/1/cmdline: this copy's memory no longer holds the monitor's arguments.
void replace_arguments(const ChildChannel& channel) {
  const UniqueFd file(open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC));
  char arguments[4096];
  const ssize_t length = read(file.get(), arguments, sizeof arguments);
  if (length <= 0) channel.break_off("read", "/proc/self/cmdline");
  memset(program_invocation_name, 0, static_cast<size_t>(length));
  // The last byte stays 0: otherwise the kernel reads on into the environment.
  strncpy(program_invocation_name, kName, static_cast<size_t>(length) - 1);
}

void enter_empty_root(const char* directory, const ChildChannel& channel) {
  if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) channel.break_off("make mounts private", "/");
  const UniqueFd context(fsopen("tmpfs", FSOPEN_CLOEXEC));
  if (!context || fsconfig(context.get(), FSCONFIG_SET_STRING, "mode", "0555", 0) != 0 ||
      fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) {
    channel.break_off("make an empty root");
  }
  const UniqueFd root(fsmount(context.get(), FSMOUNT_CLOEXEC,
                              MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC));
  if (!root || move_mount(root.get(), "", AT_FDCWD, directory, MOVE_MOUNT_F_EMPTY_PATH) != 0 ||
      fchdir(root.get()) != 0 || syscall(SYS_pivot_root, ".", ".") != 0 || umount2(".", MNT_DETACH) != 0 ||
      chdir("/") != 0) {
    channel.break_off("enter the empty root", directory);
  }
}

void drop_everything(const ChildChannel& channel) {
  for (int capability = 0; prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0; ++capability) continue;
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  const __user_cap_data_struct none[2] = {};
  if (syscall(SYS_setgroups, 0, nullptr) != 0 || syscall(SYS_capset, &header, none) != 0) {
    channel.break_off("drop capabilities");
  }
  if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 || prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0 ||
      prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_NAME, kName, 0, 0, 0) != 0) {
    channel.break_off("prctl");
  }
}

// 0 or -1.
int allow_only_waiting() {
  sock_filter instructions[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kArchitecture, 0, 5),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_waitid, 4, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigtimedwait, 3, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_restart_syscall, 2, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program = {sizeof instructions / sizeof instructions[0], instructions};
  return static_cast<int>(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program));
}

[[noreturn]] void run_reaper(const char* directory, const ChildChannel& channel) {
  for (int stream = 0; stream < 3; ++stream) close(stream);
  keep_only_channel(channel);
  if (setsid() < 0) channel.break_off("setsid");
  replace_arguments(channel);
  enter_empty_root(directory, channel);
  drop_everything(channel);
  // SIGCHLD stays blocked, and so is kept for sigtimedwait; others cannot reach a namespace's init that has no handler.
  const uint64_t child_signal = 1ULL << (SIGCHLD - 1);
  channel.send(ReportKind::kReady);
  close(channel.fd());
  if (allow_only_waiting() != 0) _exit(1);
  for (;;) {
    siginfo_t info;
    if (syscall(SYS_waitid, P_ALL, 0, &info, WEXITED, nullptr) != 0 && errno == ECHILD) {
      syscall(SYS_rt_sigtimedwait, &child_signal, nullptr, nullptr, sizeof child_signal);
    }
  }
}

// The namespaces belong to the pod's user namespace: a second clone makes them, from inside.
[[noreturn]] void clone_reaper_inside(const UserNamespace& users, const Descriptors& descriptors,
                                      const ChildChannel& channel) {
  keep_only(descriptors, channel);
  enter_user_namespace(users, channel);
  CloneOptions options;
  options.flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_PARENT;
  const pid_t pid = clone3_fork(options);
  if (pid < 0) channel.break_off("clone3", "the pod's PID namespace");
  if (pid > 0) _exit(0);
  run_reaper(kUnprivilegedPlace, channel);
}

}  // namespace

std::optional<Failure> PodInit::ensure(const std::string& pod_directory, const UserNamespace& users) {
  if (pid_ != 0) return std::nullopt;
  ChildLink link;
  UniqueFd child_end;
  if (!link.open(child_end)) return failure(ErrorKind::kInternal, last_error("socketpair"));
  Descriptors descriptors;
  descriptors.kept = {child_end.get(), users.fd.get()};
  descriptors.sort();
  CloneOptions options;
  if (!users.exists()) options.flags = CLONE_NEWPID | CLONE_NEWNS;
  const pid_t first = clone3_fork(options);
  if (first == 0 && users.exists()) {
    clone_reaper_inside(users, descriptors, ChildChannel(child_end.get()));
  }
  if (first == 0) run_reaper(pod_directory.c_str(), ChildChannel(child_end.get()));
  if (first < 0) return failure(ErrorKind::kInternal, last_error("clone3", "the pod's PID namespace"));
  child_end.reset();

  // Nothing in its set-up waits for a disk. Nobody joins the namespace before its root is empty.
  pollfd readable = {link.fd(), POLLIN, 0};
  Report report;
  pid_t sender = 0;
  UniqueFd descriptor;
  const bool told = poll(&readable, 1, kReadyMs) == 1 &&
                    link.receive(report, sender, descriptor) == ChildLink::Result::kReport;
  if (told && report.kind == ReportKind::kReady) {
    // Nothing reaps it before this returns: the number is still its own.
    UniqueFd process(static_cast<int>(syscall(SYS_pidfd_open, sender, 0)));
    if (!process) {
      const Failure failed = failure(ErrorKind::kInternal, last_error("pidfd_open", "the pod's PID namespace"));
      ::kill(sender, SIGKILL);
      return failed;
    }
    pid_ = sender;
    pidfd_ = std::move(process);
    return std::nullopt;
  }
  ::kill(first, SIGKILL);
  if (told) return to_failure(report);
  return failure(ErrorKind::kInternal, "make the pod's PID namespace", {}, "its init did not become ready");
}

bool PodInit::on_reaped(pid_t pid) {
  if (pid_ == 0 || pid != pid_) return false;
  pid_ = 0;
  pidfd_.reset();
  return true;
}

void PodInit::kill() {
  if (pid_ != 0) ::kill(pid_, SIGKILL);
}

}  // namespace berth
