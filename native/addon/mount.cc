// Mounts as descriptors: what a container gets is never attached anywhere on the host.
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <vector>

#include "addon/arguments.h"
#include "addon/file_access.h"
#include "addon/functions.h"
#include "addon/mount_context.h"
#include "addon/mount_features.h"
#include "addon/own_thread.h"
#include "addon/user_namespace.h"
#include "common/unique_fd.h"

namespace berth {
namespace {

std::string descriptor_name(int fd) { return "descriptor " + std::to_string(fd); }

// ---- attributes ----

struct Attributes {
  uint64_t set = 0;
  uint64_t clear = 0;
  uint64_t propagation = 0;
  bool recursive = false;

  bool any() const { return set != 0 || clear != 0 || propagation != 0; }
};

Attributes to_attributes(const Napi::Object& object) {
  Attributes attributes;
  attributes.set = static_cast<uint64_t>(int_field_or(object, "set", 0));
  attributes.clear = static_cast<uint64_t>(int_field_or(object, "clear", 0));
  attributes.propagation = static_cast<uint64_t>(int_field_or(object, "propagation", 0));
  attributes.recursive = bool_field(object, "recursive");
  return attributes;
}

void apply(int fd, const Attributes& attributes, const std::string& subject) {
  if (!attributes.any()) return;
  struct mount_attr raw = {};
  raw.attr_set = attributes.set;
  raw.attr_clr = attributes.clear;
  raw.propagation = attributes.propagation;
  // The access time modes are one field of several bits: to set one, the kernel wants the field cleared.
  if (raw.attr_set & MOUNT_ATTR__ATIME) raw.attr_clr |= MOUNT_ATTR__ATIME;
  unsigned flags = AT_EMPTY_PATH | (attributes.recursive ? AT_RECURSIVE : 0U);
  if (mount_setattr(fd, "", flags, &raw, sizeof raw) < 0) throw_errno("mount_setattr", subject);
}

Napi::Value set_mount_attributes(const Napi::CallbackInfo& info) {
  int fd = int_argument(info, 0, "fd");
  apply(fd, to_attributes(object_argument(info, 1, "attributes")), descriptor_name(fd));
  return info.Env().Undefined();
}

// ---- clones of existing trees ----

UniqueFd clone_tree(int directory, const std::string& path, bool recursive, const std::string& subject) {
  unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (path.empty() ? AT_EMPTY_PATH : 0U) |
                   (recursive ? AT_RECURSIVE : 0U);
  UniqueFd tree(open_tree(directory, path.c_str(), flags));
  if (!tree) throw_errno("open_tree", subject);
  return tree;
}

// All of a tree, where all of its file systems can; else at least the one that was asked for.
void idmap_tree(int tree, int user_namespace, bool recursive, const std::string& subject) {
  if (recursive) {
    try {
      return idmap_mount(tree, user_namespace, true, subject);
    } catch (const SystemError& error) {
      if (error.errno_value() != EINVAL && error.errno_value() != EPERM) throw;
    }
  }
  idmap_mount(tree, user_namespace, false, subject);
}

struct Tree {
  std::string path;
  std::string root;  // empty: the path is one of the host's
  bool recursive = false;
  int user_namespace = -1;
  Attributes attributes;
};

Tree to_tree(const Napi::Object& options) {
  Tree tree;
  tree.path = text_field(options, "path");
  tree.root = text_field_or_empty(options, "root");
  tree.recursive = bool_field(options, "recursive");
  tree.user_namespace = static_cast<int>(int_field_or(options, "userNamespaceFd", -1));
  if (has_field(options, "attributes")) tree.attributes = to_attributes(object_field(options, "attributes"));
  return tree;
}

UniqueFd open_clone(const Tree& tree) {
  UniqueFd clone;
  if (tree.root.empty()) {
    clone = clone_tree(AT_FDCWD, tree.path, tree.recursive, tree.path);
  } else {
    UniqueFd root = open_file(tree.root, O_PATH | O_DIRECTORY);
    UniqueFd target = open_path_in_root(root.get(), tree.path);
    clone = clone_tree(target.get(), "", tree.recursive, tree.path);
  }
  if (tree.user_namespace >= 0) idmap_tree(clone.get(), tree.user_namespace, tree.recursive, tree.path);
  apply(clone.get(), tree.attributes, tree.path);
  return clone;
}

Napi::Value open_tree_clone(const Napi::CallbackInfo& info) {
  Tree tree = to_tree(object_argument(info, 0, "options"));
  return on_own_thread(info.Env(), [tree]() -> Settle { return settle_number(open_clone(tree).release()); });
}

Napi::Value open_tree_clones(const Napi::CallbackInfo& info) {
  if (!info[0].IsArray()) throw Napi::TypeError::New(info.Env(), "trees has to be an array");
  Napi::Array list = info[0].As<Napi::Array>();
  std::vector<Tree> trees;
  for (uint32_t index = 0; index < list.Length(); index++) {
    Napi::Value item = list.Get(index);
    if (!item.IsObject()) throw Napi::TypeError::New(info.Env(), "trees has to be an array of objects");
    trees.push_back(to_tree(item.As<Napi::Object>()));
  }
  return on_own_thread(info.Env(), [trees]() -> Settle {
    std::vector<UniqueFd> clones;
    for (const Tree& tree : trees) clones.push_back(open_clone(tree));
    std::vector<int> numbers;
    for (UniqueFd& clone : clones) numbers.push_back(clone.release());
    return [numbers](Napi::Env env) {
      Napi::Array result = Napi::Array::New(env, numbers.size());
      for (uint32_t index = 0; index < numbers.size(); index++) result.Set(index, numbers[index]);
      return result;
    };
  });
}

// ---- overlay ----

struct Overlay {
  std::vector<std::string> lower;
  std::string upper;
  std::string work;
  bool readonly = false;
  bool is_volatile = false;
  std::string sub_path;
  // SELinux label of all files; empty: each has its own.
  std::string context;
  // The lower directories show their ids as this user namespace maps them; -1: as they are.
  int user_namespace = -1;

