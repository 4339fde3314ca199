#include "unpack/confine.h"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <vector>

#include "common/unique_fd.h"
#include "unpack/failure.h"

namespace berth::unpack {
namespace {

constexpr rlim_t kMemoryBytes = rlim_t{1} << 30;
constexpr rlim_t kDescriptors = 1024;
// the sanitizers reserve terabytes of addresses, and do system calls of their own
#ifdef BERTH_SANITIZE
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

void enter_directory(const std::string& path, bool read_only) {
  if (unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) != 0) fail("unshare", "");
  if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) fail("mount private", "/");
  // opened again, because only a mount of this namespace can be mounted on
  const UniqueFd directory(open(path.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!directory) fail("open", path);
  const UniqueFd tree(static_cast<int>(
      syscall(SYS_open_tree, directory.get(), "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC)));
  if (!tree) fail("open_tree", path);
  mount_attr attributes{};
  attributes.attr_set = MOUNT_ATTR_RDONLY;
  if (read_only && syscall(SYS_mount_setattr, tree.get(), "", AT_EMPTY_PATH, &attributes, sizeof attributes) != 0) {
    fail("mount_setattr", path);
  }
  // it becomes a mount point on itself, because only a mount can be a root
  if (syscall(SYS_move_mount, tree.get(), "", directory.get(), "",
              MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) != 0) {
    fail("move_mount", path);
  }
  if (fchdir(tree.get()) != 0) fail("fchdir", path);
  if (syscall(SYS_pivot_root, ".", ".") != 0) fail("pivot_root", path);
  if (umount2(".", MNT_DETACH) != 0) fail("umount2", "the host's root");
  if (chdir("/") != 0) fail("chdir", "/");
}

void limit(__rlimit_resource resource, rlim_t value, const char* name) {
  rlimit current{};
  if (getrlimit(resource, &current) != 0) fail("getrlimit", name);
  const rlim_t bounded = std::min(value, current.rlim_max);
  const rlimit wanted{bounded, bounded};
  if (setrlimit(resource, &wanted) != 0) fail("setrlimit", name);
}

// SYS_ADMIN is for trusted.overlay.opaque alone: the filter below leaves no other call that it opens
constexpr int kCapabilities[] = {CAP_CHOWN,  CAP_DAC_OVERRIDE, CAP_FOWNER,  CAP_FSETID,
                                 CAP_MKNOD, CAP_SETFCAP,      CAP_SYS_ADMIN};

void drop_capabilities(std::span<const int> allowed) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2]{};
  if (syscall(SYS_capget, &header, data) != 0) fail("capget", "");
  unsigned kept[2]{};
  for (const int capability : allowed) kept[capability / 32] |= 1u << (capability % 32);
  for (int capability = 0; prctl(PR_CAPBSET_READ, capability) >= 0; capability++) {
    if ((kept[capability / 32] >> (capability % 32)) & 1u) continue;
    if (prctl(PR_CAPBSET_DROP, capability) != 0) fail("prctl PR_CAPBSET_DROP", "");
  }
  for (int word = 0; word < 2; word++) {
    data[word].permitted &= kept[word];
    data[word].effective = data[word].permitted;
    data[word].inheritable = 0;
  }
  if (syscall(SYS_capset, &header, data) != 0) fail("capset", "");
  if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0) fail("prctl PR_CAP_AMBIENT", "");
}

#if defined(__x86_64__)
constexpr unsigned kArchitecture = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr unsigned kArchitecture = AUDIT_ARCH_AARCH64;
#else
#error "the system calls of this architecture are not listed"
#endif

constexpr int kCalls[] = {
    SYS_write, SYS_read, SYS_close, SYS_openat, SYS_openat2, SYS_fchown, SYS_fchmod, SYS_utimensat, SYS_fchownat,
    SYS_fstat, SYS_newfstatat, SYS_statx, SYS_lseek, SYS_pwrite64, SYS_ftruncate, SYS_mkdirat, SYS_mknodat,
    SYS_symlinkat, SYS_linkat, SYS_unlinkat, SYS_readlinkat, SYS_fchmodat, SYS_fsetxattr, SYS_lsetxattr, SYS_fgetxattr,
    SYS_flistxattr, SYS_fremovexattr, SYS_getdents64, SYS_fchdir, SYS_getcwd, SYS_dup, SYS_fcntl,
    // the C library: memory, time, abort
    SYS_brk, SYS_mmap, SYS_munmap, SYS_mremap, SYS_mprotect, SYS_madvise, SYS_futex, SYS_clock_gettime, SYS_getrandom,
    SYS_sched_yield, SYS_restart_syscall, SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_writev,
    SYS_exit, SYS_exit_group,
};

void allow_only(std::span<const int> calls) {
  std::vector<sock_filter> program;
  const auto add = [&program](unsigned code, unsigned k, unsigned jt = 0, unsigned jf = 0) {
    program.push_back(sock_filter{static_cast<unsigned short>(code), static_cast<unsigned char>(jt),
                                  static_cast<unsigned char>(jf), k});
  };
  add(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch));
  add(BPF_JMP | BPF_JEQ | BPF_K, kArchitecture, 1, 0);
  add(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
  add(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr));
  for (const int number : calls) {
    add(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(number), 0, 1);
    add(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  }
  add(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
  const sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0) fail("prctl PR_SET_SECCOMP", "");
}

void close_all_but(const std::vector<int>& keep) {
  std::vector<unsigned> kept{0, 1, 2};
  kept.insert(kept.end(), keep.begin(), keep.end());
  std::sort(kept.begin(), kept.end());
  unsigned first = 0;
  for (const unsigned fd : kept) {
    if (fd > first && syscall(SYS_close_range, first, fd - 1, 0) != 0) fail("close_range", "");
    first = fd + 1;
  }
  if (syscall(SYS_close_range, first, ~0u, 0) != 0) fail("close_range", "");
}

}  // namespace

constinit const Confinement kWritesLayers{kCapabilities, kCalls};

void confine(const std::string& directory, const std::vector<int>& keep, const Confinement& allowed) {
  enter_directory(directory, allowed.read_only);
  close_all_but(keep);
  umask(0);
  limit(RLIMIT_CORE, 0, "RLIMIT_CORE");
  limit(RLIMIT_NOFILE, kDescriptors, "RLIMIT_NOFILE");
  if (!kSanitized) limit(RLIMIT_AS, kMemoryBytes, "RLIMIT_AS");
  if (prctl(PR_SET_DUMPABLE, 0) != 0) fail("prctl PR_SET_DUMPABLE", "");
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) fail("prctl PR_SET_NO_NEW_PRIVS", "");
  drop_capabilities(allowed.capabilities);
  if (!kSanitized) allow_only(allowed.system_calls);
}

}  // namespace berth::unpack
