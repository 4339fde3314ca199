#include "monitor/runtime_command.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "common/clone3.h"
#include "monitor/cgroup.h"
#include "monitor/container.h"
#include "monitor/host_pid.h"
#include "monitor/identity.h"
#include "monitor/program.h"
#include "monitor/runtime_words.h"

namespace berth {

namespace {

constexpr size_t kLongestLog = 64 << 10;
constexpr const char* kEnvironment = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

struct ChildOrders {
  const OciRuntime& runtime;
  const RuntimeOrders& orders;
  ChildChannel channel;
  const Descriptors& descriptors;
  char* const* argv;
};

// With a place of its own there: crun makes the container's directories all the same, and would make them in what the host
// has below its mount, which may be read-only, and where nobody would take them away.
void hide_mount(const char* path, const ChildChannel& channel) {
  if (umount2(path, MNT_DETACH) != 0) {
    if (errno != EINVAL && errno != ENOENT) channel.break_off("hide the mount", path);
    return;
  }
  if (mount("hidden", path, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0755,size=64k,nr_inodes=256") != 0) {
    channel.break_off("cover the mount", path);
  }
}

void enter_private_mounts(const ChildOrders& child) {
  const ChildChannel& channel = child.channel;
  const RuntimeOrders& orders = child.orders;
  if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) channel.break_off("make mounts private", "/");
  for (const std::string& path : child.runtime.hidden_mounts) hide_mount(path.c_str(), channel);
  if (chdir(child.runtime.bundle.c_str()) != 0) channel.break_off("chdir", child.runtime.bundle.c_str());
  if (!orders.pid_namespace.empty() && mount(orders.pid_namespace.c_str(), "pid", nullptr, MS_BIND, nullptr) != 0) {
    // Whose it was has ended since.
    const ErrorKind kind = errno == ENOENT ? ErrorKind::kNotRunning : ErrorKind::kInternal;
    channel.fail(kind, "mount the PID namespace", orders.pid_namespace.c_str(), errno);
  }
  // The host's /proc has other numbers for the processes of the monitor's PID namespace.
  if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) != 0) channel.break_off("mount", "/proc");
  for (const auto& [fd, target] : orders.mounts) {
    if (move_mount(fd, "", AT_FDCWD, target.c_str(), MOVE_MOUNT_F_EMPTY_PATH) != 0) {
      channel.refuse("attach", target.c_str());
    }
  }
}

// A pod of the lowest class gets next to nothing of a busy processor: what the runtime does for it must not wait for that.
// The programs that it starts it puts into their container's cgroup. Where the other one has gone, it stays in the pod's.
void join_processor_cgroup(const std::string& tasks_file) {
  if (tasks_file.empty()) return;
  const UniqueFd file(open(tasks_file.c_str(), O_WRONLY | O_CLOEXEC));
  if (file && write(file.get(), "0", 1) != 1) return;
}

[[noreturn]] void run_child(const ChildOrders& child) {
  const ChildChannel& channel = child.channel;
  keep_only(child.descriptors, channel);
  join_processor_cgroup(child.runtime.cpu_tasks_file);
  umask(022);
  if (setsid() < 0) channel.break_off("setsid");
  if (child.orders.process != nullptr) set_oom_score_adj(*child.orders.process, channel);
  enter_private_mounts(child);
  keep_only_channel(channel);
  reset_signals();
  char* const environment[] = {const_cast<char*>(kEnvironment), nullptr};
  execve(child.runtime.path.c_str(), child.argv, environment);
  channel.break_off("execve", child.runtime.path.c_str());
}

// At most limit bytes of the file's end.
std::string read_end(const std::string& path, size_t limit) {
  const UniqueFd file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  struct stat status = {};
  if (!file || fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode)) return {};
  const auto size = static_cast<size_t>(status.st_size);
  std::string text(size < limit ? size : limit, '\0');
  const ssize_t count = pread(file.get(), text.data(), text.size(), static_cast<off_t>(size - text.size()));
  text.resize(count > 0 ? static_cast<size_t>(count) : 0);
  return text;
}

std::string base_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

}  // namespace

// ---- orphans ----

void OrphanEnds::command_ended() {
  if (--commands_ == 0) ends_.clear();
}

void OrphanEnds::add(const siginfo_t& info) {
  if (commands_ > 0) ends_.push_back(info);
}

