// One container: its init's life from the call that creates it to the exit file, its streams and its log.
//
//   opening log → building → created → starting → running → ending → exited
//        └──────────┴─ (failed: forgotten)   └──────────────┴─▶ ending: the init has ended, its last output is awaited
#pragma once

#include <signal.h>
#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/unique_fd.h"
#include "monitor/cgroup.h"
#include "monitor/child_channel.h"
#include "monitor/cri_log.h"
#include "monitor/event_loop.h"
#include "monitor/foreign_runtime.h"
#include "monitor/messages.h"
#include "monitor/oom_watch.h"
#include "monitor/server.h"

namespace berth {

class Container;
struct UserNamespace;

// The child's ends of its streams.
struct ChildStreams {
  UniqueFd in;
  UniqueFd out;
  UniqueFd err;
};

// What a container needs of its pod.
class ContainerHost {
 public:
  virtual ~ContainerHost() = default;
  virtual EventLoop& loop() = 0;
  virtual Server& server() = 0;
  virtual LogWriter& logs() = 0;
  virtual const std::string& directory() const = 0;
  // The host's /dev/null, for reading and writing.
  virtual int null_fd() const = 0;
  // The pod's mount namespace, which a container's begins as a copy of.
  virtual int mounts_fd() const = 0;
  virtual const UserNamespace& users() const = 0;
  // A detached mount of the pod's /dev/shm.
  virtual std::optional<Failure> open_shm(UniqueFd& mount) = 0;
  // pidfd of a process in the PID namespace that the plan names (POD, TARGET).
  virtual std::optional<Failure> find_pid_namespace(const Plan& plan, int& pidfd) = 0;
  virtual OrphanEnds& orphan_ends() = 0;
  // The container has ended, and everybody has been told.
  virtual void on_container_ended(Container& container) = 0;
  // The container is to be destroyed; it is not touched any more.
  virtual void forget(Container& container) = 0;
};

// Of one whose program could not be executed.
constexpr int kStartFailedExit = 128;

class Container final : public LogObserver, public Disposable {
 public:
  enum class Phase { kOpeningLog, kBuilding, kCreated, kStarting, kRunning, kEnding, kExited };

  Container(ContainerHost& host, std::string id);
  ~Container() override;

  // Each answers its caller, now or later.
  void create(const Caller& caller, Plan plan, std::vector<UniqueFd> descriptors);
  // After a pause for hooks.
  void resume(const Caller& caller);
  void start(const Caller& caller);
  void signal(const Caller& caller, int number, bool all);
  void reopen_log(const Caller& caller);
  void attach(const Caller& caller, const Attach& request);
  void remove(const Caller& caller);
  void update(const Caller& caller, std::string resources);

  // SIGKILL to everything of it.
  void kill_all();
  // True: the process was this container's (its init, or what built it).
  bool on_reaped(const siginfo_t& info);
  // Reads what the children have reported; before their ends are looked at.
  void read_reports() { on_report(0); }

  const std::string& id() const { return id_; }
  Phase phase() const { return phase_; }
  bool alive() const { return phase_ != Phase::kExited; }
  // Of the init; -1 when there is none yet.
  int pidfd() const { return pidfd_.get(); }
  const Cgroup& cgroup() const { return cgroup_; }
  const TasksFiles& tasks() const { return tasks_; }
  bool in_host_pid_namespace() const { return in_host_pid_namespace_; }
  uint64_t& exec_counter() { return exec_counter_; }
  // The OCI runtime that made it; null: it is the monitor's own.
  ForeignRuntime* foreign() const { return foreign_.get(); }
  // Both hierarchies are there: an OCI runtime sees v1's alone, and is put into cgroup2's by its clone.
  bool joins_cgroup2_by_clone() const { return !cgroup_.tasks_files.empty() && !cgroup_.cgroup2_directory.empty(); }
  ContainerState state() const;

