// One command of an OCI runtime's command line: `RUNTIME --root ... create ...`, run as a child of the monitor in a mount
// namespace of its own, to its end or to its time limit.
//
// A program that the runtime starts (a container's init, an exec) outlives it and becomes the monitor's child, which is
// the subreaper; it is known by the file that the runtime writes its number to. It may end, and be reaped, before that is
// read: OrphanEnds keeps what nobody knew.
#pragma once

#include <signal.h>
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/unique_fd.h"
#include "monitor/child_channel.h"
#include "monitor/event_loop.h"
#include "monitor/messages.h"

namespace berth {

// How processes ended that were nobody's, while a command runs that may yet say whose they are.
class OrphanEnds {
 public:
  void command_begins() { ++commands_; }
  void command_ended();
  void add(const siginfo_t& info);
  // True: the process has ended, and how.
  bool take(pid_t pid, siginfo_t& info);

 private:
  int commands_ = 0;
  std::vector<siginfo_t> ends_;
};

struct RuntimeOrders {
  // "create", and what stands after it, without the container's id.
  std::vector<std::string> command;
  std::string container_id;
  // Its standard streams; the host's /dev/null where there is none.
  int stdin_fd = -1;
  int stdout_fd = -1;
  int stderr_fd = -1;
  // Attached in its mount namespace: a detached mount, and a path of the host.
  std::vector<std::pair<int, std::string>> mounts;
  // Path of the host of a PID namespace, which is mounted on the bundle's `pid`; empty: none.
  std::string pid_namespace;
  // Of which it becomes a member; -1: the monitor's.
  int cgroup2_fd = -1;
  // What the program begins with.
  const Process* process = nullptr;
  // It starts a program, whose number it writes to a file.
  bool starts_program = false;
  bool terminal = false;
  // Content of a file whose name is the argument of the option before it ("--process"); empty: there is none.
  std::string input_option;
  std::string input;
};

class RuntimeCommandObserver {
 public:
  virtual ~RuntimeCommandObserver() = default;
  // The command has run into its time limit; it has been killed, and its end follows.
  virtual void on_command_timeout() = 0;
};

class RuntimeCommand {
 public:
  RuntimeCommand(EventLoop& loop, OrphanEnds& orphans, RuntimeCommandObserver& observer);
  ~RuntimeCommand();

  // `number` is unique among the commands of the bundle.
  // Failure, which is result(), too: it was not started, and nothing is left.
  std::optional<Failure> start(const OciRuntime& runtime, const RuntimeOrders& orders, uint64_t number);
  void kill();
  // True: it was this one that has ended; result() says how.
  bool on_reaped(const siginfo_t& info);
  bool running() const { return pid_ != 0; }

  // After its end. The runtime's own words when it failed.
  const std::optional<Failure>& result() const { return result_; }
  // What was to be started, or its working directory, is not there or not what it has to be.
  bool program_at_fault() const { return program_at_fault_; }
  // By SIGKILL, and not for its time limit.
  bool was_killed() const { return was_killed_; }
  // Of the program that it has started, in the monitor's PID namespace.
  pid_t program() const { return program_; }
  // When the program has ended already: how.
  const std::optional<siginfo_t>& program_end() const { return program_end_; }
  // The terminal's master that the runtime has sent.
  UniqueFd take_terminal();

 private:
  void on_time();
  void take_result(const siginfo_t& info);
  std::string file(const char* name) const;
  std::optional<Failure> spawn(const OciRuntime& runtime, const RuntimeOrders& orders);
  std::optional<Failure> write_input(const RuntimeOrders& orders);
  std::optional<Failure> listen_for_terminal();
  void remove_files();

  EventLoop& loop_;
  OrphanEnds& orphans_;
  RuntimeCommandObserver& observer_;
  Timer<RuntimeCommand, &RuntimeCommand::on_time> timer_;
  std::string name_;     // of the runtime and the command, for errors
  std::string bundle_;
  std::string program_name_;  // what it is to start, and where
  std::string directory_;
  std::string number_;
  bool starts_program_ = false;
  bool timed_out_ = false;
  bool was_killed_ = false;
  bool program_at_fault_ = false;
  ChildLink channel_;
  UniqueFd terminal_listener_;
  pid_t pid_ = 0;
  int32_t host_pid_ = 0;
  pid_t program_ = 0;
  std::optional<siginfo_t> program_end_;
  std::optional<Failure> result_;
};

}  // namespace berth
