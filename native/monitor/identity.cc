#include "monitor/identity.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/magic.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "monitor/program.h"

namespace berth {

namespace {

constexpr mode_t kDefaultUmask = 022;
constexpr int kMaxCapability = 63;

bool write_text(int fd, const char* text, size_t length) {
  return write(fd, text, length) == static_cast<ssize_t>(length);
}

// The attribute is this thread's own, and is inherited by what it clones.
void write_label(const char* file, const char* prefix, const std::string& label, const char* step,
                 const ChildChannel& channel) {
  char text[1024];
  const int length = snprintf(text, sizeof text, "%s%s", prefix, label.c_str());
  if (length >= static_cast<int>(sizeof text)) channel.fail(ErrorKind::kInvalid, step, label.c_str(), ENAMETOOLONG);
  const UniqueFd attribute(open(file, O_WRONLY | O_CLOEXEC));
  struct statfs status = {};
  if (!attribute || fstatfs(attribute.get(), &status) != 0) channel.break_off(step, file);
  if (status.f_type != PROC_SUPER_MAGIC) channel.fail(ErrorKind::kInternal, step, file, 0, "/proc is no procfs");
  if (!write_text(attribute.get(), text, static_cast<size_t>(length))) channel.refuse(step, label.c_str());
}

void load_seccomp(const Process& process, const ChildChannel& channel) {
  if (process.seccomp_filter.empty()) return;
  sock_fprog program = {};
  program.len = static_cast<unsigned short>(process.seccomp_filter.size() / sizeof(sock_filter));
  program.filter = reinterpret_cast<sock_filter*>(const_cast<char*>(process.seccomp_filter.data()));
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, process.seccomp_flags, &program) != 0) {
    channel.refuse("load the seccomp filter", "seccomp_filter");
  }
}

// Without no_new_privs the filter is in force by now: most likely it is its rules that refuse the step.
[[noreturn]] void fail_under_filter(const Process& process, const char* step, const ChildChannel& channel) {
  if (process.no_new_privileges || process.seccomp_filter.empty()) channel.break_off(step);
  channel.refuse("go on under the seccomp filter", step);
}

// The keys of whoever started the agent are not the container's. Where there are no keyrings, or no more of them, it is left
// with the monitor's, which is the pod's own.
void leave_session_keyring(const ChildChannel& channel) {
  if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, nullptr) >= 0) return;
  if (errno != ENOSYS && errno != EPERM && errno != EDQUOT) channel.break_off("make a session keyring");
}

void drop_bounding(const Process& process, const ChildChannel& channel) {
  for (int capability = 0; capability <= kMaxCapability; ++capability) {
    if ((process.capabilities.bounding >> capability & 1) != 0) continue;
    if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0) {
      if (errno == EINVAL) return;  // above the last one that the kernel knows
      fail_under_filter(process, "drop capabilities from the bounding set", channel);
    }
  }
}

void set_ids(const Process& process, const ChildChannel& channel) {
  if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0) fail_under_filter(process, "keep capabilities", channel);
  if (syscall(SYS_setgroups, process.additional_gids.size(), process.additional_gids.data()) != 0) {
    channel.refuse("setgroups", "additional_gids");
  }
  if (syscall(SYS_setresgid, process.gid, process.gid, process.gid) != 0) channel.refuse("setresgid", "gid");
  if (syscall(SYS_setresuid, process.uid, process.uid, process.uid) != 0) channel.refuse("setresuid", "uid");
  // A change of credentials sets this to what fs.suid_dumpable says.
  if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) fail_under_filter(process, "stay non-dumpable", channel);
}