  unsigned mount_attributes() const { return readonly || upper.empty() ? MOUNT_ATTR_RDONLY : 0; }
};

const std::string& subject_of(const Overlay& overlay) {
  return overlay.upper.empty() ? overlay.lower.front() : overlay.upper;
}

UniqueFd clone_lower(const Overlay& overlay, const std::string& path) {
  UniqueFd tree = clone_tree(AT_FDCWD, path, false, path);
  if (overlay.user_namespace >= 0) idmap_mount(tree.get(), overlay.user_namespace, false, path);
  return tree;
}

// Layers with mapped ids are mounts, and come as descriptors, which must stay open until the overlay has made its clones.
std::vector<UniqueFd> add_idmapped_lower(int context, const Overlay& overlay) {
  std::vector<UniqueFd> layers;
  for (const std::string& path : overlay.lower) {
    layers.push_back(clone_lower(overlay, path));
    if (fsconfig(context, FSCONFIG_SET_FD, "lowerdir+", nullptr, layers.back().get()) < 0) {
      throw_context_error(context, "fsconfig", "lowerdir+=" + path);
    }
  }
  return layers;
}

UniqueFd overlay_by_context(const Overlay& overlay) {
  UniqueFd context(fsopen("overlay", FSOPEN_CLOEXEC));
  if (!context) throw_errno("fsopen", "overlay");
  set_parameter(context.get(), "source", "overlay");
  std::vector<UniqueFd> layers;
  if (overlay.user_namespace >= 0) {
    layers = add_idmapped_lower(context.get(), overlay);
  } else {
    for (const std::string& lower : overlay.lower) set_parameter(context.get(), "lowerdir+", lower);
  }
  if (!overlay.upper.empty()) {
    set_parameter(context.get(), "upperdir", overlay.upper);
    set_parameter(context.get(), "workdir", overlay.work);
    // An index ties an upper directory to the very inodes of its lower ones, and would refuse layers that were restored.
    set_parameter(context.get(), "index", "off");
    // The upper directory alone tells what a container has changed: no notes of other paths in it, no files without content.
    set_parameter(context.get(), "metacopy", "off");
    set_parameter(context.get(), "redirect_dir", "off");
    if (overlay.is_volatile && fsconfig(context.get(), FSCONFIG_SET_FLAG, "volatile", nullptr, 0) < 0) {
      throw_context_error(context.get(), "fsconfig", "volatile");
    }
  }
  if (!overlay.context.empty()) set_parameter(context.get(), "context", overlay.context);
  return create_and_mount(context.get(), overlay.mount_attributes(), subject_of(overlay));
}

// A detached mount of a directory, or of what is at a path within it.
UniqueFd clone_part(const std::string& directory, const std::string& sub_path, const std::string& subject) {
  if (sub_path.empty()) return clone_tree(AT_FDCWD, directory, false, subject);
  UniqueFd root = open_file(directory, O_PATH | O_DIRECTORY);
  UniqueFd part = open_path_in_root(root.get(), sub_path);
  return clone_tree(part.get(), "", false, sub_path);
}

// Before Linux 6.8 the layers come as one mount(2) option string of at most a page. A detached tmpfs holds short links to
// them, and the overlay is attached in a mount namespace of this thread's own, which ends with it. The clone outlives it.
UniqueFd overlay_by_scratch_namespace(const Overlay& overlay) {
  if (unshare(CLONE_NEWNS) < 0) throw_errno("unshare", "mount namespace");
  if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) < 0) throw_errno("mount", "make / private");
  UniqueFd context(fsopen("tmpfs", FSOPEN_CLOEXEC));
  if (!context) throw_errno("fsopen", "tmpfs");
  UniqueFd links = create_and_mount(context.get(), 0, "tmpfs");
  std::vector<UniqueFd> layers;
  if (overlay.user_namespace >= 0) {
    for (const std::string& path : overlay.lower) layers.push_back(clone_lower(overlay, path));
  }
  auto link_to = [&](const std::string& target, const std::string& name) {
    if (symlinkat(target.c_str(), links.get(), name.c_str()) < 0) throw_errno("symlink", target);
  };
  std::string data = "lowerdir=";
  for (size_t i = 0; i < overlay.lower.size(); i++) {
    std::string name = std::to_string(i);
    if (layers.empty()) {
      link_to(overlay.lower[i], name);
    } else if (mkdirat(links.get(), name.c_str(), 0700) < 0) {
      throw_errno("mkdir", overlay.lower[i]);
    }
    data += (i > 0 ? ":" : "") + name;
  }
  if (!overlay.upper.empty()) {
    link_to(overlay.upper, "u");
    link_to(overlay.work, "w");
    data += ",upperdir=u,workdir=w,index=off,metacopy=off,redirect_dir=off";
    if (overlay.is_volatile) data += ",volatile";
  }
  // A label may have commas.
  if (!overlay.context.empty()) data += ",context=\"" + overlay.context + "\"";
  // Mounts can be attached below it only when it is attached itself: to a directory that is surely there.
  if (!layers.empty()) {
    if (move_mount(links.get(), "", AT_FDCWD, "/proc", MOVE_MOUNT_F_EMPTY_PATH) < 0) throw_errno("move_mount", "tmpfs");
    for (size_t i = 0; i < layers.size(); i++) {
      if (move_mount(layers[i].get(), "", links.get(), std::to_string(i).c_str(), MOVE_MOUNT_F_EMPTY_PATH) < 0) {
        throw_errno("move_mount", overlay.lower[i]);
      }
    }
  }
  if (fchdir(links.get()) < 0) throw_errno("fchdir", "tmpfs");
  // The topmost layer is a directory that is surely there; in this namespace it may be covered.
  const std::string& target = overlay.lower.front();
  unsigned long flags = overlay.mount_attributes() & MOUNT_ATTR_RDONLY ? MS_RDONLY : 0;
  if (mount("overlay", target.c_str(), "overlay", flags, data.c_str()) < 0) {
    throw_errno("mount overlay", subject_of(overlay));
  }
  UniqueFd tree = clone_part(target, overlay.sub_path, subject_of(overlay));
  // mount(2) made the superblock read-only, the other way only the mount: the same is said of both.
  apply(tree.get(), Attributes{.set = overlay.mount_attributes()}, subject_of(overlay));
  return tree;
}

