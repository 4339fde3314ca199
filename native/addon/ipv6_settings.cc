#include "addon/ipv6_settings.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <mutex>

#include "addon/file_access.h"
#include "addon/mount_context.h"
#include "addon/system_error.h"

namespace berth {
namespace {

// The kernel keeps an entry below /proc/sys/net for each namespace that was asked about, all in one chain, which each look-up
// goes through: a quarter of a millisecond with 900 pods. A proc of our own has the entries of a few pods only, and is
// given up for the next before they are many.
std::shared_ptr<const UniqueFd> own_proc() {
  struct Own {
    std::mutex mutex;
    std::shared_ptr<const UniqueFd> proc;
    int uses = 0;
  };
  constexpr int most_uses = 50;
  // never destroyed: a thread may outlive the main one
  static Own& own = *new Own;
  std::lock_guard lock(own.mutex);
  if (own.proc == nullptr || own.uses == most_uses) {
    UniqueFd context(fsopen("proc", FSOPEN_CLOEXEC));
    if (!context) throw_errno("fsopen", "proc");
    unsigned attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
    own.proc = std::make_shared<const UniqueFd>(create_and_mount(context.get(), attributes, "proc"));
    own.uses = 0;
  }
  own.uses++;
  return own.proc;
}

}  // namespace

UniqueFd open_ipv6_settings(const std::string& interface) {
  std::shared_ptr<const UniqueFd> proc = own_proc();
  std::string path = "sys/net/ipv6/conf/" + interface;
  UniqueFd directory(openat(proc->get(), path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!directory && errno != ENOENT) throw_errno("open", "/proc/" + path);
  return directory;
}

bool is_ipv6_disabled(int directory) {
  UniqueFd file(openat(directory, "disable_ipv6", O_RDONLY | O_CLOEXEC));
  if (!file) throw_errno("open", "/proc/sys/net/ipv6/conf/*/disable_ipv6");
  return read_descriptor(file.get(), 16, "disable_ipv6").starts_with('1');
}

void write_setting(int directory, const char* name, const char* value) {
  UniqueFd file(openat(directory, name, O_WRONLY | O_CLOEXEC));
  auto size = static_cast<ssize_t>(strlen(value));
  if (!file || write(file.get(), value, strlen(value)) != size) {
    throw_errno("write", std::string("/proc/sys/net/ipv6/conf/*/") + name);
  }
}

}  // namespace berth
