// What the agent asks: decoded, and failures. What it is answered: sent_messages.cc.
#include "monitor/messages.h"

namespace berth {

Failure failure(ErrorKind kind, std::string_view step, std::string_view subject, std::string_view message) {
  return Failure{kind, SysError{std::string(step), 0, std::string(subject)}, std::string(message)};
}

Failure failure(ErrorKind kind, SysError error) { return Failure{kind, std::move(error), {}}; }

// One switch a message, numbers as in monitor.proto.

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

}  // namespace berth
