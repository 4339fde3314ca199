// What the monitor answers and tells: encoded, numbers as in monitor.proto.
#include "monitor/messages.h"

namespace berth {
namespace {

// Fields of FromMonitor and of Reply.
constexpr uint32_t kReply = 1;
constexpr uint32_t kContainerExit = 2;
constexpr uint32_t kOutOfMemory = 3;
constexpr uint32_t kExecOutput = 4;
constexpr uint32_t kExecStarted = 40;
constexpr uint32_t kLogDropped = 51;
constexpr uint32_t kContainerStarted = 52;
constexpr uint32_t kReplyId = 1;
constexpr uint32_t kReplyError = 2;
constexpr uint32_t kReplyHello = 3;
constexpr uint32_t kReplyCreate = 4;
constexpr uint32_t kReplyStart = 5;
constexpr uint32_t kReplyExec = 6;
constexpr uint32_t kReplyState = 7;
constexpr uint32_t kReplyAttach = 50;

std::string wrap(uint32_t kind, const WireWriter& message) {
  WireWriter outer;
  outer.message(kind, message);
  return outer.data();
}

std::string encode_reply(uint64_t request, uint32_t field, const WireWriter& result) {
  WireWriter reply;
  reply.number(kReplyId, request);
  reply.message(field, result);
  return wrap(kReply, reply);
}

WireWriter error_message(const Failure& failure) {
  WireWriter message;
  message.number(1, static_cast<uint32_t>(failure.kind));
  message.bytes(2, failure.error.call);
  message.signed_number(3, failure.error.errno_value);
  message.bytes(4, failure.error.subject);
  message.bytes(5, failure.message);
  return message;
}

WireWriter exit_message(const ContainerExit& exit) {
  WireWriter message;
  message.bytes(1, exit.id);
  message.signed_number(2, exit.exit_code);
  message.signed_number(3, exit.signal);
  message.signed_number(4, exit.started_at);
  message.signed_number(5, exit.finished_at);
  message.number(6, exit.oom_killed ? 1 : 0);
  if (exit.start_error) message.message(7, error_message(*exit.start_error));
  return message;
}

}  // namespace

std::string encode_done(uint64_t request) {
  WireWriter reply;
  reply.number(kReplyId, request);
  return wrap(kReply, reply);
}

std::string encode_failure(uint64_t request, const Failure& failure) {
  return encode_reply(request, kReplyError, error_message(failure));
}

std::string encode_hello_reply(uint64_t request, const HelloReply& reply) {
  WireWriter message;
  message.number(1, reply.version);
  message.bytes(2, reply.sandbox_id);
  message.signed_number(3, reply.pid);
  return encode_reply(request, kReplyHello, message);
}

std::string encode_create_reply(uint64_t request, int32_t pid) {
  WireWriter message;
  message.signed_number(1, pid);
  return encode_reply(request, kReplyCreate, message);
}

std::string encode_start_reply(uint64_t request, int64_t started_at, int32_t pid) {
  WireWriter message;
  message.signed_number(1, started_at);
  message.signed_number(2, pid);
  return encode_reply(request, kReplyStart, message);
}

std::string encode_exec_reply(uint64_t request, const ExecReply& reply) {
  WireWriter message;
  message.signed_number(1, reply.exit_code);
  message.number(2, reply.timed_out ? 1 : 0);
  message.number(3, reply.dropped_bytes);
  return encode_reply(request, kReplyExec, message);
}

std::string encode_state_reply(uint64_t request, const std::vector<ContainerState>& containers) {
  WireWriter state;
  for (const ContainerState& container : containers) {
    WireWriter message;
    message.bytes(1, container.id);
    message.number(2, static_cast<uint32_t>(container.phase));
    message.signed_number(3, container.pid);
    message.signed_number(4, container.started_at);
    if (container.exit) message.message(5, exit_message(*container.exit));
    message.number(6, container.starting ? 1 : 0);
    state.message(1, message);
  }
  return encode_reply(request, kReplyState, state);
}

std::string encode_attach_reply(uint64_t request, const StreamNumbers& streams) {
  WireWriter message;
  message.number(2, streams.stdin);
  message.number(3, streams.stdout);
  message.number(4, streams.stderr);
  message.number(5, streams.terminal);
  return encode_reply(request, kReplyAttach, message);
}

std::string encode_started_event(std::string_view id, int64_t started_at, int32_t pid) {
  WireWriter message;
  message.bytes(1, id);
  message.signed_number(2, started_at);
  message.signed_number(3, pid);
  return wrap(kContainerStarted, message);
}

std::string encode_exit_event(const ContainerExit& exit) { return wrap(kContainerExit, exit_message(exit)); }

std::string encode_out_of_memory_event(std::string_view id, uint64_t kills) {
  WireWriter message;
  message.bytes(1, id);
  message.number(2, kills);
  return wrap(kOutOfMemory, message);
}

std::string encode_log_dropped_event(std::string_view id, const LogDropped& dropped) {
  WireWriter message;
  message.bytes(1, id);
  message.number(2, dropped.bytes);
  message.signed_number(3, dropped.errno_value);
  message.number(4, dropped.begins ? 1 : 0);
  return wrap(kLogDropped, message);
}

std::string encode_exec_started_event(uint64_t request, const StreamNumbers& streams) {
  WireWriter message;
  message.number(1, request);
  message.number(2, streams.stdin);
  message.number(3, streams.stdout);
  message.number(4, streams.stderr);
  message.number(5, streams.terminal);
  return wrap(kExecStarted, message);
}

std::string encode_exec_output(uint64_t request, uint32_t stream, std::string_view data) {
  WireWriter message;
  message.number(1, request);
  message.number(2, stream);
  message.bytes(3, data);
  return wrap(kExecOutput, message);
}

std::string encode_exit(const ContainerExit& exit) { return exit_message(exit).data(); }

}  // namespace berth
