// What this kernel can do, asked by doing it where that is cheap.
#include <fcntl.h>
#include <linux/capability.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "addon/file_access.h"
#include "addon/functions.h"
#include "addon/mount_features.h"
#include "addon/user_namespace.h"
#include "common/unique_fd.h"

namespace berth {
namespace {

std::optional<std::string> first_line(const std::string& path) {
  try {
    std::string content = read_file(path, 64 << 10);
    return content.substr(0, content.find('\n'));
  } catch (const SystemError&) {
    return std::nullopt;
  }
}

bool has_mount_setattr() {
  // An invalid descriptor: EBADF or EINVAL where the call exists.
  return mount_setattr(-1, "", AT_EMPTY_PATH | AT_RECURSIVE, nullptr, 0) == 0 || errno != ENOSYS;
}

// ---- user namespaces ----

// An identity map of the first 65536 ids.
std::unique_ptr<UserNamespaceChild> make_user_namespace() {
  try {
    const IdRange range{0, 0, 65536};
    return std::make_unique<UserNamespaceChild>(IdMaps{range, range}, 0);
  } catch (const SystemError&) {
    return nullptr;
  }
}

bool can_idmap_tmpfs(const UserNamespaceChild& child) {
  try {
    UniqueFd user = child.open_user_namespace();
    UniqueFd context(fsopen("tmpfs", FSOPEN_CLOEXEC));
    if (!context || fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) < 0) return false;
    UniqueFd mount(fsmount(context.get(), FSMOUNT_CLOEXEC, 0));
    if (!mount) return false;
    idmap_mount(mount.get(), user.get(), false, "tmpfs");
    return true;
  } catch (const SystemError&) {
    return false;
  }
}

// ---- cgroups ----

std::optional<std::string> cgroup2_mount() {
  std::ifstream mounts("/proc/self/mountinfo");
  std::string line;
  while (std::getline(mounts, line)) {
    if (line.find(" - cgroup2 ") == std::string::npos) continue;
    std::istringstream fields(line);
    std::string field;
    for (int i = 0; i < 5; i++) fields >> field;
    return field;
  }
  return std::nullopt;
}

// The root has no cgroup.kill, so that a cgroup must be made to ask; systems without a cgroup2 mount have none.
bool has_cgroup_kill() {
  std::optional<std::string> root = cgroup2_mount();
  if (!root) return false;
  std::string directory = *root + "/berth-probe-" + std::to_string(getpid());
  if (mkdir(directory.c_str(), 0755) < 0 && errno != EEXIST) return false;
  bool found = access((directory + "/cgroup.kill").c_str(), F_OK) == 0;
  rmdir(directory.c_str());
  return found;
}

// ---- the rest ----

// Before a policy is loaded all processes have the kernel's own first label, which is no context of any policy.
bool has_selinux() {
  if (access("/sys/fs/selinux/enforce", F_OK) != 0) return false;
  const std::string label = first_line("/proc/self/attr/current").value_or("");
  return !label.empty() && !label.starts_with("kernel");
}

uint64_t permitted_capabilities() {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  if (syscall(SYS_capget, &header, data) < 0) throw_errno("capget", "");
  return data[0].permitted | static_cast<uint64_t>(data[1].permitted) << 32;
}

std::vector<std::string> seccomp_actions() {
  std::istringstream words(first_line("/proc/sys/kernel/seccomp/actions_avail").value_or(""));
  std::vector<std::string> actions;
  for (std::string word; words >> word;) actions.push_back(word);
  return actions;
}

Napi::Value probe_features(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  utsname names;
  if (uname(&names) < 0) throw_errno("uname", "");
  const auto user_namespace = make_user_namespace();
  std::vector<std::string> actions = seccomp_actions();
  Napi::Array action_list = Napi::Array::New(env, actions.size());
  for (uint32_t i = 0; i < actions.size(); i++) action_list.Set(i, actions[i]);

  Napi::Object result = Napi::Object::New(env);
  result.Set("release", names.release);
  result.Set("overlayLowerdirPlus", overlay_takes_lowerdir_plus());
  result.Set("mountSetattr", has_mount_setattr());
  result.Set("idmappedTmpfs", user_namespace != nullptr && can_idmap_tmpfs(*user_namespace));
  result.Set("cgroupKill", has_cgroup_kill());
  result.Set("seccomp", !actions.empty());
  result.Set("seccompActions", action_list);
  result.Set("apparmor", first_line("/sys/module/apparmor/parameters/enabled") == "Y");
  result.Set("selinux", has_selinux());
  result.Set("psi", first_line("/proc/pressure/cpu").has_value());
  result.Set("userNamespaces", user_namespace != nullptr);
  result.Set("capabilities", Napi::BigInt::New(env, permitted_capabilities()));
  result.Set("lastCapability", std::atoi(first_line("/proc/sys/kernel/cap_last_cap").value_or("40").c_str()));
  return result;
}

}  // namespace

namespace {

UniqueFd detached_tmpfs() {
  UniqueFd context(fsopen("tmpfs", FSOPEN_CLOEXEC));
  if (!context || fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) < 0) return UniqueFd();
  return UniqueFd(fsmount(context.get(), FSMOUNT_CLOEXEC, 0));
}

}  // namespace

bool overlay_takes_detached_layers() {
  static const bool takes = [] {
    UniqueFd one = detached_tmpfs();
    UniqueFd other = detached_tmpfs();
    UniqueFd context(fsopen("overlay", FSOPEN_CLOEXEC));
    return one && other && context &&
           fsconfig(context.get(), FSCONFIG_SET_FD, "lowerdir+", nullptr, one.get()) == 0 &&
           fsconfig(context.get(), FSCONFIG_SET_FD, "lowerdir+", nullptr, other.get()) == 0 &&
           fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) == 0;
  }();
  return takes;
}

bool overlay_takes_lowerdir_plus() {
  static const bool takes = [] {
    UniqueFd context(fsopen("overlay", FSOPEN_CLOEXEC));
    if (!context) return false;
    // Old overlays store any key unseen, and the ones between know no such key: only the right one looks the path up.
    return fsconfig(context.get(), FSCONFIG_SET_STRING, "lowerdir+", "/proc/berth-no-such-directory", 0) < 0 &&
           errno == ENOENT;
  }();
  return takes;
}

void register_features(Napi::Object exports) { export_function<probe_features>(exports, "probeFeatures"); }

}  // namespace berth
