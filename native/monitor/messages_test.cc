// The numbers in messages.cc are those of cri-proto/monitor.proto: every field is written with the number that the .proto
// gives to its name, and must come out in the member of that name; and the other way round for what is encoded.
#include "monitor/messages.h"

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>

#include "monitor/check.h"

namespace {

using namespace berth;

std::string proto;

uint32_t number_of(const char* message, const char* field) {
  const size_t begin = proto.find(std::string("message ") + message + " {");
  CHECK(begin != std::string::npos);
  const size_t end = proto.find("\n}", begin);
  const size_t one_line_end = proto.find('}', begin);
  const std::string body = proto.substr(begin, proto.find('\n', begin) > one_line_end ? one_line_end - begin : end - begin);
  const std::string name = std::string(" ") + field + " = ";
  const size_t place = body.find(name);
  if (place == std::string::npos) fprintf(stderr, "%s.%s is not in the .proto\n", message, field);
  CHECK(place != std::string::npos);
  return static_cast<uint32_t>(strtoul(body.c_str() + place + name.size(), nullptr, 10));
}

// A message under construction, by names.
class Builder {
 public:
  explicit Builder(const char* message) : message_(message) {}
  Builder& number(const char* field, uint64_t value) {
    writer_.number(number_of(message_, field), value);
    return *this;
  }
  Builder& text(const char* field, std::string_view value) {
    writer_.bytes(number_of(message_, field), value);
    return *this;
  }
  Builder& message(const char* field, const Builder& value) {
    writer_.message(number_of(message_, field), value.writer_);
    return *this;
  }
  const std::string& data() const { return writer_.data(); }

