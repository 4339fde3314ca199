// berth-monitor --sandbox ID --directory DIR --listen-fd N: one per pod, in the pod's net, IPC and UTS namespaces, with the
// host's mounts and credentials. A pod with a user namespace has it as --user-namespace-fd N, with --uid-map and --gid-map.
// It ends by Shutdown or SIGKILL, and everything below it ends with it.
#include <fcntl.h>
#include <linux/keyctl.h>
#include <malloc.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>

#include "monitor/monitor_log.h"
#include "monitor/pod.h"
#include "monitor/user_namespace.h"

namespace {

struct Arguments {
  std::string sandbox;
  std::string directory;
  int listen_fd = -1;
  berth::UserNamespace users;
};

bool parse_fd(const char* value, int& fd) {
  char* end = nullptr;
  const long number = strtol(value, &end, 10);
  if (end == value || *end != '\0' || number < 3 || number > 1 << 20) return false;
  fd = static_cast<int>(number);
  return true;
}

bool parse(int argc, char** argv, Arguments& arguments) {
  for (int i = 1; i + 1 < argc; i += 2) {
    const char* value = argv[i + 1];
    if (strcmp(argv[i], "--sandbox") == 0) {
      arguments.sandbox = value;
    } else if (strcmp(argv[i], "--directory") == 0) {
      arguments.directory = value;
    } else if (strcmp(argv[i], "--listen-fd") == 0) {
      if (!parse_fd(value, arguments.listen_fd)) return false;
    } else if (strcmp(argv[i], "--user-namespace-fd") == 0) {
      int fd = -1;
      if (!parse_fd(value, fd)) return false;
      arguments.users.fd.reset(fd);
    } else if (strcmp(argv[i], "--uid-map") == 0) {
      if (!berth::parse_id_map(value, arguments.users.uids)) return false;
    } else if (strcmp(argv[i], "--gid-map") == 0) {
      if (!berth::parse_id_map(value, arguments.users.gids)) return false;
    } else {
      return false;
    }
  }
  const bool maps = arguments.users.uids.length > 0 && arguments.users.gids.length > 0;
  return argc % 2 == 1 && arguments.users.exists() == maps && !arguments.sandbox.empty() && arguments.directory.starts_with('/') &&
         arguments.listen_fd >= 0;
}

// Children rely on it: a descriptor that they keep is never one of these three.
bool open_standard_streams() {
  for (int stream = 0; stream < 3; ++stream) {
    if (fcntl(stream, F_GETFD) < 0 && open("/dev/null", O_RDWR) != stream) return false;
  }
  return true;
}

// The agent's may hold keys of whoever started it.
void leave_session_keyring() {
  if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, nullptr) >= 0 || errno == ENOSYS || errno == EPERM) return;
  berth::monitor_log("cannot make a session keyring:", berth::last_error("keyctl").describe());
}

void block_signals() {
  sigset_t blocked;
  sigfillset(&blocked);
  // What a fault of its own raises must end it, and not loop.
  for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS}) sigdelset(&blocked, fault);
  sigprocmask(SIG_SETMASK, &blocked, nullptr);
  signal(SIGPIPE, SIG_IGN);
}

// A pod whose memory limit is reached loses one of its programs, not the process that all of them hang on. A child gets
// its own value; without CAP_SYS_RESOURCE it stays what the agent has.
void protect_from_oom_killer() {
  const int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  if (fd < 0) return;
  if (write(fd, "-998", 4) != 4 && errno != EACCES && errno != EPERM) {
    berth::monitor_log("cannot lower the oom_score_adj:", berth::last_error("write").describe());
  }
  close(fd);
}

}  // namespace

int main(int argc, char** argv) {
  // Before anything else: from now on no process without CAP_SYS_PTRACE on the host can look into this one or its children.
  if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) return 1;
  Arguments arguments;
  if (!open_standard_streams() || !parse(argc, argv, arguments)) {
    berth::monitor_log("usage: berth-monitor --sandbox ID --directory DIR --listen-fd N");
    return 2;
  }
  protect_from_oom_killer();
  leave_session_keyring();
  block_signals();
  mallopt(M_ARENA_MAX, 1);
  mallopt(M_TRIM_THRESHOLD, 128 << 10);
  const int flags = fcntl(arguments.listen_fd, F_GETFL);
  if (flags < 0 || fcntl(arguments.listen_fd, F_SETFD, FD_CLOEXEC) != 0 ||
      (arguments.users.exists() && fcntl(arguments.users.fd.get(), F_SETFD, FD_CLOEXEC) != 0) ||
      fcntl(arguments.listen_fd, F_SETFL, flags | O_NONBLOCK) != 0 || prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0) {
    berth::monitor_log("cannot start:", berth::last_error("set up").describe());
    return 1;
  }
  berth::Pod pod(std::move(arguments.sandbox), std::move(arguments.directory), std::move(arguments.users));
  if (const auto failed = pod.open(berth::UniqueFd(arguments.listen_fd))) {
    berth::monitor_log("cannot start:", failed->error.describe());
    berth::monitor_log(failed->message);
    return 1;
  }
  pod.run();
  // Without destructors: the log writer is still at work on what they would take away.
  _exit(0);
}