bool OrphanEnds::take(pid_t pid, siginfo_t& info) {
  for (size_t i = 0; i < ends_.size(); ++i) {
    if (ends_[i].si_pid != pid) continue;
    info = ends_[i];
    ends_.erase(ends_.begin() + static_cast<ptrdiff_t>(i));
    return true;
  }
  return false;
}

// ---- the command ----

RuntimeCommand::RuntimeCommand(EventLoop& loop, OrphanEnds& orphans, RuntimeCommandObserver& observer)
    : loop_(loop), orphans_(orphans), observer_(observer), timer_(loop, *this) {}

RuntimeCommand::~RuntimeCommand() {
  if (pid_ == 0) return;
  kill();
  orphans_.command_ended();
  remove_files();
}

std::string RuntimeCommand::file(const char* name) const { return bundle_ + "/" + name + "-" + number_; }

std::optional<Failure> RuntimeCommand::write_input(const RuntimeOrders& orders) {
  if (orders.input_option.empty()) return std::nullopt;
  const std::string path = file("input");
  const UniqueFd input(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!input || write(input.get(), orders.input.data(), orders.input.size()) !=
                    static_cast<ssize_t>(orders.input.size())) {
    return failure(ErrorKind::kInternal, last_error("write", path));
  }
  return std::nullopt;
}

