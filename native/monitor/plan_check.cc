#include "monitor/plan_check.h"

#include <linux/filter.h>
#include <sys/stat.h>

#include <string>
#include <vector>

#include "monitor/cri_format.h"

namespace berth {

namespace {

constexpr size_t kLongestId = 128;
constexpr size_t kLongestFilter = 4096 * sizeof(sock_filter);

constexpr std::string_view kFileSystems[] = {"proc",   "sysfs",  "mqueue",  "tmpfs",
                                             "devpts", "cgroup", "cgroup2", "shm"};

Failure invalid(std::string_view field, std::string_view message) {
  return failure(ErrorKind::kInvalid, "check the request", field, message);
}

bool has_nul(std::string_view text) { return text.find('\0') != std::string_view::npos; }

bool any_has_nul(const std::vector<std::string>& list) {
  for (const std::string& text : list) {
    if (has_nul(text)) return true;
  }
  return false;
}

// Absolute, without "." and ".." and NUL.
bool is_plain_path(std::string_view path) {
  if (!path.starts_with('/') || has_nul(path)) return false;
  while (!path.empty()) {
    path.remove_prefix(1);
    const std::string_view part = path.substr(0, path.find('/'));
    if (part == "." || part == "..") return false;
    path.remove_prefix(part.size());
  }
  return true;
}

bool all_plain(const std::vector<std::string>& paths) {
  for (const std::string& path : paths) {
    if (!is_plain_path(path)) return false;
  }
  return true;
}

std::optional<Failure> check_mount(const Mount& mount, size_t descriptors) {
  if (!is_plain_path(mount.destination) || mount.destination.find_first_not_of('/') == std::string::npos) {
    return invalid(mount.destination, "a mount's destination must be an absolute path below /, without . and ..");
  }
  if (has_nul(mount.source) || any_has_nul(mount.options)) {
    return invalid(mount.destination, "a mount's source or options hold a NUL byte");
  }
  if (mount.source_fd > descriptors) {
    return invalid(mount.destination, "the mount's source_fd names a descriptor that did not come with the request");
  }
  if (mount.source_fd != 0) return std::nullopt;
  for (const std::string_view known : kFileSystems) {
    if (mount.type == known) return std::nullopt;
  }
  return invalid(mount.destination, "the mount has no source_fd, and its type is none that can be made");
}

std::optional<Failure> check_device(const Device& device) {
  if (!is_plain_path(device.path) || device.path.ends_with('/')) {
    return invalid(device.path, "a device's path must be absolute, without . and ..");
  }
  if (S_ISCHR(device.type) || S_ISBLK(device.type) || S_ISFIFO(device.type)) return std::nullopt;
  return invalid(device.path, "a device must be a character device, a block device or a fifo");
}

std::optional<Failure> check_hooks(const std::vector<Hook>& hooks) {
  for (const Hook& hook : hooks) {
    if (!hook.path.starts_with('/') || has_nul(hook.path)) {
      return invalid("hooks", "a hook's path must be absolute and hold no NUL byte");
    }
    if (hook.args.empty() || any_has_nul(hook.args) || any_has_nul(hook.env)) {
      return invalid(hook.path, "a hook needs arguments, and neither they nor its environment may hold a NUL byte");
    }
  }
  return std::nullopt;
}

std::optional<Failure> check_oci_runtime(const Plan& plan) {
  const OciRuntime& runtime = plan.oci_runtime;
  if (runtime.path.empty()) return std::nullopt;
  if (!is_plain_path(runtime.path)) return invalid("oci_runtime.path", "it must be absolute, without . and ..");
  if (!is_plain_path(runtime.bundle)) return invalid("oci_runtime.bundle", "it must be absolute, without . and ..");
  if (any_has_nul(runtime.arguments)) return invalid("oci_runtime.arguments", "an argument holds a NUL byte");
  if (!all_plain(runtime.hidden_mounts)) {
    return invalid("oci_runtime.hidden_mounts", "paths must be absolute, without . and ..");
  }
  if (!runtime.cpu_tasks_file.empty() && !is_plain_path(runtime.cpu_tasks_file)) {
    return invalid("oci_runtime.cpu_tasks_file", "it must be absolute, without . and ..");
  }
  for (const Mount& mount : plan.mounts) {
    if (mount.source_fd == 0 && mount.type != "shm") {
      return invalid(mount.destination, "a mount for an OCI runtime must have a source_fd, or be the pod's shm");
    }
  }
  return std::nullopt;
}

}  // namespace

std::optional<Failure> check_container_id(std::string_view id) {
  if (id.empty()) return invalid("id", "the container's id is empty");
  if (id.size() > kLongestId || id.starts_with('.') || id.find('/') != std::string_view::npos || has_nul(id)) {
    return invalid("id", "the container's id cannot be a file's name");
  }
  return std::nullopt;
}

std::optional<Failure> check_process(const Process& process) {
  if (process.args.empty() || process.args.front().empty()) {
    return invalid("process.args", "process.args names no program");
  }
  if (any_has_nul(process.args)) return invalid("process.args", "an argument holds a NUL byte");
  if (any_has_nul(process.env)) return invalid("process.env", "a variable holds a NUL byte");
  if (!process.cwd.empty() && (!process.cwd.starts_with('/') || has_nul(process.cwd))) {
    return invalid("process.cwd", "process.cwd must be an absolute path");
  }
  if (process.seccomp_filter.size() % sizeof(sock_filter) != 0 || process.seccomp_filter.size() > kLongestFilter) {
    return invalid("process.seccomp_filter", "process.seccomp_filter is no array of at most 4096 struct sock_filter");
  }
  if (has_nul(process.apparmor_profile)) return invalid("process.apparmor_profile", "it holds a NUL byte");
  if (has_nul(process.selinux_label)) return invalid("process.selinux_label", "it holds a NUL byte");
  return std::nullopt;
}

std::optional<Failure> check_plan(const Plan& plan, size_t descriptors) {
  if (auto failed = check_process(plan.process)) return failed;
  if (plan.root_fd == 0 || plan.root_fd > descriptors) {
    return invalid("root_fd", "root_fd names no descriptor that came with the request");
  }
  if (auto failed = check_oci_runtime(plan)) return failed;
  if (plan.pid_namespace > PidNamespace::kTarget) return invalid("pid_namespace", "pid_namespace is unknown");
  for (const Mount& mount : plan.mounts) {
    if (auto failed = check_mount(mount, descriptors)) return failed;
  }
  for (const Device& device : plan.devices) {
    if (auto failed = check_device(device)) return failed;
  }
  if (!all_plain(plan.masked_paths)) return invalid("masked_paths", "paths must be absolute, without . and ..");
  if (!all_plain(plan.readonly_paths)) return invalid("readonly_paths", "paths must be absolute, without . and ..");
  if (auto failed = check_hooks(plan.hooks.create_container)) return failed;
  if (auto failed = check_hooks(plan.hooks.start_container)) return failed;
  if (!plan.hooks.bundle.empty() && plan.hooks.bundle.front() != '/') return invalid("hooks.bundle", "it must be absolute");
  if (!plan.hooks.create_container.empty() && !plan.hooks.pause) {
    return invalid("hooks.pause", "createContainer hooks come after a pause");
  }
  if (any_has_nul(plan.cgroup.tasks_files) || has_nul(plan.cgroup.cgroup2_directory) ||
      has_nul(plan.cgroup.oom_kill_file)) {
    return invalid("cgroup", "a path holds a NUL byte");
  }
  if (!plan.log.path.empty() && !is_plain_path(plan.log.path)) {
    return invalid("log.path", "log.path must be absolute, without . and ..");
  }
  if (plan.log.max_line_bytes > kLargestLineBytes) {
    return invalid("log.max_line_bytes", "log.max_line_bytes must be 131072 at most");
  }
  return std::nullopt;
}

}  // namespace berth
