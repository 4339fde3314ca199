// The pod: its containers, execs and PID namespace, and what each call of the agent means to them.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/unique_fd.h"
#include "monitor/cgroup.h"
#include "monitor/container.h"
#include "monitor/cri_log.h"
#include "monitor/event_loop.h"
#include "monitor/exec.h"
#include "monitor/pod_setup.h"
#include "monitor/reaper.h"
#include "monitor/server.h"
#include "monitor/user_namespace.h"

namespace berth {

class Pod final : public CallHandler, public ContainerHost, public ExecHost {
 public:
  Pod(std::string sandbox_id, std::string directory, UserNamespace users);

  // Takes the listening socket over. Failure: why the monitor cannot work.
  std::optional<Failure> open(UniqueFd listener);
  // Returns after Shutdown.
  void run() { loop_.run(); }

 private:
  // CallHandler
  void on_call(const Caller& caller, const ToMonitor& call, std::vector<UniqueFd> descriptors) override;
  void on_disconnect(uint64_t connection) override;
  void on_writable(uint64_t connection) override;

  // ContainerHost and ExecHost
  EventLoop& loop() override { return loop_; }
  Server& server() override { return server_; }
  LogWriter& logs() override { return logs_; }
  const std::string& directory() const override { return directory_; }
  int null_fd() const override { return mounts_.null_fd(); }
  int mounts_fd() const override { return mounts_.namespace_fd(); }
  const UserNamespace& users() const override { return users_; }
  CgroupLeftovers& cgroup_leftovers() override;
  std::optional<Failure> open_shm(UniqueFd& mount) override { return mounts_.open_shm(mount); }
  OrphanEnds& orphan_ends() override { return orphan_ends_; }
  std::optional<Failure> find_pid_namespace(const Plan& plan, int& pidfd) override;
  void on_container_ended(Container& container) override;
  void forget(Container& container) override;
  void forget(ExecSession& session) override;

  std::optional<Failure> set_up(std::string_view body);
  void create_container(const Caller& caller, std::string_view body, std::vector<UniqueFd> descriptors);
  void exec(const Caller& caller, std::string_view body);
  void cancel_exec(const Caller& caller, std::string_view body);
  void get_state(const Caller& caller);
  void shut_down(const Caller& caller);
  void stop_when_all_ended();
  Container* find(std::string_view id) const;
  // Answers the caller when there is none.
  Container* find_for(const Caller& caller, std::string_view body);

  void on_child_signal(uint32_t events);
  void reap(const siginfo_t& info);
  void read_reports();
  void on_sweep_time();

  const std::string directory_;
  const UserNamespace users_;
  EventLoop loop_;
  Server server_;
  LogWriter logs_;
  UniqueFd child_signal_;
  Notifier<Pod, &Pod::on_child_signal> on_child_signal_{*this};
  CgroupLeftovers leftovers_;
  Timer<Pod, &Pod::on_sweep_time> sweep_timer_{loop_, *this};
  PodMounts mounts_;
  PodInit pod_init_;
  OrphanEnds orphan_ends_;
  std::vector<std::unique_ptr<Container>> containers_;
  std::vector<std::unique_ptr<ExecSession>> execs_;
  std::vector<Caller> stoppers_;
};

}  // namespace berth