UniqueFd mount_overlay(const Overlay& overlay, bool scratch) {
  // The kernel refuses a single read-only layer; a clone of it is the same.
  if (overlay.upper.empty() && overlay.lower.size() == 1) {
    UniqueFd tree = clone_part(overlay.lower.front(), overlay.sub_path, overlay.lower.front());
    if (overlay.user_namespace >= 0) idmap_mount(tree.get(), overlay.user_namespace, false, overlay.lower.front());
    apply(tree.get(), Attributes{.set = MOUNT_ATTR_RDONLY}, overlay.lower.front());
    return tree;
  }
  // Before Linux 6.15 a part of a mount can only be cloned where the mount is attached.
  return scratch || !overlay.sub_path.empty() ? overlay_by_scratch_namespace(overlay) : overlay_by_context(overlay);
}

Napi::Value mount_overlay_call(const Napi::CallbackInfo& info) {
  Napi::Object options = object_argument(info, 0, "options");
  Overlay overlay;
  overlay.lower = texts_field(options, "lower");
  overlay.upper = text_field_or_empty(options, "upper");
  overlay.work = text_field_or_empty(options, "work");
  overlay.readonly = bool_field(options, "readonly");
  overlay.is_volatile = bool_field(options, "volatile");
  overlay.sub_path = text_field_or_empty(options, "subPath");
  overlay.context = text_field_or_empty(options, "context");
  overlay.user_namespace = static_cast<int>(int_field_or(options, "userNamespaceFd", -1));
  bool scratch = bool_field(options, "scratchNamespace") ||
                 !(overlay.user_namespace >= 0 ? overlay_takes_detached_layers() : overlay_takes_lowerdir_plus());
  if (overlay.lower.empty()) throw Napi::TypeError::New(info.Env(), "lower must name at least one directory");
  for (const std::string& path : overlay.lower) {
    if (path.empty() || path[0] != '/') throw Napi::TypeError::New(info.Env(), "lower must be absolute: " + path);
  }
  if (overlay.upper.empty() != overlay.work.empty()) {
    throw Napi::TypeError::New(info.Env(), "upper and work come together");
  }
  if (!overlay.sub_path.empty() && !overlay.upper.empty()) {
    throw Napi::TypeError::New(info.Env(), "subPath is for read-only overlays");
  }
  return on_own_thread(info.Env(), [overlay, scratch]() -> Settle {
    return settle_number(mount_overlay(overlay, scratch).release());
  });
}

