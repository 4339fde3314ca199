#include "monitor/messages.h"

namespace berth {

Failure failure(ErrorKind kind, std::string_view step, std::string_view subject, std::string_view message) {
  return Failure{kind, SysError{std::string(step), 0, std::string(subject)}, std::string(message)};
}

Failure failure(ErrorKind kind, SysError error) { return Failure{kind, std::move(error), {}}; }

// ---- decoding: one switch a message, numbers as in monitor.proto ----

namespace {

bool decode(std::string_view bytes, Capabilities& message) {
  WireReader reader(bytes);
  while (reader.next()) {
    switch (reader.field()) {
      case 1: message.bounding = reader.number(); break;
      case 2: message.effective = reader.number(); break;
      case 3: message.inheritable = reader.number(); break;
      case 4: message.permitted = reader.number(); break;
      case 5: message.ambient = reader.number(); break;
    }
  }
  return reader.ok();
}

bool decode(std::string_view bytes, Rlimit& message) {
  WireReader reader(bytes);
  while (reader.next()) {
    switch (reader.field()) {
      case 1: message.resource = reader.number32(); break;
      case 2: message.soft = reader.number(); break;
      case 3: message.hard = reader.number(); break;
    }
  }
  return reader.ok();
}

bool decode(std::string_view bytes, Process& message) {
  WireReader reader(bytes);
  bool parts_ok = true;
  while (reader.next()) {
    switch (reader.field()) {
      case 1: message.args.push_back(reader.text()); break;
      case 2: message.env.push_back(reader.text()); break;
      case 3: message.cwd = reader.text(); break;
      case 4: message.uid = reader.number32(); break;
      case 5: message.gid = reader.number32(); break;
      case 6: reader.append_numbers(message.additional_gids); break;
      case 7: message.umask = reader.number32(); break;
      case 8: message.has_umask = reader.boolean(); break;
      case 9: parts_ok &= decode(reader.bytes(), message.capabilities); break;
      case 10: message.no_new_privileges = reader.boolean(); break;
      case 11: message.seccomp_filter = reader.text(); break;
      case 12: message.seccomp_flags = reader.number32(); break;
      case 13: message.terminal = reader.boolean(); break;
      case 14: message.terminal_columns = reader.number32(); break;
      case 15: message.terminal_rows = reader.number32(); break;
      case 16: message.has_oom_score_adj = reader.boolean(); break;
      case 17: message.oom_score_adj = static_cast<int32_t>(reader.zigzag()); break;
      case 18: parts_ok &= decode(reader.bytes(), message.rlimits.emplace_back()); break;
      case 19: message.apparmor_profile = reader.text(); break;
      case 20: message.selinux_label = reader.text(); break;
    }
  }
  return reader.ok() && parts_ok;
}

bool decode(std::string_view bytes, Mount& message) {
  WireReader reader(bytes);
  while (reader.next()) {
    switch (reader.field()) {
      case 1: message.destination = reader.text(); break;
      case 2: message.source_fd = reader.number32(); break;
      case 3: message.type = reader.text(); break;
      case 4: message.source = reader.text(); break;
      case 5: message.options.push_back(reader.text()); break;
      case 6: message.attributes = reader.number(); break;
      case 7: message.recursive_attributes = reader.boolean(); break;
      case 8: message.propagation = reader.number(); break;
      case 9: message.is_file = reader.boolean(); break;
      case 10: message.tmpcopyup = reader.boolean(); break;
    }
  }
  return reader.ok();
}

bool decode(std::string_view bytes, Device& message) {
  WireReader reader(bytes);
  while (reader.next()) {
    switch (reader.field()) {
      case 1: message.path = reader.text(); break;
      case 2: message.type = reader.number32(); break;
      case 3: message.major = reader.number32(); break;
      case 4: message.minor = reader.number32(); break;
      case 5: message.mode = reader.number32(); break;
      case 6: message.uid = reader.number32(); break;
      case 7: message.gid = reader.number32(); break;
      case 8: message.of_host = reader.boolean(); break;
    }
  }
  return reader.ok();
}

bool decode(std::string_view bytes, Cgroup& message) {
  WireReader reader(bytes);
  while (reader.next()) {
    switch (reader.field()) {
      case 1: message.tasks_files.push_back(reader.text()); break;
      case 2: message.cgroup2_directory = reader.text(); break;
      case 3: message.oom_kill_file = reader.text(); break;
    }
  }
  return reader.ok();
}

bool decode(std::string_view bytes, Log& message) {
  WireReader reader(bytes);
  while (reader.next()) {
    switch (reader.field()) {
      case 1: message.path = reader.text(); break;
      case 2: message.max_line_bytes = reader.number32(); break;
      case 50: message.bytes_per_second = reader.number(); break;
    }
  }
  return reader.ok();
}

bool decode(std::string_view bytes, Hook& message) {
  WireReader reader(bytes);
  while (reader.next()) {
    switch (reader.field()) {
      case 1: message.path = reader.text(); break;
      case 2: message.args.push_back(reader.text()); break;
      case 3: message.env.push_back(reader.text()); break;
      case 4: message.timeout_ms = reader.number(); break;
    }
  }
  return reader.ok();
}

bool decode(std::string_view bytes, Hooks& message) {
  WireReader reader(bytes);
  bool parts_ok = true;
  while (reader.next()) {
    switch (reader.field()) {
      case 1: message.pause = reader.boolean(); break;
      case 2: parts_ok &= decode(reader.bytes(), message.create_container.emplace_back()); break;
      case 3: parts_ok &= decode(reader.bytes(), message.start_container.emplace_back()); break;
      case 4: message.create_state = reader.text(); break;
      case 5: message.start_state = reader.text(); break;
      case 6: message.bundle = reader.text(); break;
    }
  }
  return reader.ok() && parts_ok;
}

bool decode(std::string_view bytes, OciRuntime& message) {
  WireReader reader(bytes);
  while (reader.next()) {
    switch (reader.field()) {
      case 1: message.path = reader.text(); break;
      case 2: message.arguments.push_back(reader.text()); break;
      case 3: message.bundle = reader.text(); break;
      case 4: message.hidden_mounts.push_back(reader.text()); break;
      case 5: message.timeout_ms = reader.number(); break;
      case 6: message.exec_cgroups = reader.number() != 0; break;
      case 7: message.cpu_tasks_file = reader.text(); break;
    }
  }
  return reader.ok();
}

bool decode(std::string_view bytes, Plan& message) {
  WireReader reader(bytes);
  bool parts_ok = true;
  while (reader.next()) {
    switch (reader.field()) {
      case 1: parts_ok &= decode(reader.bytes(), message.process); break;
      case 2: message.root_fd = reader.number32(); break;
      case 3: message.root_readonly = reader.boolean(); break;
      case 4: message.pid_namespace = static_cast<PidNamespace>(reader.number32()); break;
      case 5: message.pid_target = reader.text(); break;
      case 6: message.cgroup_namespace = reader.boolean(); break;
      case 7: parts_ok &= decode(reader.bytes(), message.mounts.emplace_back()); break;
      case 8: parts_ok &= decode(reader.bytes(), message.devices.emplace_back()); break;
      case 9: message.masked_paths.push_back(reader.text()); break;
      case 10: message.readonly_paths.push_back(reader.text()); break;
      case 11: parts_ok &= decode(reader.bytes(), message.cgroup); break;
      case 12: parts_ok &= decode(reader.bytes(), message.log); break;
      case 13: message.stdin = reader.boolean(); break;
      case 14: message.stdin_once = reader.boolean(); break;
      case 15: message.root_propagation = reader.number32(); break;
      case 16: message.directories.push_back(reader.text()); break;
      case 30: parts_ok &= decode(reader.bytes(), message.oci_runtime); break;
      case 40: parts_ok &= decode(reader.bytes(), message.hooks); break;
    }
  }
  return reader.ok() && parts_ok;
}

bool decode_map_entry(std::string_view bytes, std::pair<std::string, std::string>& entry) {
  WireReader reader(bytes);
  while (reader.next()) {
    switch (reader.field()) {
      case 1: entry.first = reader.text(); break;
      case 2: entry.second = reader.text(); break;
    }
  }
  return reader.ok();
}

}  // namespace

bool decode(std::string_view bytes, ToMonitor& message) {
  WireReader reader(bytes);
  while (reader.next()) {
    const uint32_t field = reader.field();
    if (field == 1) {
      message.id = reader.number();
    } else if (field == 100) {
      message.request_id = reader.bytes();
    } else if (field <= static_cast<uint32_t>(Call::kLast)) {
      message.call = static_cast<Call>(field);
      message.body = reader.bytes();
    }
  }
  return reader.ok();
}

bool decode(std::string_view bytes, Hello& message) {
  WireReader reader(bytes);
  while (reader.next()) {
    switch (reader.field()) {
      case 1: message.oldest_version = reader.number32(); break;
      case 2: message.newest_version = reader.number32(); break;
    }
  }
  return reader.ok();
}

bool decode(std::string_view bytes, SetUpPod& message) {
  WireReader reader(bytes);
  bool parts_ok = true;
  while (reader.next()) {
    switch (reader.field()) {
      case 1: message.hostname = reader.text(); break;
      case 2: parts_ok &= decode_map_entry(reader.bytes(), message.sysctls.emplace_back()); break;
      case 3: message.shm_bytes = reader.number(); break;
      case 4: message.mount_label = reader.text(); break;
    }
  }
  return reader.ok() && parts_ok;
}

bool decode(std::string_view bytes, CreateContainer& message) {
  WireReader reader(bytes);
  bool parts_ok = true;
  while (reader.next()) {
    switch (reader.field()) {
      case 1: message.id = reader.text(); break;
      case 2: parts_ok &= decode(reader.bytes(), message.plan); break;
    }
  }
  return reader.ok() && parts_ok;
}

bool decode(std::string_view bytes, SignalContainer& message) {
  WireReader reader(bytes);
  while (reader.next()) {
    switch (reader.field()) {
      case 1: message.id = reader.text(); break;
      case 2: message.signal = static_cast<int32_t>(reader.number()); break;
      case 3: message.all = reader.boolean(); break;
    }
  }
  return reader.ok();
}

bool decode(std::string_view bytes, Exec& message) {
  WireReader reader(bytes);
  bool parts_ok = true;
  while (reader.next()) {
    switch (reader.field()) {
      case 1: message.container_id = reader.text(); break;
      case 2: parts_ok &= decode(reader.bytes(), message.process); break;
      case 3: message.timeout_ms = reader.number(); break;
      case 4: message.output_limit = reader.number(); break;
      case 30: message.oci_process = reader.text(); break;
      case 40: message.streams = reader.boolean(); break;
      case 41: message.stdin = reader.boolean(); break;
      case 42: message.stdout = reader.boolean(); break;
      case 43: message.stderr = reader.boolean(); break;
    }
  }
  return reader.ok() && parts_ok;
}

bool decode(std::string_view bytes, CancelExec& message) {
  WireReader reader(bytes);
  while (reader.next()) {
    switch (reader.field()) {
      case 1: message.id = reader.number(); break;
      case 40: message.signal = static_cast<int32_t>(reader.number()); break;
    }
  }
  return reader.ok();
}

bool decode(std::string_view bytes, Attach& message) {
  WireReader reader(bytes);
  while (reader.next()) {
    switch (reader.field()) {
      case 1: message.container_id = reader.text(); break;
      case 2: message.stdin = reader.boolean(); break;
      case 3: message.stdout = reader.boolean(); break;
      case 4: message.stderr = reader.boolean(); break;
    }
  }
  return reader.ok();
}

bool decode(std::string_view bytes, UpdateContainer& message) {
  WireReader reader(bytes);
  while (reader.next()) {
    switch (reader.field()) {
      case 1: message.id = reader.text(); break;
      case 2: message.resources = reader.text(); break;
    }
  }
  return reader.ok();
}

bool decode_container_id(std::string_view bytes, std::string& id) {
  WireReader reader(bytes);
  while (reader.next()) {
    if (reader.field() == 1) id = reader.text();
  }
  return reader.ok();
}

// ---- encoding ----

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