std::optional<Failure> RuntimeCommand::listen_for_terminal() {
  // The path may be longer than a socket's address takes.
  const UniqueFd directory(open(bundle_.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  terminal_listener_.reset(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/console-%s", directory.get(), number_.c_str());
  if (!directory || !terminal_listener_ ||
      bind(terminal_listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(terminal_listener_.get(), 1) != 0) {
    return failure(ErrorKind::kInternal, last_error("listen", file("console")));
  }
  return std::nullopt;
}

void RuntimeCommand::remove_files() {
  for (const char* name : {"log", "program", "console", "input"}) unlink(file(name).c_str());
}

std::optional<Failure> RuntimeCommand::start(const OciRuntime& runtime, const RuntimeOrders& orders, uint64_t number) {
  name_ = base_name(runtime.path) + " " + orders.command.front();
  bundle_ = runtime.bundle;
  number_ = std::to_string(number);
  starts_program_ = orders.starts_program;
  if (orders.process != nullptr) {
    program_name_ = orders.process->args.front();
    directory_ = orders.process->cwd;
  }
  result_ = write_input(orders);
  if (!result_ && orders.terminal) result_ = listen_for_terminal();
  if (!result_) result_ = spawn(runtime, orders);
  if (result_) {
    remove_files();
    return result_;
  }
  const UniqueFd process(static_cast<int>(syscall(SYS_pidfd_open, pid_, 0)));
  if (process) host_pid_ = host_pid_of(process.get());
  orphans_.command_begins();
  if (runtime.timeout_ms != 0) timer_.arm_in(runtime.timeout_ms);
  return std::nullopt;
}

std::optional<Failure> RuntimeCommand::spawn(const OciRuntime& runtime, const RuntimeOrders& orders) {
  std::vector<std::string> arguments = {runtime.path};
  arguments.insert(arguments.end(), runtime.arguments.begin(), runtime.arguments.end());
  const auto add = [&arguments](std::initializer_list<std::string> more) {
    arguments.insert(arguments.end(), more.begin(), more.end());
  };
  // Relative to the bundle, where it runs: short enough for a socket's address.
  add({"--root", "state", "--log", "log-" + number_, "--log-format", "json"});
  arguments.insert(arguments.end(), orders.command.begin(), orders.command.end());
  if (orders.starts_program) add({"--pid-file", "program-" + number_});
  if (orders.terminal) add({"--console-socket", "console-" + number_});
  if (!orders.input_option.empty()) add({orders.input_option, "input-" + number_});
  add({orders.container_id});
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);

  UniqueFd child_end;
  if (!channel_.open(child_end)) return failure(ErrorKind::kInternal, last_error("socketpair"));
  Descriptors descriptors;
  descriptors.stdin_fd = orders.stdin_fd;
  descriptors.stdout_fd = orders.stdout_fd;
  descriptors.stderr_fd = orders.stderr_fd;
  descriptors.kept.push_back(child_end.get());
  for (const auto& [fd, target] : orders.mounts) descriptors.kept.push_back(fd);
  descriptors.sort();
  const ChildOrders child = {
      .runtime = runtime,
      .orders = orders,
      .channel = ChildChannel(child_end.get()),
      .descriptors = descriptors,
      .argv = argv.data(),
  };
  CloneOptions options;
  options.flags = CLONE_NEWNS;
  options.cgroup_fd = orders.cgroup2_fd;
  const pid_t pid = clone3_fork(options);
  if (pid == 0) run_child(child);
  if (pid < 0) {
    const Failure failed = failure(ErrorKind::kInternal, last_error("clone3", runtime.path));
    channel_.close();
    return failed;
  }
  pid_ = pid;
  return std::nullopt;
}

void RuntimeCommand::kill() {
  if (pid_ == 0) return;
  ::kill(pid_, SIGKILL);
  // What it has started by then and has not let go of is of its session.
  if (host_pid_ != 0) kill_session(host_pid_);
}

void RuntimeCommand::on_time() {
  timed_out_ = true;
  kill();
  observer_.on_command_timeout();
}

bool RuntimeCommand::on_reaped(const siginfo_t& info) {
  if (pid_ == 0 || info.si_pid != pid_) return false;
  pid_ = 0;
  timer_.disarm();
  take_result(info);
  channel_.close();
  return true;
}

void RuntimeCommand::take_result(const siginfo_t& info) {
  was_killed_ = !timed_out_ && info.si_code != CLD_EXITED && info.si_status == SIGKILL;
  Report report;
  pid_t sender = 0;
  UniqueFd descriptor;
  while (channel_.receive(report, sender, descriptor) == ChildLink::Result::kReport) {
    if (report.kind == ReportKind::kFailed) result_ = to_failure(report);
  }
  if (!result_ && timed_out_) {
    result_ = failure(ErrorKind::kInternal, name_, {}, "it did not end in its time and was killed");
  } else if (!result_ && (info.si_code != CLD_EXITED || info.si_status != 0)) {
    std::string words = last_log_error(read_end(file("log"), kLongestLog));
    if (words.empty()) {
      words = info.si_code == CLD_EXITED ? "it ended with exit code " + std::to_string(info.si_status)
                                         : "it was killed by signal " + std::to_string(info.si_status);
    }
    result_ = fault_of_program(words, program_name_, directory_);
    program_at_fault_ = result_.has_value();
    if (!result_) result_ = failure(ErrorKind::kInternal, name_, {}, words);
    if (program_at_fault_) result_->message.insert(0, name_ + ": ");
  }
  if (!result_ && starts_program_) {
    program_ = static_cast<pid_t>(strtol(read_end(file("program"), 32).c_str(), nullptr, 10));
    if (program_ <= 1) {
      program_ = 0;
      result_ = failure(ErrorKind::kInternal, name_, {}, "it has not told the number of the process that it started");
    }
  }
  siginfo_t end = {};
  if (program_ != 0 && orphans_.take(program_, end)) {
    program_end_ = end;
  } else if (program_ != 0 && waitid(P_PID, static_cast<id_t>(program_), &end, WEXITED | WNOHANG | WNOWAIT) != 0) {
    // What is not this process's child would never be heard of again.
    result_ = failure(ErrorKind::kInternal, name_, {}, "it has told the number of a process that it did not start");
    program_ = 0;
  }
  remove_files();
  orphans_.command_ended();
}

UniqueFd RuntimeCommand::take_terminal() {
  // It has connected, sent and closed already: all of it waits in the listening socket.
  const UniqueFd connection(accept4(terminal_listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  terminal_listener_.reset();
  if (!connection) return UniqueFd();
  char name[256];
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  iovec part = {name, sizeof name};
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  if (recvmsg(connection.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) < 0) return UniqueFd();
  const cmsghdr* piece = CMSG_FIRSTHDR(&message);
  if (piece == nullptr || piece->cmsg_level != SOL_SOCKET || piece->cmsg_type != SCM_RIGHTS) return UniqueFd();
  int fd = -1;
  memcpy(&fd, CMSG_DATA(piece), sizeof fd);
  UniqueFd master(fd);
  if (fcntl(fd, F_SETFL, O_NONBLOCK) != 0) return UniqueFd();
  return master;
}

}  // namespace berth
