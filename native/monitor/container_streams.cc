// A container's own streams, and those who attach to them: see container.h.
#include <fcntl.h>

#include <cerrno>
#include <utility>

#include "monitor/container.h"
#include "monitor/program.h"
#include "monitor/user_namespace.h"

namespace berth {

std::optional<Failure> Container::make_streams(ChildStreams& streams) {
  if (terminal_) return std::nullopt;
  const uid_t owner = host_.users().uids.to_host(plan_->process.uid);
  if ((plan_->stdin && !make_stream(streams.in, stdin_, owner)) || !make_stream(stdout_, streams.out, owner) ||
      !make_stream(stderr_, streams.err, owner) || fcntl(stdout_.get(), F_SETFL, O_NONBLOCK) != 0 ||
      fcntl(stderr_.get(), F_SETFL, O_NONBLOCK) != 0) {
    return failure(ErrorKind::kInternal, last_error("pipe2"));
  }
  return std::nullopt;
}

void Container::read_output() {
  host_.logs().read_from(log_, std::move(stdout_), std::move(stderr_));
}

void Container::attach(const Caller& caller, const Attach& request) {
  if (phase_ != Phase::kCreated && phase_ != Phase::kStarting && phase_ != Phase::kRunning) {
    return host_.server().fail(
        caller, failure(ErrorKind::kNotRunning, "attach to the container", id_, "the container is not running"));
  }
  const bool with_input = request.stdin && stdin_;
  std::array<UniqueFd, Attachment::kStreams> peers;
  auto attachment = Attachment::make(with_input, {request.stdout, request.stderr && !terminal_}, peers);
  if (attachment == nullptr) {
    return host_.server().fail(caller, failure(ErrorKind::kInternal, last_error("socketpair", id_)));
  }
  std::vector<UniqueFd> descriptors;
  const auto number = [&descriptors](UniqueFd fd) {
    if (!fd) return 0U;
    descriptors.push_back(std::move(fd));
    return static_cast<uint32_t>(descriptors.size());
  };
  StreamNumbers numbers;
  // With a terminal also for its size alone.
  if (with_input || (terminal_ && stdin_)) {
    UniqueFd input(fcntl(stdin_.get(), F_DUPFD_CLOEXEC, 0));
    if (!input) return host_.server().fail(caller, failure(ErrorKind::kInternal, last_error("fcntl", id_)));
    (terminal_ ? numbers.terminal : numbers.stdin) = number(std::move(input));
  }
  numbers.stdout = number(std::move(peers[0]));
  numbers.stderr = number(std::move(peers[1]));
  host_.logs().attach(log_, std::move(attachment));
  host_.server().send(caller.connection, encode_attach_reply(caller.request, numbers), std::move(descriptors));
}

void Container::on_log_dropped(const LogDropped& dropped) {
  host_.server().broadcast(encode_log_dropped_event(id_, dropped));
}

void Container::on_attached_input_ended() {
  if (stdin_once_ && !terminal_) stdin_.reset();
}

}  // namespace berth
