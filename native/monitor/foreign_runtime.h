// The OCI runtime of one container: its commands one after the other, and its cleaning up.
#pragma once

#include <signal.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>

#include "monitor/event_loop.h"
#include "monitor/messages.h"
#include "monitor/runtime_command.h"

namespace berth {

class ForeignRuntime final : public RuntimeCommandObserver {
 public:
  using Done = std::function<void(RuntimeCommand& command)>;

  ForeignRuntime(EventLoop& loop, OrphanEnds& orphans, int null_fd, OciRuntime runtime, std::string container_id)
      : loop_(loop),
        orphans_(orphans),
        null_fd_(null_fd),
        runtime_(std::move(runtime)),
        container_id_(std::move(container_id)) {}

  // Runs a command of the container's when those before it have ended; the id and missing streams are filled in. The
  // descriptors in the orders are needed only by the first command, which begins at once.
  void run(RuntimeOrders orders, Done done);
  // `delete --force`, once: what the runtime keeps of the container goes.
  void clean_up(std::function<void()> done);
  bool cleaned() const { return cleanup_ == Cleanup::kDone; }
  bool cleaning() const { return cleanup_ == Cleanup::kRunning; }
  // Of the command that runs; not of the cleaning up.
  void kill();
  bool on_reaped(const siginfo_t& info);

  const OciRuntime& runtime() const { return runtime_; }
  const std::string& container_id() const { return container_id_; }
  uint64_t next_number() { return ++last_number_; }

 private:
  enum class Cleanup { kNone, kRunning, kDone };
  struct Waiting {
    RuntimeOrders orders;
    Done done;
  };

  void on_command_timeout() override {}
  void begin();
  void end();

  EventLoop& loop_;
  OrphanEnds& orphans_;
  const int null_fd_;
  const OciRuntime runtime_;
  const std::string container_id_;
  uint64_t last_number_ = 0;
  Cleanup cleanup_ = Cleanup::kNone;
  std::unique_ptr<RuntimeCommand> command_;
  Done done_;
  std::deque<Waiting> waiting_;
};

}  // namespace berth