// ---- names on the host ----

Napi::Value attach_mount(const Napi::CallbackInfo& info) {
  int fd = int_argument(info, 0, "fd");
  std::string path = string_argument(info, 1, "path");
  return on_own_thread(info.Env(), [fd, path]() -> Settle {
    if (move_mount(fd, "", AT_FDCWD, path.c_str(), MOVE_MOUNT_F_EMPTY_PATH) < 0) throw_errno("move_mount", path);
    return settle_nothing();
  });
}

Napi::Value unmount(const Napi::CallbackInfo& info) {
  std::string path = string_argument(info, 0, "path");
  return on_own_thread(info.Env(), [path]() -> Settle {
    if (umount2(path.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) < 0) throw_errno("umount2", path);
    return settle_nothing();
  });
}

// ---- files and descriptors ----

Napi::Value read_file_in_root(const Napi::CallbackInfo& info) {
  Napi::Object options = object_argument(info, 0, "options");
  int root = static_cast<int>(int_field(options, "rootFd"));
  std::string path = text_field(options, "path");
  int64_t limit = int_field(options, "limitBytes");
  if (limit < 0) throw Napi::TypeError::New(info.Env(), "limitBytes must not be negative");
  return on_own_thread(info.Env(), [root, path, limit]() -> Settle {
    UniqueFd found = open_path_in_root(root, path);
    struct stat status;
    if (fstat(found.get(), &status) < 0) throw_errno("fstat", path);
    // Opened only now that it is known to be harmless: a fifo would wait, a device would act.
    if (S_ISDIR(status.st_mode)) throw SystemError(EISDIR, "read", path);
    if (!S_ISREG(status.st_mode)) throw SystemError(EINVAL, "read", path, "this is no regular file");
    UniqueFd file = reopen(found.get(), O_RDONLY | O_NONBLOCK | O_NOCTTY, path);
    std::string content = read_descriptor(file.get(), static_cast<size_t>(limit), path);
    return [content](Napi::Env env) { return Napi::Buffer<char>::Copy(env, content.data(), content.size()); };
  });
}