// What the monitor itself does not hold cannot be given, and is left out.
void set_capabilities(const Process& process, const ChildChannel& channel) {
  const Capabilities& wanted = process.capabilities;
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  if (syscall(SYS_capget, &header, data) != 0) fail_under_filter(process, "capget", channel);
  const uint64_t held = data[0].permitted | static_cast<uint64_t>(data[1].permitted) << 32;
  const uint64_t permitted = wanted.permitted & held;
  const uint64_t effective = wanted.effective & permitted;
  const uint64_t inheritable = wanted.inheritable & held;
  for (int half = 0; half < 2; ++half) {
    data[half].permitted = static_cast<uint32_t>(permitted >> (32 * half));
    data[half].effective = static_cast<uint32_t>(effective >> (32 * half));
    data[half].inheritable = static_cast<uint32_t>(inheritable >> (32 * half));
  }
  if (syscall(SYS_capset, &header, data) != 0) channel.refuse("capset", "capabilities");
  if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0) {
    fail_under_filter(process, "clear ambient capabilities", channel);
  }
  const uint64_t ambient = wanted.ambient & permitted & inheritable;
  for (int capability = 0; capability <= kMaxCapability; ++capability) {
    if ((ambient >> capability & 1) == 0) continue;
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0) != 0) {
      channel.refuse("raise ambient capabilities", "capabilities.ambient");
    }
  }
}

}  // namespace

void set_oom_score_adj(const Process& process, const ChildChannel& channel) {
  if (!process.has_oom_score_adj) return;
  const UniqueFd file(open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC));
  if (!file) channel.break_off("open", "/proc/self/oom_score_adj");
  char text[16];
  const int length = snprintf(text, sizeof text, "%d", process.oom_score_adj);
  if (!write_text(file.get(), text, static_cast<size_t>(length)) && errno != EACCES && errno != EPERM) {
    channel.refuse("set oom_score_adj", text);
  }
}

void set_labels(const Process& process, const ChildChannel& channel) {
  if (!process.apparmor_profile.empty()) {
    static constexpr const char* kOwnFile = "/proc/thread-self/attr/apparmor/exec";
    // Without it, AppArmor is the module that the common file belongs to.
    const bool has_own_file = access(kOwnFile, F_OK) == 0;
    write_label(has_own_file ? kOwnFile : "/proc/thread-self/attr/exec", "exec ", process.apparmor_profile,
                "set the AppArmor profile", channel);
  }
  if (!process.selinux_label.empty()) {
    write_label("/proc/thread-self/attr/exec", "", process.selinux_label, "set the SELinux label", channel);
  }
}

void set_rlimits(const Process& process, const ChildChannel& channel) {
  for (const Rlimit& limit : process.rlimits) {
    rlimit64 wanted = {limit.soft, limit.hard};
    if (syscall(SYS_prlimit64, 0, limit.resource, &wanted, nullptr) == 0) continue;
    const int refused = errno;
    char subject[32];
    snprintf(subject, sizeof subject, "rlimits %u", limit.resource);
    rlimit64 own = {};
    if (refused != EPERM || syscall(SYS_prlimit64, 0, limit.resource, nullptr, &own) != 0) {
      channel.fail(ErrorKind::kInvalid, "set a limit", subject, refused);
    }
    wanted.rlim_max = std::min(wanted.rlim_max, own.rlim_max);
    wanted.rlim_cur = std::min(wanted.rlim_cur, wanted.rlim_max);
    if (syscall(SYS_prlimit64, 0, limit.resource, &wanted, nullptr) != 0) channel.refuse("set a limit", subject);
  }
}

void assume_credentials(const Process& process, const ChildChannel& channel) {
  const bool entered = enter_working_directory(process, WhoEnters::kRoot, channel);
  leave_session_keyring(channel);
  if (!process.no_new_privileges) load_seccomp(process, channel);
  drop_bounding(process, channel);
  set_ids(process, channel);
  set_capabilities(process, channel);
  if (!entered) enter_working_directory(process, WhoEnters::kUser, channel);
  umask(process.has_umask ? process.umask & 0777 : kDefaultUmask);
}

void die_with_parent(pid_t expected_parent, const ChildChannel& channel) {
  if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0) channel.break_off("set the parent's death signal");
  if (expected_parent != 0 && getppid() != expected_parent) _exit(1);
}

void forbid_new_privileges(const Process& process, const ChildChannel& channel) {
  if (!process.no_new_privileges) return;
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) channel.break_off("set no_new_privs");
  load_seccomp(process, channel);
}

}  // namespace berth
