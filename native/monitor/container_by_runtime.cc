// The part of a container's life that an OCI runtime's command line does for it: see foreign_runtime.h.
#include <fcntl.h>

#include <cerrno>
#include <utility>

#include "monitor/cgroup.h"
#include "monitor/container.h"
#include "monitor/host_pid.h"

namespace berth {

std::optional<Failure> Container::create_by_runtime() {
  const Plan& plan = *plan_;
  ChildStreams streams;
  if (auto failed = make_streams(streams)) return failed;
  std::vector<int> mount_fds;
  std::vector<UniqueFd> shm_mounts;
  if (auto failed = collect_mounts(mount_fds, shm_mounts)) return failed;
  UniqueFd cgroup2;
  if (joins_cgroup2_by_clone()) {
    cgroup2.reset(open(cgroup_.cgroup2_directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!cgroup2) return failure(ErrorKind::kInternal, last_error("open the cgroup", cgroup_.cgroup2_directory));
  }
  oom_kills_at_start_ = read_oom_kills(cgroup_.oom_kill_file);
  RuntimeOrders orders;
  orders.command = {"create", "--bundle", "."};
  orders.stdin_fd = streams.in.get();
  orders.stdout_fd = streams.out.get();
  orders.stderr_fd = streams.err.get();
  orders.mounts.emplace_back(descriptors_[plan.root_fd - 1].get(), plan.oci_runtime.bundle + "/rootfs");
  for (size_t i = 0; i < mount_fds.size(); ++i) {
    orders.mounts.emplace_back(mount_fds[i], plan.mounts[i].destination);
  }
  if (plan.pid_namespace == PidNamespace::kPod || plan.pid_namespace == PidNamespace::kTarget) {
    int pidfd = -1;
    if (auto failed = host_.find_pid_namespace(plan, pidfd)) return failed;
    orders.pid_namespace = "/proc/" + std::to_string(host_pid_of(pidfd)) + "/ns/pid";
  }
  orders.cgroup2_fd = cgroup2.get();
  orders.process = &plan.process;
  orders.starts_program = true;
  orders.terminal = terminal_;
  foreign_->run(std::move(orders), [this](RuntimeCommand& command) { on_runtime_created(command); });
  return std::nullopt;
}

void Container::on_runtime_created(RuntimeCommand& command) {
  if (command.result()) {
    // Whatever it has started by then.
    kill_processes();
    if (!command.program_at_fault() || killed_) return fail_create(*command.result());
    return foreign_->clean_up([this, fault = *command.result()] { on_unstartable(fault); });
  }
  if (command.program_end()) {
    return fail_create(failure(ErrorKind::kInternal, "create the container", id_, "its init has ended"));
  }
  adopt_init(command.program());
  if (killed_) return kill_processes();
  if (terminal_) {
    stdout_ = command.take_terminal();
    if (!stdout_) {
      failure_ = failure(ErrorKind::kInternal, "create the container", id_, "the runtime has sent no terminal");
      return kill_processes();
    }
    stdin_.reset(fcntl(stdout_.get(), F_DUPFD_CLOEXEC, 0));
  }
  on_ready();
}

// The CRI's users know a program that cannot be executed from the start: it is kept until then, as one without an init.
void Container::on_unstartable(const Failure& fault) {
  if (killed_) return fail_create(why_not_created());
  failure_ = fault;
  on_ready();
}

void Container::on_runtime_started(RuntimeCommand& command) {
  const std::optional<siginfo_t> ended = std::exchange(ended_at_start_, std::nullopt);
  if (phase_ != Phase::kStarting) return;
  if (command.result() && killed_) {
    failure_ = failure(ErrorKind::kNotRunning, "start the container", id_, "it was killed meanwhile");
  } else if (command.result()) {
    failure_ = command.result();
  } else {
    on_running();
  }
  if (ended) return on_init_ended(*ended);
  if (failure_) kill_processes();
}

void Container::update(const Caller& caller, std::string resources) {
  if (!foreign_) {
    return host_.server().fail(caller, failure(ErrorKind::kInvalid, "update the container", id_,
                                               "it has no OCI runtime that had to know of it"));
  }
  const auto refused = [this] {
    return failure(ErrorKind::kNotRunning, "update the container", id_, "the container is not running");
  };
  const auto takes_updates = [this] {
    return (phase_ == Phase::kCreated && !is_unstartable()) || phase_ == Phase::kRunning;
  };
  if (!takes_updates()) return host_.server().fail(caller, refused());
  RuntimeOrders orders;
  orders.command = {"update"};
  orders.input_option = "--resources";
  orders.input = std::move(resources);
  foreign_->run(std::move(orders), [this, caller, refused, takes_updates](RuntimeCommand& command) {
    if (command.result() && (killed_ || !takes_updates())) return host_.server().fail(caller, refused());
    if (command.result()) return host_.server().fail(caller, *command.result());
    host_.server().send(caller.connection, encode_done(caller.request));
  });
}

}  // namespace berth
