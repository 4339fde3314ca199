#include "monitor/foreign_runtime.h"

#include <utility>

#include "monitor/monitor_log.h"

namespace berth {

void ForeignRuntime::run(RuntimeOrders orders, Done done) {
  waiting_.push_back({std::move(orders), std::move(done)});
  if (!command_) begin();
}

void ForeignRuntime::begin() {
  RuntimeOrders orders = std::move(waiting_.front().orders);
  done_ = std::move(waiting_.front().done);
  waiting_.pop_front();
  orders.container_id = container_id_;
  for (int* stream : {&orders.stdin_fd, &orders.stdout_fd, &orders.stderr_fd}) {
    if (*stream < 0) *stream = null_fd_;
  }
  command_ = std::make_unique<RuntimeCommand>(loop_, orphans_, *this);
  if (command_->start(runtime_, orders, next_number())) end();
}

void ForeignRuntime::end() {
  const std::unique_ptr<RuntimeCommand> ended = std::move(command_);
  const Done done = std::move(done_);
  done(*ended);
  if (!command_ && !waiting_.empty()) begin();
}

void ForeignRuntime::clean_up(std::function<void()> done) {
  cleanup_ = Cleanup::kRunning;
  RuntimeOrders orders;
  orders.command = {"delete", "--force"};
  run(std::move(orders), [this, done = std::move(done)](RuntimeCommand& command) {
    cleanup_ = Cleanup::kDone;
    if (command.result()) monitor_log(container_id_, command.result()->message);
    done();
  });
}

void ForeignRuntime::kill() {
  if (command_ && cleanup_ != Cleanup::kRunning) command_->kill();
}

bool ForeignRuntime::on_reaped(const siginfo_t& info) {
  if (!command_ || !command_->on_reaped(info)) return false;
  end();
  return true;
}

}  // namespace berth
