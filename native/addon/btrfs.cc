// Subvolumes of btrfs.
#include <fcntl.h>
#include <linux/btrfs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "addon/arguments.h"
#include "addon/file_access.h"
#include "addon/functions.h"
#include "addon/own_thread.h"
#include "common/unique_fd.h"

namespace berth {
namespace {

constexpr uint64_t first_free_object = 256;
// How long is looked whether deleted subvolumes have gone; the next cleaning looks, too.
constexpr int most_cleanings = 50;
constexpr std::chrono::milliseconds cleaning_pause(200);

UniqueFd open_parent(const std::string& path) {
  return open_file(path.substr(0, path.rfind('/') + 1), O_RDONLY | O_DIRECTORY);
}

UniqueFd open_directory(const std::string& path) { return open_file(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW); }

btrfs_ioctl_vol_args_v2 named(const std::string& path) {
  btrfs_ioctl_vol_args_v2 args = {};
  std::string name = path.substr(path.rfind('/') + 1);
  if (name.empty() || name.size() > BTRFS_SUBVOL_NAME_MAX) throw SystemError(ENAMETOOLONG, "name of a subvolume", path);
  memcpy(args.name, name.c_str(), name.size() + 1);
  return args;
}

void set_read_only(int subvolume, bool read_only, const std::string& subject) {
  uint64_t flags = 0;
  if (ioctl(subvolume, BTRFS_IOC_SUBVOL_GETFLAGS, &flags) < 0) throw_errno("BTRFS_IOC_SUBVOL_GETFLAGS", subject);
  uint64_t wanted = read_only ? flags | BTRFS_SUBVOL_RDONLY : flags & ~static_cast<uint64_t>(BTRFS_SUBVOL_RDONLY);
  if (wanted != flags && ioctl(subvolume, BTRFS_IOC_SUBVOL_SETFLAGS, &wanted) < 0) {
    throw_errno("BTRFS_IOC_SUBVOL_SETFLAGS", subject);
  }
}

// The top directory of a subvolume, which nobody needs a path for: containers nest them as deep as they like.
UniqueFd open_by_id(int any, uint64_t id, const std::string& subject) {
  // linux/exportfs.h: FILEID_BTRFS_WITHOUT_PARENT, and fs/btrfs/export.h: its content
  constexpr int handle_type = 0x4d;
  struct __attribute__((packed)) Content {
    uint64_t object;
    uint64_t root;
    uint32_t generation;  // 0: whichever
  };
  struct {
    file_handle head;
    unsigned char content[sizeof(Content)];
  } handle = {};
  handle.head.handle_bytes = sizeof(Content);
  handle.head.handle_type = handle_type;
  Content content = {first_free_object, id, 0};
  memcpy(handle.head.f_handle, &content, sizeof content);
  UniqueFd fd(open_by_handle_at(any, &handle.head, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) throw_errno("open_by_handle_at", subject);
  return fd;
}

// One of the subvolumes that are directly in this one; 0: there is none.
uint64_t find_nested(int subvolume, const std::string& subject) {
  btrfs_ioctl_get_subvol_rootref_args args = {};
  // EOVERFLOW: there are more
  if (ioctl(subvolume, BTRFS_IOC_GET_SUBVOL_ROOTREF, &args) < 0 && errno != EOVERFLOW) {
    throw_errno("BTRFS_IOC_GET_SUBVOL_ROOTREF", subject);
  }
  return args.num_items == 0 ? 0 : args.rootref[0].treeid;
}

uint64_t id_of(int subvolume, const std::string& subject) {
  btrfs_ioctl_ino_lookup_args args = {};
  args.objectid = first_free_object;
  if (ioctl(subvolume, BTRFS_IOC_INO_LOOKUP, &args) < 0) throw_errno("BTRFS_IOC_INO_LOOKUP", subject);
  return args.treeid;
}

// False: it still counts something, since the kernel frees later what a deleted subvolume had.
bool remove_qgroup(int any, uint64_t id) {
  btrfs_ioctl_qgroup_create_args args = {};
  args.qgroupid = id;
  return ioctl(any, BTRFS_IOC_QGROUP_CREATE, &args) == 0 || errno != EBUSY;
}

// Of subvolumes that are deleted, of the one file system that an agent has.
class BusyQgroups {
 public:
  void add(uint64_t id) {
    std::lock_guard lock(mutex_);
    ids_.push_back(id);
  }
  // True: there are none any more.
  bool remove(int any) {
    std::lock_guard lock(mutex_);
    std::erase_if(ids_, [any](uint64_t id) { return remove_qgroup(any, id); });
    return ids_.empty();
  }

 private:
  std::mutex mutex_;
  std::vector<uint64_t> ids_;
};

// never destroyed: a thread may outlive the main one
BusyQgroups& busy_qgroups = *new BusyQgroups;

// Of a subvolume that is deleted. From 6.11 on the kernel sees to it; without quotas there is none.
void drop_qgroup(int any, uint64_t id) {
  if (!remove_qgroup(any, id)) busy_qgroups.add(id);
}

void destroy_by_id(int any, uint64_t id, const std::string& subject) {
  btrfs_ioctl_vol_args_v2 args = {};
  args.flags = BTRFS_SUBVOL_SPEC_BY_ID;
  args.subvolid = id;
  if (ioctl(any, BTRFS_IOC_SNAP_DESTROY_V2, &args) < 0) throw_errno("BTRFS_IOC_SNAP_DESTROY_V2", subject);
  drop_qgroup(any, id);
}

// What a container has made of its own, the innermost first. Nothing can be removed from one that is read-only.
void destroy_nested(int top, const std::string& subject) {
  std::vector<uint64_t> path;
  while (true) {
    UniqueFd opened;
    if (!path.empty()) opened = open_by_id(top, path.back(), subject);
    int current = path.empty() ? top : opened.get();
    if (uint64_t nested = find_nested(current, subject); nested != 0) {
      set_read_only(current, false, subject);
      path.push_back(nested);
      continue;
    }
    if (path.empty()) return;
    opened.reset();
    destroy_by_id(top, path.back(), subject);
    path.pop_back();
  }
}

Napi::Value create_subvolume(const Napi::CallbackInfo& info) {
  std::string path = string_argument(info, 0, "path");
  return on_own_thread(info.Env(), [path]() -> Settle {
    UniqueFd parent = open_parent(path);
    btrfs_ioctl_vol_args_v2 args = named(path);
    if (ioctl(parent.get(), BTRFS_IOC_SUBVOL_CREATE_V2, &args) < 0) throw_errno("BTRFS_IOC_SUBVOL_CREATE_V2", path);
    return settle_nothing();
  });
}

Napi::Value snapshot_subvolume(const Napi::CallbackInfo& info) {
  Napi::Object options = object_argument(info, 0, "options");
  std::string from = text_field(options, "from");
  std::string to = text_field(options, "to");
  return on_own_thread(info.Env(), [from, to]() -> Settle {
    UniqueFd source = open_directory(from);
    UniqueFd parent = open_parent(to);
    btrfs_ioctl_vol_args_v2 args = named(to);
    args.fd = source.get();
    if (ioctl(parent.get(), BTRFS_IOC_SNAP_CREATE_V2, &args) < 0) throw_errno("BTRFS_IOC_SNAP_CREATE_V2", to);
    return settle_nothing();
  });
}

Napi::Value make_subvolume_read_only(const Napi::CallbackInfo& info) {
  std::string path = string_argument(info, 0, "path");
  return on_own_thread(info.Env(), [path]() -> Settle {
    set_read_only(open_directory(path).get(), true, path);
    return settle_nothing();
  });
}

Napi::Value delete_subvolume(const Napi::CallbackInfo& info) {
  std::string path = string_argument(info, 0, "path");
  return on_own_thread(info.Env(), [path]() -> Settle {
    UniqueFd parent = open_parent(path);
    UniqueFd subvolume = open_directory(path);
    const uint64_t id = id_of(subvolume.get(), path);
    btrfs_ioctl_vol_args_v2 args = named(path);
    if (ioctl(parent.get(), BTRFS_IOC_SNAP_DESTROY_V2, &args) < 0) {
      if (errno != ENOTEMPTY) throw_errno("BTRFS_IOC_SNAP_DESTROY_V2", path);
      destroy_nested(subvolume.get(), path);
      if (ioctl(parent.get(), BTRFS_IOC_SNAP_DESTROY_V2, &args) < 0) throw_errno("BTRFS_IOC_SNAP_DESTROY_V2", path);
    }
    drop_qgroup(parent.get(), id);
    return settle_nothing();
  });
}

int limit_exclusive(int subvolume, uint64_t bytes) {
  btrfs_ioctl_qgroup_limit_args args = {};
  // group 0 is the subvolume's own
  args.lim.flags = BTRFS_QGROUP_LIMIT_MAX_EXCL;
  args.lim.max_excl = bytes;
  return ioctl(subvolume, BTRFS_IOC_QGROUP_LIMIT, &args);
}

Napi::Value limit_subvolume(const Napi::CallbackInfo& info) {
  std::string path = string_argument(info, 0, "path");
  const auto bytes = static_cast<uint64_t>(info[1].ToNumber().Int64Value());
  return on_own_thread(info.Env(), [path, bytes]() -> Settle {
    UniqueFd fd = open_directory(path);
    if (limit_exclusive(fd.get(), bytes) == 0) return settle_nothing();
    // EINVAL was the answer of older kernels
    if (errno != ENOTCONN && errno != EINVAL) throw_errno("BTRFS_IOC_QGROUP_LIMIT", path);
    btrfs_ioctl_quota_ctl_args enable = {};
    enable.cmd = BTRFS_QUOTA_CTL_ENABLE;
    if (ioctl(fd.get(), BTRFS_IOC_QUOTA_CTL, &enable) < 0) throw_errno("BTRFS_IOC_QUOTA_CTL", path);
    // until all is counted once, nothing is limited
    if (ioctl(fd.get(), BTRFS_IOC_QUOTA_RESCAN_WAIT) < 0) throw_errno("BTRFS_IOC_QUOTA_RESCAN_WAIT", path);
    if (limit_exclusive(fd.get(), bytes) < 0) throw_errno("BTRFS_IOC_QGROUP_LIMIT", path);
    return settle_nothing();
  });
}

Napi::Value clean_btrfs(const Napi::CallbackInfo& info) {
  std::string path = string_argument(info, 0, "path");
  return on_own_thread(info.Env(), [path]() -> Settle {
    UniqueFd fd = open_directory(path);
    for (int tries = 0; tries < most_cleanings; ++tries) {
      if (tries > 0) std::this_thread::sleep_for(cleaning_pause);
      // Commits, and wakes the kernel's thread that frees what deleted subvolumes had to themselves.
      if (ioctl(fd.get(), BTRFS_IOC_SYNC) < 0) throw_errno("BTRFS_IOC_SYNC", path);
      if (busy_qgroups.remove(fd.get())) break;
    }
    return settle_nothing();
  });
}

}  // namespace

void register_btrfs(Napi::Object exports) {
  export_function<create_subvolume>(exports, "createSubvolume");
  export_function<snapshot_subvolume>(exports, "snapshotSubvolume");
  export_function<make_subvolume_read_only>(exports, "makeSubvolumeReadOnly");
  export_function<delete_subvolume>(exports, "deleteSubvolume");
  export_function<limit_subvolume>(exports, "limitSubvolume");
  export_function<clean_btrfs>(exports, "cleanBtrfs");
}

}  // namespace berth