 private:
  const char* message_;
  WireWriter writer_;
};

// A field of an encoded message, by its name.
struct Found {
  bool there = false;
  uint64_t number = 0;
  std::string bytes;
};

Found find(std::string_view data, const char* message, const char* field, bool is_number) {
  Found found;
  WireReader reader(data);
  const uint32_t wanted = number_of(message, field);
  while (reader.next()) {
    if (reader.field() != wanted) continue;
    found.there = true;
    if (is_number) {
      found.number = reader.number();
    } else {
      found.bytes = reader.text();
    }
  }
  CHECK(reader.ok());
  return found;
}

uint64_t number_in(std::string_view data, const char* message, const char* field) {
  return find(data, message, field, true).number;
}

std::string bytes_in(std::string_view data, const char* message, const char* field) {
  return find(data, message, field, false).bytes;
}

Builder process_with_everything() {
  return Builder("Process")
      .text("args", "a0").text("args", "a1").text("env", "E=1").text("cwd", "/c").number("uid", 4).number("gid", 5)
      .text("additional_gids", std::string("\x06\x87\x01", 3)).number("umask", 7).number("has_umask", 1)
      .message("capabilities", Builder("Capabilities").number("bounding", 11).number("effective", 12)
                                   .number("inheritable", 13).number("permitted", 14).number("ambient", 15))
      .number("no_new_privileges", 1).text("seccomp_filter", "12345678").number("seccomp_flags", 2)
      .number("terminal", 1).number("terminal_columns", 80).number("terminal_rows", 24)
      .number("has_oom_score_adj", 1).number("oom_score_adj", 1997)
      .message("rlimits", Builder("Rlimit").number("resource", 7).number("soft", 100).number("hard", 200))
      .text("apparmor_profile", "aa").text("selinux_label", "se");
}

void check_process(const Process& process) {
  CHECK(process.args == std::vector<std::string>({"a0", "a1"}));
  CHECK(process.env == std::vector<std::string>({"E=1"}));
  CHECK(process.cwd == "/c" && process.uid == 4 && process.gid == 5);
  CHECK(process.additional_gids == std::vector<uint32_t>({6, 135}));
  CHECK(process.umask == 7 && process.has_umask);
  const Capabilities& capabilities = process.capabilities;
  CHECK(capabilities.bounding == 11 && capabilities.effective == 12 && capabilities.inheritable == 13);
  CHECK(capabilities.permitted == 14 && capabilities.ambient == 15);
  CHECK(process.no_new_privileges && process.seccomp_filter == "12345678" && process.seccomp_flags == 2);
  CHECK(process.terminal && process.terminal_columns == 80 && process.terminal_rows == 24);
  CHECK(process.has_oom_score_adj && process.oom_score_adj == -999);
  CHECK(process.rlimits.size() == 1 && process.rlimits[0].resource == 7);
  CHECK(process.rlimits[0].soft == 100 && process.rlimits[0].hard == 200);
  CHECK(process.apparmor_profile == "aa" && process.selinux_label == "se");
}

void test_plan() {
  const Builder plan =
      Builder("Plan")
          .message("process", process_with_everything()).number("root_fd", 1).number("root_readonly", 1)
          .number("pid_namespace", 3).text("pid_target", "t").number("cgroup_namespace", 1)
          .message("mounts", Builder("Mount").text("destination", "/d").number("source_fd", 2).text("type", "tmpfs")
                                 .text("source", "s").text("options", "o1").text("options", "o2")
                                 .number("attributes", 3).number("recursive_attributes", 1).number("propagation", 1 << 18)
                                 .number("is_file", 1).number("tmpcopyup", 1))
          .message("devices", Builder("Device").text("path", "/dev/x").number("type", 8192).number("major", 1)
                                  .number("minor", 3).number("mode", 438).number("uid", 9).number("gid", 10))
          .text("masked_paths", "/m").text("readonly_paths", "/r")
          .message("cgroup", Builder("Cgroup").text("tasks_files", "/t").text("cgroup2_directory", "/2")
                                 .text("oom_kill_file", "/o"))
          .message("log", Builder("Log").text("path", "/l").number("max_line_bytes", 100))
          .number("stdin", 1).number("root_propagation", 1 << 19).text("directories", "/v")
          .message("hooks", Builder("Hooks").number("pause", 1).text("create_state", "c").text("start_state", "s").text("bundle", "/b")
                                .message("create_container", Builder("Hook").text("path", "/h").text("args", "h")
                                                                 .text("env", "E=2").number("timeout_ms", 9))
                                .message("start_container", Builder("Hook").text("path", "/s")));
  CreateContainer request;
  CHECK(decode(Builder("CreateContainer").text("id", "c").message("plan", plan).data(), request));
  CHECK(request.id == "c");
  const Plan& decoded = request.plan;
  check_process(decoded.process);
  CHECK(decoded.root_fd == 1 && decoded.root_readonly && decoded.pid_namespace == PidNamespace::kTarget);
  CHECK(decoded.pid_target == "t" && decoded.cgroup_namespace);
  CHECK(decoded.directories == std::vector<std::string>({"/v"}));
  CHECK(decoded.mounts.size() == 1 && decoded.devices.size() == 1);
  const Mount& mount = decoded.mounts[0];
  CHECK(mount.destination == "/d" && mount.source_fd == 2 && mount.type == "tmpfs" && mount.source == "s");
  CHECK(mount.options == std::vector<std::string>({"o1", "o2"}) && mount.attributes == 3);
  CHECK(mount.recursive_attributes && mount.propagation == 1 << 18 && mount.is_file && mount.tmpcopyup);
  const Device& device = decoded.devices[0];
  CHECK(device.path == "/dev/x" && device.type == 8192 && device.major == 1 && device.minor == 3);
  CHECK(device.mode == 438 && device.uid == 9 && device.gid == 10);
  CHECK(decoded.masked_paths == std::vector<std::string>({"/m"}));
  CHECK(decoded.readonly_paths == std::vector<std::string>({"/r"}));
  CHECK(decoded.cgroup.tasks_files == std::vector<std::string>({"/t"}));
  CHECK(decoded.cgroup.cgroup2_directory == "/2" && decoded.cgroup.oom_kill_file == "/o");
  CHECK(decoded.log.path == "/l" && decoded.log.max_line_bytes == 100);
  CHECK(decoded.stdin && decoded.root_propagation == 1 << 19);
  const Hooks& hooks = decoded.hooks;
  CHECK(hooks.pause && hooks.create_state == "c" && hooks.start_state == "s" && hooks.bundle == "/b");
  CHECK(hooks.create_container.size() == 1 && hooks.start_container.size() == 1);
  const Hook& hook = hooks.create_container[0];
  CHECK(hook.path == "/h" && hook.args == std::vector<std::string>({"h"}) && hook.timeout_ms == 9);
  CHECK(hook.env == std::vector<std::string>({"E=2"}) && hooks.start_container[0].path == "/s");
}

void test_calls() {
  const std::pair<const char*, Call> calls[] = {
      {"hello", Call::kHello},
      {"set_up_pod", Call::kSetUpPod},
      {"create_container", Call::kCreateContainer},
      {"start_container", Call::kStartContainer},
      {"signal_container", Call::kSignalContainer},
      {"delete_container", Call::kDeleteContainer},
      {"exec", Call::kExec},
      {"cancel_exec", Call::kCancelExec},
      {"reopen_log", Call::kReopenLog},
      {"get_state", Call::kGetState},
      {"shutdown", Call::kShutdown},
      {"send_descriptors", Call::kSendDescriptors},
      {"continue_container", Call::kContinueContainer},
  };
  for (const auto& [name, call] : calls) {
    ToMonitor message;
    const Builder built =
        Builder("ToMonitor").number("id", 77).message(name, Builder("StartContainer").text("id", "x"));
    CHECK(decode(built.data(), message));
    CHECK(message.id == 77 && message.call == call);
    std::string id;
    CHECK(decode_container_id(message.body, id) && id == "x");
  }
  ToMonitor unknown;
  WireWriter later;
  later.number(1, 5);
  later.bytes(999, "from a newer agent");
  CHECK(decode(later.data(), unknown) && unknown.call == Call::kNone && unknown.id == 5);
  ToMonitor traced;
  const Builder shutdown = Builder("ToMonitor").number("id", 6).message("shutdown", Builder("Shutdown")).text("request_id", "a1");
  CHECK(decode(shutdown.data(), traced) && traced.call == Call::kShutdown && traced.request_id == "a1");

  Hello hello;
  CHECK(decode(Builder("Hello").number("oldest_version", 1).number("newest_version", 4).data(), hello));
  CHECK(hello.oldest_version == 1 && hello.newest_version == 4);
  SignalContainer signal;
  CHECK(decode(Builder("SignalContainer").text("id", "c").number("signal", 15).number("all", 1).data(), signal));
  CHECK(signal.id == "c" && signal.signal == 15 && signal.all);
  Exec exec;
  CHECK(decode(Builder("Exec").text("container_id", "c").message("process", process_with_everything())
                   .number("timeout_ms", 3).number("output_limit", 4).data(), exec));
  CHECK(exec.container_id == "c" && exec.timeout_ms == 3 && exec.output_limit == 4);
  check_process(exec.process);
  CancelExec cancelled;
  CHECK(decode(Builder("CancelExec").number("id", 9).number("signal", 1).data(), cancelled));
  CHECK(cancelled.id == 9 && cancelled.signal == 1);
  SetUpPod set_up;
  WireWriter entry;
  entry.bytes(1, "net.a");
  entry.bytes(2, "1");
  WireWriter with_map;
  with_map.message(number_of("SetUpPod", "sysctls"), entry);
  CHECK(decode(Builder("SetUpPod").text("hostname", "h").number("shm_bytes", 64).text("mount_label", "l").data() + with_map.data(), set_up));
  CHECK(set_up.hostname == "h" && set_up.shm_bytes == 64 && set_up.mount_label == "l" && set_up.sysctls.size() == 1);
  CHECK(set_up.sysctls[0].first == "net.a" && set_up.sysctls[0].second == "1");
}

void test_replies() {
  const Failure failed{ErrorKind::kNotRunning, SysError{"execve", 2, "sh"}, "words"};
  const std::string reply = bytes_in(encode_failure(8, failed), "FromMonitor", "reply");
  CHECK(number_in(reply, "Reply", "id") == 8);
  const std::string error = bytes_in(reply, "Reply", "error");
  CHECK(number_in(error, "Error", "kind") == 3 && bytes_in(error, "Error", "step") == "execve");
  CHECK(number_in(error, "Error", "errno_value") == 2 && bytes_in(error, "Error", "subject") == "sh");
  CHECK(bytes_in(error, "Error", "message") == "words");
  CHECK(proto.find("NOT_RUNNING = 3;") != std::string::npos && proto.find("UNSUPPORTED_VERSION = 5;") != std::string::npos);

  const std::string done = bytes_in(encode_done(9), "FromMonitor", "reply");
  CHECK(number_in(done, "Reply", "id") == 9 && !find(done, "Reply", "error", false).there);
  const std::string hello =
      bytes_in(bytes_in(encode_hello_reply(1, {1, "sb", 42}), "FromMonitor", "reply"), "Reply", "hello");
  CHECK(number_in(hello, "HelloReply", "version") == 1 && bytes_in(hello, "HelloReply", "sandbox_id") == "sb");
  CHECK(number_in(hello, "HelloReply", "pid") == 42);
  const std::string created =
      bytes_in(bytes_in(encode_create_reply(1, 43), "FromMonitor", "reply"), "Reply", "create_container");
  CHECK(number_in(created, "CreateContainerReply", "pid") == 43);
  const std::string started =
      bytes_in(bytes_in(encode_start_reply(1, 44, 4711), "FromMonitor", "reply"), "Reply", "start_container");
  CHECK(number_in(started, "StartContainerReply", "started_at") == 44);
  CHECK(number_in(started, "StartContainerReply", "pid") == 4711);
  const std::string executed =
      bytes_in(bytes_in(encode_exec_reply(1, {-1, true, 45}), "FromMonitor", "reply"), "Reply", "exec");
  CHECK(static_cast<int64_t>(number_in(executed, "ExecReply", "exit_code")) == -1);
  CHECK(number_in(executed, "ExecReply", "timed_out") == 1 && number_in(executed, "ExecReply", "dropped_bytes") == 45);
}

void check_exit(const std::string& exit) {
  CHECK(bytes_in(exit, "ContainerExit", "id") == "c" && number_in(exit, "ContainerExit", "exit_code") == 137);
  CHECK(number_in(exit, "ContainerExit", "signal") == 9 && number_in(exit, "ContainerExit", "started_at") == 1);
  CHECK(number_in(exit, "ContainerExit", "finished_at") == 2 && number_in(exit, "ContainerExit", "oom_killed") == 1);
  const std::string error = bytes_in(exit, "ContainerExit", "start_error");
  CHECK(number_in(error, "Error", "kind") == 2 && bytes_in(error, "Error", "step") == "run the hook");
  CHECK(number_in(error, "Error", "errno_value") == 2 && bytes_in(error, "Error", "subject") == "/h");
}

void test_events() {
  const ContainerExit exit{"c", 137, 9, 1, 2, true, Failure{ErrorKind::kInvalid, SysError{"run the hook", 2, "/h"}, "words"}};
  check_exit(encode_exit(exit));
  check_exit(bytes_in(encode_exit_event(exit), "FromMonitor", "container_exit"));
  const std::string state = bytes_in(
      bytes_in(encode_state_reply(1, {{"c", ContainerPhase::kExited, 7, 8, exit, true}}), "FromMonitor", "reply"), "Reply",
      "state");
  const std::string container = bytes_in(state, "State", "containers");
  CHECK(bytes_in(container, "ContainerState", "id") == "c" && number_in(container, "ContainerState", "phase") == 2);
  CHECK(number_in(container, "ContainerState", "pid") == 7 && number_in(container, "ContainerState", "started_at") == 8);
  CHECK(number_in(container, "ContainerState", "starting") == 1);
  check_exit(bytes_in(container, "ContainerState", "exit"));
  const std::string started = bytes_in(encode_started_event("c", 5, 6), "FromMonitor", "container_started");
  CHECK(bytes_in(started, "ContainerStarted", "id") == "c" && number_in(started, "ContainerStarted", "started_at") == 5);
  CHECK(number_in(started, "ContainerStarted", "pid") == 6);
  const std::string oom = bytes_in(encode_out_of_memory_event("c", 3), "FromMonitor", "out_of_memory");
  CHECK(bytes_in(oom, "OutOfMemory", "id") == "c" && number_in(oom, "OutOfMemory", "kills") == 3);
  const std::string output = bytes_in(encode_exec_output(5, 2, "data"), "FromMonitor", "exec_output");
  CHECK(number_in(output, "ExecOutput", "id") == 5 && number_in(output, "ExecOutput", "stream") == 2);
  CHECK(bytes_in(output, "ExecOutput", "data") == "data");
}

// Whatever is cut off or changed: an answer, and no crash (the sanitizers look on).
void test_damaged() {
  const std::string whole = Builder("CreateContainer")
                                .text("id", "c")
                                .message("plan", Builder("Plan").message("process", process_with_everything()))
                                .data();
  for (size_t length = 0; length < whole.size(); ++length) {
    CreateContainer request;
    decode(std::string_view(whole).substr(0, length), request);
  }
  srand(1);
  for (int round = 0; round < 200000; ++round) {
    std::string damaged = whole;
    for (int change = rand() % 4; change >= 0; --change) damaged[rand() % damaged.size()] = static_cast<char>(rand());
    CreateContainer request;
    decode(damaged, request);
  }
}

}  // namespace

int main() {
  std::ifstream file(BERTH_MONITOR_PROTO);
  std::stringstream text;
  text << file.rdbuf();
  proto = text.str();
  CHECK(!proto.empty());
  test_plan();
  test_calls();
  test_replies();
  test_events();
  test_damaged();
  return 0;
}
