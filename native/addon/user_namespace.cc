#include "addon/user_namespace.h"

#include <fcntl.h>
#include <linux/nsfs.h>
#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "addon/arguments.h"
#include "addon/file_access.h"
#include "addon/functions.h"
#include "addon/own_thread.h"
#include "addon/system_error.h"

namespace berth {
namespace {

IdRange to_id_range(const Napi::Object& object) {
  return {static_cast<uint32_t>(int_field(object, "containerId")), static_cast<uint32_t>(int_field(object, "hostId")),
          static_cast<uint32_t>(int_field(object, "length"))};
}

std::string as_line(const IdRange& range) {
  return std::to_string(range.inside) + " " + std::to_string(range.outside) + " " + std::to_string(range.length);
}

UniqueFd make_eventfd() {
  UniqueFd fd(eventfd(0, EFD_CLOEXEC));
  if (!fd) throw_errno("eventfd", "");
  return fd;
}

// All signals stay away from the child, who would run Node's handlers.
class BlockedSignals {
 public:
  BlockedSignals() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~BlockedSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};

}  // namespace

std::string IdRange::as_argument() const {
  return std::to_string(inside) + ":" + std::to_string(outside) + ":" + std::to_string(length);
}

IdMaps to_id_maps(const Napi::Object& object) {
  return {to_id_range(object_field(object, "uids")), to_id_range(object_field(object, "gids"))};
}

// ---- the child: system calls only ----

void UserNamespaceChild::run(void* argument) {
  Orders* orders = static_cast<Orders*>(argument);
  // It follows the thread that made the child; nobody else would ever end it.
  syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  if (syscall(SYS_getppid) != orders->parent) syscall(SYS_exit, 1);
  uint64_t count = 0;
  if (syscall(SYS_read, orders->go, &count, sizeof count) != sizeof count) syscall(SYS_exit, 1);
  if (orders->namespaces != 0 && syscall(SYS_unshare, orders->namespaces) < 0) orders->failed_errno = errno;
  count = 1;
  syscall(SYS_write, orders->done, &count, sizeof count);
  while (true) syscall(SYS_read, orders->go, &count, sizeof count);
}

// ---- the parent ----

UserNamespaceChild::UserNamespaceChild(const IdMaps& maps, uint64_t namespaces)
    : go_(make_eventfd()), done_(make_eventfd()) {
  orders_ = {.parent = getpid(), .go = go_.get(), .done = done_.get(), .namespaces = namespaces};
  clone_args arguments = {};
  // The descriptor table, too: a copy would keep open what is closed here meanwhile.
  arguments.flags = CLONE_VM | CLONE_FILES | CLONE_NEWUSER | CLONE_PIDFD;
  int pidfd = -1;
  arguments.pidfd = reinterpret_cast<uintptr_t>(&pidfd);
  arguments.exit_signal = SIGCHLD;
  stack_.set_in(&arguments);
  {
    BlockedSignals blocked;
    pid_ = clone3_on_stack(&arguments, run, &orders_);
  }
  if (pid_ < 0) throw SystemError(static_cast<int>(-pid_), "clone3", "a user namespace");
  pidfd_ = UniqueFd(pidfd);
  try {
    write_maps(maps);
    make_namespaces();
  } catch (...) {
    end();
    throw;
  }
}

UserNamespaceChild::~UserNamespaceChild() { end(); }

void UserNamespaceChild::end() {
  if (!pidfd_) return;
  kill(static_cast<pid_t>(pid_), SIGKILL);
  while (waitid(P_PIDFD, static_cast<id_t>(pidfd_.get()), nullptr, WEXITED) < 0 && errno == EINTR) continue;
  pidfd_.reset();
}

void UserNamespaceChild::write_maps(const IdMaps& maps) const {
  std::string process = "/proc/" + std::to_string(pid_);
  write_file(process + "/uid_map", as_line(maps.uids));
  write_file(process + "/gid_map", as_line(maps.gids));
}

void UserNamespaceChild::make_namespaces() {
  if (orders_.namespaces == 0) return;
  if (eventfd_write(go_.get(), 1) < 0) throw_errno("write", "eventfd");
  pollfd ready[] = {{done_.get(), POLLIN, 0}, {pidfd_.get(), POLLIN, 0}};
  while (poll(ready, 2, -1) < 0) {
    if (errno != EINTR) throw_errno("poll", "a user namespace");
  }
  if ((ready[0].revents & POLLIN) == 0) throw SystemError(ESRCH, "unshare", "the namespaces of a user namespace");
  if (orders_.failed_errno != 0) {
    throw SystemError(orders_.failed_errno, "unshare", "the namespaces of a user namespace");
  }
}

UniqueFd UserNamespaceChild::open_user_namespace() const {
  return open_file("/proc/" + std::to_string(pid_) + "/ns/user", O_RDONLY);
}

void idmap_mount(int mount, int user_namespace, bool recursive, const std::string& subject) {
  struct mount_attr attributes = {};
  attributes.attr_set = MOUNT_ATTR_IDMAP;
  attributes.userns_fd = static_cast<uint64_t>(user_namespace);
  unsigned flags = AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0U);
  if (mount_setattr(mount, "", flags, &attributes, sizeof attributes) < 0) throw_errno("mount_setattr MOUNT_ATTR_IDMAP", subject);
}

namespace {

Napi::Value make_user_namespace(const Napi::CallbackInfo& info) {
  IdMaps maps = to_id_maps(object_argument(info, 0, "maps"));
  return on_own_thread(info.Env(), [maps]() -> Settle {
    UserNamespaceChild child(maps, 0);
    return settle_number(child.open_user_namespace().release());
  });
}

Napi::Value open_owning_user_namespace(const Napi::CallbackInfo& info) {
  std::string path = string_argument(info, 0, "path");
  UniqueFd name_space = open_file(path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
  UniqueFd owner(ioctl(name_space.get(), NS_GET_USERNS));
  if (!owner) throw_errno("NS_GET_USERNS", path);
  return Napi::Number::New(info.Env(), owner.release());
}

}  // namespace

void register_user_namespace(Napi::Object exports) {
  export_function<make_user_namespace>(exports, "makeUserNamespace");
  export_function<open_owning_user_namespace>(exports, "openOwningUserNamespace");
}

}  // namespace berth
