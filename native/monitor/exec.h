// One exec in a running container: its processes, output, time limit and end.
//
// Two clones. The first is in the monitor's namespaces with nearly all descriptors closed, and joins the cgroups and the
// container's namespaces; the second, cloned inside as the monitor's own child, becomes the program. So no process of the
// container ever sees one that has the host's root or the monitor's descriptors.
#pragma once

#include <signal.h>
#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "common/unique_fd.h"
#include "monitor/cgroup.h"
#include "monitor/child_channel.h"
#include "monitor/container.h"
#include "monitor/event_loop.h"
#include "monitor/messages.h"
#include "monitor/server.h"

namespace berth {

class ExecSession;
struct UserNamespace;

class ExecHost {
 public:
  virtual ~ExecHost() = default;
  virtual EventLoop& loop() = 0;
  virtual Server& server() = 0;
  virtual int null_fd() const = 0;
  virtual const UserNamespace& users() const = 0;
  virtual CgroupLeftovers& cgroup_leftovers() = 0;
  virtual OrphanEnds& orphan_ends() = 0;
  // The session is to be destroyed; it is not touched any more.
  virtual void forget(ExecSession& session) = 0;
};

class ExecSession final : public Disposable, public RuntimeCommandObserver {
 public:
  ExecSession(ExecHost& host, const Caller& caller);
  ~ExecSession() override;

  // Of a running container. A failure is the answer; nothing is left then.
  std::optional<Failure> start(Container& container, const Exec& exec);
  // Kills everything; the answer follows.
  void cancel();
  // Sends it to the program's process group, when the program is there.
  void signal(int number);
  // Nobody waits for the answer any more.
  void abandon();
  // The connection can take output again.
  void resume();
  bool on_reaped(const siginfo_t& info);
  void read_reports() { on_report(0); }

  const Caller& caller() const { return caller_; }

 private:
  struct Output {
    UniqueFd fd;
    uint32_t stream = 0;
    bool watched = false;
  };

  void on_report(uint32_t events);
  bool make_streams(const Exec& exec, UniqueFd& in, UniqueFd& out, UniqueFd& err);
  void take_terminal(UniqueFd terminal);
  void hand_streams_over(bool terminal);
  void on_command_timeout() override {}
  void drop_cgroup();
  // In a container of an OCI runtime.
  std::optional<Failure> start_by_runtime(Container& container, const Exec& exec, UniqueFd in, UniqueFd out,
                                          UniqueFd err);
  void on_runtime_ended();
  void on_stdout(uint32_t) { read_while_room(stdout_, on_stdout_); }
  void on_stderr(uint32_t) { read_while_room(stderr_, on_stderr_); }
  void on_timeout();
  void on_overdue();
  void on_linger() { end(); }

  void watch(Output& output, EventSource& source);
  void close(Output& output, EventSource& source);
  void read_while_room(Output& output, EventSource& source);
  // False: it has ended.
  bool read_once(Output& output, EventSource& source);
  void drain(Output& output, EventSource& source);
  void kill_tree();
  void fail_without_program();
  void answer();
  void end();
  void close_channel();
  void send_early_signal();
  void release();

  ExecHost& host_;
  const Caller caller_;
  uint64_t output_left_ = 0;  // UINT64_MAX: no limit
  ExecReply reply_;
  std::optional<Failure> failure_;
  bool answered_ = false;
  bool cancelled_ = false;

  ExecCgroup cgroup_;
  pid_t helper_pid_ = 0;  // the first clone
  pid_t pid_ = 0;         // the program
  int early_signal_ = 0;  // one that came before it was executed
  std::unique_ptr<RuntimeCommand> command_;  // an OCI runtime's, in place of the first clone
  UniqueFd container_init_;                  // pidfd, with such a command
  bool terminal_ = false;
  bool streams_ = false;  // they are the caller's, who reads and writes them
  ChildLink channel_;
  UniqueFd stdin_;
  Output stdout_;
  Output stderr_;
  Notifier<ExecSession, &ExecSession::on_report> on_report_{*this};
  Notifier<ExecSession, &ExecSession::on_stdout> on_stdout_{*this};
  Notifier<ExecSession, &ExecSession::on_stderr> on_stderr_{*this};
  Timer<ExecSession, &ExecSession::on_timeout> timeout_;
  Timer<ExecSession, &ExecSession::on_overdue> overdue_;
  Timer<ExecSession, &ExecSession::on_linger> linger_;
};

}  // namespace berth
