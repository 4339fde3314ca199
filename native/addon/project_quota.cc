// Project quotas of ext4 and xfs: what all files of a directory tree together may take.
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/quota.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "addon/arguments.h"
#include "addon/file_access.h"
#include "addon/functions.h"
#include "addon/own_thread.h"
#include "common/unique_fd.h"

namespace berth {
namespace {

// include/uapi/linux/quota.h counts limits in these
constexpr uint64_t quota_block = 1024;

UniqueFd open_directory(const std::string& path) { return open_file(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW); }

unsigned project_of(int directory, const std::string& path) {
  fsxattr attributes = {};
  if (ioctl(directory, FS_IOC_FSGETXATTR, &attributes) < 0) throw_errno("FS_IOC_FSGETXATTR", path);
  return attributes.fsx_projid;
}

void quota_call(int directory, int command, unsigned project, if_dqblk& block, const std::string& path) {
  const auto whole = static_cast<unsigned>(QCMD(command, PRJQUOTA));
  if (syscall(SYS_quotactl_fd, directory, whole, project, &block) < 0) throw_errno("quotactl_fd", path);
}

void set_limit(int directory, unsigned project, uint64_t bytes, const std::string& path) {
  if_dqblk block = {};
  block.dqb_bhardlimit = (bytes + quota_block - 1) / quota_block;
  block.dqb_valid = QIF_BLIMITS;
  quota_call(directory, Q_SETQUOTA, project, block, path);
}

// Of a project that nobody has; ENOENT and ESRCH: it was never used.
if_dqblk usage_of(int directory, unsigned project, const std::string& path) {
  if_dqblk block = {};
  try {
    quota_call(directory, Q_GETQUOTA, project, block, path);
  } catch (const SystemError& error) {
    if (error.errno_value() != ENOENT) throw;
  }
  return block;
}

Napi::Object to_usage(Napi::Env env, const if_dqblk& block) {
  Napi::Object usage = Napi::Object::New(env);
  usage.Set("bytes", Napi::Number::New(env, static_cast<double>(block.dqb_curspace)));
  usage.Set("inodes", Napi::Number::New(env, static_cast<double>(block.dqb_curinodes)));
  usage.Set("limitBytes", Napi::Number::New(env, static_cast<double>(block.dqb_bhardlimit * quota_block)));
  return usage;
}

Napi::Value set_project(const Napi::CallbackInfo& info) {
  std::string path = string_argument(info, 0, "path");
  const auto project = static_cast<unsigned>(int_argument(info, 1, "project"));
  return on_own_thread(info.Env(), [path, project]() -> Settle {
    UniqueFd directory = open_directory(path);
    fsxattr attributes = {};
    if (ioctl(directory.get(), FS_IOC_FSGETXATTR, &attributes) < 0) throw_errno("FS_IOC_FSGETXATTR", path);
    attributes.fsx_projid = project;
    attributes.fsx_xflags |= FS_XFLAG_PROJINHERIT;
    if (ioctl(directory.get(), FS_IOC_FSSETXATTR, &attributes) < 0) throw_errno("FS_IOC_FSSETXATTR", path);
    return settle_nothing();
  });
}

Napi::Value get_project(const Napi::CallbackInfo& info) {
  std::string path = string_argument(info, 0, "path");
  return on_own_thread(info.Env(), [path]() -> Settle {
    return settle_number(project_of(open_directory(path).get(), path));
  });
}

Napi::Value limit_project(const Napi::CallbackInfo& info) {
  Napi::Object options = object_argument(info, 0, "options");
  std::string path = text_field(options, "path");
  const auto project = static_cast<unsigned>(int_field(options, "project"));
  const auto bytes = static_cast<uint64_t>(int_field(options, "limitBytes"));
  return on_own_thread(info.Env(), [path, project, bytes]() -> Settle {
    set_limit(open_directory(path).get(), project, bytes, path);
    return settle_nothing();
  });
}

Napi::Value project_usage(const Napi::CallbackInfo& info) {
  std::string path = string_argument(info, 0, "path");
  const auto project = static_cast<unsigned>(int_argument(info, 1, "project"));
  return on_own_thread(info.Env(), [path, project]() -> Settle {
    if_dqblk block = usage_of(open_directory(path).get(), project, path);
    return [block](Napi::Env env) { return to_usage(env, block); };
  });
}

}  // namespace

void register_project_quota(Napi::Object exports) {
  export_function<set_project>(exports, "setProject");
  export_function<get_project>(exports, "getProject");
  export_function<limit_project>(exports, "limitProject");
  export_function<project_usage>(exports, "projectUsage");
}

}  // namespace berth