Napi::Value mount_id_in_root(const Napi::CallbackInfo& info) {
  Napi::Object options = object_argument(info, 0, "options");
  int root = static_cast<int>(int_field(options, "rootFd"));
  std::string path = text_field(options, "path");
  return on_own_thread(info.Env(), [root, path]() -> Settle {
    UniqueFd found = open_path_in_root(root, path);
    struct statx status = {};
    if (statx(found.get(), "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_MNT_ID, &status) < 0) throw_errno("statx", path);
    double id = static_cast<double>(status.stx_mnt_id);
    return [id](Napi::Env env) { return Napi::Number::New(env, id); };
  });
}

Napi::Value open_path_within(const Napi::CallbackInfo& info) {
  Napi::Object options = object_argument(info, 0, "options");
  int root = static_cast<int>(int_field(options, "rootFd"));
  return Napi::Number::New(info.Env(), open_path_in_root(root, text_field(options, "path")).release());
}

Napi::Value open_path(const Napi::CallbackInfo& info) {
  std::string path = string_argument(info, 0, "path");
  UniqueFd found = open_file(path, O_PATH);
  struct stat status;
  if (fstat(found.get(), &status) < 0) throw_errno("fstat", path);
  // setns, openat2 and netlink want a real descriptor; fifos, sockets and devices stay unopened.
  if (S_ISREG(status.st_mode) || S_ISDIR(status.st_mode)) found = reopen(found.get(), O_RDONLY | O_NONBLOCK, path);
  return Napi::Number::New(info.Env(), found.release());
}

Napi::Value close_descriptor(const Napi::CallbackInfo& info) {
  int fd = int_argument(info, 0, "fd");
  if (close(fd) < 0 && errno != EINTR) throw_errno("close", descriptor_name(fd));
  return info.Env().Undefined();
}

}  // namespace

void register_mount(Napi::Object exports) {
  export_function<open_tree_clone>(exports, "openTree");
  export_function<open_tree_clones>(exports, "openTrees");
  export_function<set_mount_attributes>(exports, "setMountAttributes");
  export_function<mount_overlay_call>(exports, "mountOverlay");
  export_function<attach_mount>(exports, "attachMount");
  export_function<unmount>(exports, "unmount");
  export_function<read_file_in_root>(exports, "readFileInRoot");
  export_function<mount_id_in_root>(exports, "mountIdInRoot");
  export_function<open_path>(exports, "openPath");
  export_function<open_path_within>(exports, "openPathInRoot");
  export_function<close_descriptor>(exports, "closeDescriptor");
}

}  // namespace berth
