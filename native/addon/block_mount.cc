// File systems on block devices, and files as block devices.
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <vector>

#include "addon/arguments.h"
#include "addon/file_access.h"
#include "addon/functions.h"
#include "addon/mount_context.h"
#include "addon/own_thread.h"
#include "addon/user_namespace.h"
#include "common/unique_fd.h"

namespace berth {
namespace {

// Another program may take the free one that the kernel names.
constexpr int loop_attempts = 64;

Napi::Value attach_loop(const Napi::CallbackInfo& info) {
  Napi::Object options = object_argument(info, 0, "options");
  std::string path = text_field(options, "path");
  bool direct = bool_field(options, "direct");
  return on_own_thread(info.Env(), [path, direct]() -> Settle {
    UniqueFd file = open_file(path, O_RDWR | O_NOFOLLOW);
    UniqueFd control = open_file("/dev/loop-control", O_RDWR);
    loop_config config = {};
    config.fd = static_cast<uint32_t>(file.get());
    // it goes when the last one that has it open closes it
    config.info.lo_flags = LO_FLAGS_AUTOCLEAR | (direct ? LO_FLAGS_DIRECT_IO : 0);
    for (int attempt = 1;; attempt++) {
      int number = ioctl(control.get(), LOOP_CTL_GET_FREE);
      if (number < 0) throw_errno("LOOP_CTL_GET_FREE", path);
      std::string device = "/dev/loop" + std::to_string(number);
      UniqueFd loop = open_file(device, O_RDWR);
      if (ioctl(loop.get(), LOOP_CONFIGURE, &config) == 0) {
        int fd = loop.release();
        return [fd, device](Napi::Env env) {
          Napi::Object told = Napi::Object::New(env);
          told.Set("fd", fd);
          told.Set("device", device);
          return told;
        };
      }
      if (errno != EBUSY || attempt == loop_attempts) throw_errno("LOOP_CONFIGURE", device);
    }
  });
}

Napi::Value block_device_size(const Napi::CallbackInfo& info) {
  std::string path = string_argument(info, 0, "path");
  return on_own_thread(info.Env(), [path]() -> Settle {
    UniqueFd device = open_file(path, O_RDONLY);
    uint64_t bytes = 0;
    if (ioctl(device.get(), BLKGETSIZE64, &bytes) < 0) throw_errno("BLKGETSIZE64", path);
    return settle_number(static_cast<double>(bytes));
  });
}

Napi::Value discard_device(const Napi::CallbackInfo& info) {
  int fd = int_argument(info, 0, "fd");
  return on_own_thread(info.Env(), [fd]() -> Settle {
    std::string subject = "descriptor " + std::to_string(fd);
    uint64_t range[2] = {0, 0};
    if (ioctl(fd, BLKGETSIZE64, &range[1]) < 0) throw_errno("BLKGETSIZE64", subject);
    if (ioctl(fd, BLKDISCARD, range) < 0) throw_errno("BLKDISCARD", subject);
    return settle_nothing();
  });
}

struct BlockMount {
  std::string device;
  std::string type;
  // "key" or "key=value"
  std::vector<std::string> options;
  bool read_only = false;
  // only this mount of it
  bool mount_read_only = false;
  std::string sub_path;
  // SELinux label of all files; empty: each has its own
  std::string context;
  int user_namespace = -1;
};

void set_option(int context, const std::string& option) {
  size_t equals = option.find('=');
  if (equals != std::string::npos) {
    return set_parameter(context, option.substr(0, equals).c_str(), option.substr(equals + 1));
  }
  if (fsconfig(context, FSCONFIG_SET_FLAG, option.c_str(), nullptr, 0) < 0) {
    throw_context_error(context, "fsconfig", option);
  }
}

// Before Linux 6.15 a part of a mount can only be cloned where the mount is attached: in a mount namespace of this
// thread's own, which ends with it.
UniqueFd part_of(UniqueFd mount, const std::string& sub_path) {
  if (unshare(CLONE_NEWNS) < 0) throw_errno("unshare", "mount namespace");
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) < 0) throw_errno("mount", "make / private");
  // any directory serves
  if (move_mount(mount.get(), "", AT_FDCWD, "/proc", MOVE_MOUNT_F_EMPTY_PATH) < 0) throw_errno("move_mount", sub_path);
  UniqueFd part = open_path_in_root(mount.get(), sub_path);
  UniqueFd tree(open_tree(part.get(), "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH));
  if (!tree) throw_errno("open_tree", sub_path);
  return tree;
}

UniqueFd mount_block(const BlockMount& wanted) {
  UniqueFd context(fsopen(wanted.type.c_str(), FSOPEN_CLOEXEC));
  if (!context) throw_errno("fsopen", wanted.type);
  set_parameter(context.get(), "source", wanted.device);
  if (wanted.read_only) set_option(context.get(), "ro");
  for (const std::string& option : wanted.options) set_option(context.get(), option);
  if (!wanted.context.empty()) set_parameter(context.get(), "context", wanted.context);
  unsigned attributes = wanted.read_only || wanted.mount_read_only ? MOUNT_ATTR_RDONLY : 0;
  UniqueFd mount = create_and_mount(context.get(), attributes, wanted.device);
  if (!wanted.sub_path.empty()) mount = part_of(std::move(mount), wanted.sub_path);
  if (wanted.user_namespace >= 0) idmap_mount(mount.get(), wanted.user_namespace, false, wanted.device);
  return mount;
}

Napi::Value mount_block_call(const Napi::CallbackInfo& info) {
  Napi::Object options = object_argument(info, 0, "options");
  BlockMount wanted;
  wanted.device = text_field(options, "device");
  wanted.type = text_field(options, "type");
  if (has_field(options, "options")) wanted.options = texts_field(options, "options");
  wanted.read_only = bool_field(options, "readOnly");
  wanted.mount_read_only = bool_field(options, "mountReadOnly");
  wanted.sub_path = text_field_or_empty(options, "subPath");
  wanted.context = text_field_or_empty(options, "context");
  wanted.user_namespace = static_cast<int>(int_field_or(options, "userNamespaceFd", -1));
  return on_own_thread(info.Env(),
                       [wanted]() -> Settle { return settle_number(mount_block(wanted).release()); });
}

}  // namespace

void register_block_mount(Napi::Object exports) {
  export_function<attach_loop>(exports, "attachLoop");
  export_function<block_device_size>(exports, "blockDeviceSize");
  export_function<discard_device>(exports, "discardDevice");
  export_function<mount_block_call>(exports, "mountBlock");
}

}  // namespace berth