 private:
  void on_log_opened(int errno_value) override;
  void on_log_finished() override;
  void on_attached_input_ended() override;
  void on_log_dropped(const LogDropped& dropped) override;
  void on_report(uint32_t events);
  void on_drain_time();
  void on_out_of_memory(uint64_t kills);

  std::optional<Failure> spawn();
  std::optional<Failure> collect_mounts(std::vector<int>& mount_fds, std::vector<UniqueFd>& shm_mounts);
  std::optional<Failure> create_by_runtime();
  void on_runtime_created(RuntimeCommand& command);
  void on_runtime_started(RuntimeCommand& command);
  void on_unstartable(const Failure& fault);
  // Created, and its runtime has found that its program cannot be executed: there is no init.
  bool is_unstartable() const { return foreign_ && pid_ == 0 && failure_.has_value(); }
  void end_unstarted();
  void on_ready();
  std::optional<Failure> make_streams(ChildStreams& streams);
  void adopt_init(pid_t pid);
  void read_output();
  void on_hello(pid_t sender);
  void answer_creator(int32_t host_pid);
  void on_running();
  // The set-up has failed once everything that could become the init is gone.
  void fail_without_init();
  Failure why_not_created() const;
  // The program's process has ended before it could make itself known.
  void on_program_lost();
  bool has_program() const { return !joins_at_start_ || entered_; }
  void on_init_ended(const siginfo_t& info);
  void end_with(int exit_code, int signal);
  void conclude();
  void fail_create(const Failure& failure);
  void kill_processes();
  // Whoever is in it beside its init.
  void kill_others();
  void answer_removals();
  void close_channel();

  ContainerHost& host_;
  const std::string id_;
  Phase phase_ = Phase::kOpeningLog;
  // From the call until the clone, which takes a copy of them along.
  std::optional<Plan> plan_;
  std::vector<UniqueFd> descriptors_;
  Cgroup cgroup_;
  TasksFiles tasks_;
  bool own_pid_namespace_ = true;
  bool in_host_pid_namespace_ = false;
  bool terminal_ = false;
  bool stdin_once_ = false;
  bool killed_ = false;  // all of it was: it gets no further than it is
  bool paused_ = false;  // while building: its creator was answered, and has hooks run

  std::optional<Caller> creator_;
  std::optional<Caller> starter_;
  std::vector<Caller> reopeners_;
  std::vector<Caller> removers_;
  std::optional<Failure> failure_;  // of the set-up or of the exec, as the child reported it

  ChildLink channel_;
  Notifier<Container, &Container::on_report> on_report_{*this};
  // In a PID namespace that it shares with others the container is a process outside of it until its start; the program is
  // cloned into the namespace.
  bool joins_at_start_ = false;
  bool hooks_at_start_ = false;  // such a program waits for its number on the host, for its startContainer hooks
  bool entered_ = false;
  pid_t builder_pid_ = 0;  // what has cloned, or will clone, the init (in a user namespace) or the program
  pid_t pid_ = 0;          // of the init, in the monitor's PID namespace
  int32_t host_pid_ = 0;
  UniqueFd pidfd_;

  ContainerLog* log_ = nullptr;
  bool log_finished_ = false;
  Timer<Container, &Container::on_drain_time> drain_timer_;
  bool drain_forced_ = false;
  UniqueFd stdin_;  // the other end of its standard input (or its terminal), kept for those who attach
  UniqueFd stdout_;
  UniqueFd stderr_;

  OomWatch<Container, &Container::on_out_of_memory> oom_watch_;
  uint64_t oom_kills_at_start_ = 0;
  uint64_t exec_counter_ = 0;
  int64_t started_at_ = 0;
  ContainerExit exit_;

  std::unique_ptr<ForeignRuntime> foreign_;
  // The init has ended while the runtime's `start` was not done.
  std::optional<siginfo_t> ended_at_start_;
};

}  // namespace berth
