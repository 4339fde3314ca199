// The messages of cri-proto/monitor.proto, in the same words.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/sys_error.h"
#include "common/wire.h"

namespace berth {

constexpr uint32_t kProtocolVersion = 1;

enum class ErrorKind : uint32_t {
  kInternal = 0,
  kNotFound = 1,
  kInvalid = 2,
  kNotRunning = 3,
  kAlreadyExists = 4,
  kUnsupportedVersion = 5,
};

// Error of the protocol. The words of its SysError are step, errno_value and subject.
struct Failure {
  ErrorKind kind = ErrorKind::kInternal;
  SysError error;
  std::string message;
};

Failure failure(ErrorKind kind, std::string_view step, std::string_view subject, std::string_view message);
Failure failure(ErrorKind kind, SysError error);

// ---- what to run ----

struct Capabilities {
  uint64_t bounding = 0;
  uint64_t effective = 0;
  uint64_t inheritable = 0;
  uint64_t permitted = 0;
  uint64_t ambient = 0;
};

struct Rlimit {
  uint32_t resource = 0;
  uint64_t soft = 0;
  uint64_t hard = 0;
};

struct Process {
  std::vector<std::string> args;
  std::vector<std::string> env;
  std::string cwd;
  uint32_t uid = 0;
  uint32_t gid = 0;
  std::vector<uint32_t> additional_gids;
  uint32_t umask = 0;
  bool has_umask = false;
  Capabilities capabilities;
  bool no_new_privileges = false;
  std::string seccomp_filter;
  uint32_t seccomp_flags = 0;
  bool terminal = false;
  uint32_t terminal_columns = 0;
  uint32_t terminal_rows = 0;
  bool has_oom_score_adj = false;
  int32_t oom_score_adj = 0;
  std::vector<Rlimit> rlimits;
  std::string apparmor_profile;
  std::string selinux_label;
};

struct Mount {
  std::string destination;
  uint32_t source_fd = 0;
  std::string type;
  std::string source;
  std::vector<std::string> options;
  uint64_t attributes = 0;
  bool recursive_attributes = false;
  uint64_t propagation = 0;
  bool is_file = false;
  bool tmpcopyup = false;
};

struct Device {
  std::string path;
  uint32_t type = 0;
  uint32_t major = 0;
  uint32_t minor = 0;
  uint32_t mode = 0;
  uint32_t uid = 0;
  uint32_t gid = 0;
  bool of_host = false;
};

struct Cgroup {
  std::vector<std::string> tasks_files;
  std::string cgroup2_directory;
  std::string oom_kill_file;
};

struct Log {
  std::string path;
  uint32_t max_line_bytes = 0;
  uint64_t bytes_per_second = 0;
};

struct Hook {
  std::string path;
  std::vector<std::string> args;
  std::vector<std::string> env;
  uint64_t timeout_ms = 0;
};

struct Hooks {
  bool pause = false;
  std::vector<Hook> create_container;
  std::vector<Hook> start_container;
  std::string create_state;
  std::string start_state;
  std::string bundle;
};

enum class PidNamespace : uint32_t { kContainer = 0, kPod = 1, kHost = 2, kTarget = 3 };

// An OCI runtime's program. Without a path the container is the monitor's own.
struct OciRuntime {
  std::string path;
  std::vector<std::string> arguments;
  std::string bundle;
  std::vector<std::string> hidden_mounts;
  uint64_t timeout_ms = 0;
  bool exec_cgroups = false;
  std::string cpu_tasks_file;
};

struct Plan {
  Process process;
  uint32_t root_fd = 0;
  bool root_readonly = false;
  PidNamespace pid_namespace = PidNamespace::kContainer;
  std::string pid_target;
  bool cgroup_namespace = false;
  std::vector<Mount> mounts;
  std::vector<Device> devices;
  std::vector<std::string> masked_paths;
  std::vector<std::string> readonly_paths;
  Cgroup cgroup;
  Log log;
  bool stdin = false;
  bool stdin_once = false;
  uint32_t root_propagation = 0;
  std::vector<std::string> directories;
  Hooks hooks;
  OciRuntime oci_runtime;
};

// ---- calls ----

struct Hello {
  uint32_t oldest_version = 0;
  uint32_t newest_version = 0;
};

struct SetUpPod {
  std::string hostname;
  std::vector<std::pair<std::string, std::string>> sysctls;
  uint64_t shm_bytes = 0;
  std::string mount_label;
};

struct CreateContainer {
  std::string id;
  Plan plan;
};

struct SignalContainer {
  std::string id;
  int32_t signal = 0;
  bool all = false;
};

struct Exec {
  std::string container_id;
  Process process;
  uint64_t timeout_ms = 0;
  uint64_t output_limit = 0;
  std::string oci_process;
  bool streams = false;
  bool stdin = false;
  bool stdout = false;
  bool stderr = false;
};

struct Attach {
  std::string container_id;
  bool stdin = false;
  bool stdout = false;
  bool stderr = false;
};

struct CancelExec {
  uint64_t id = 0;
  int32_t signal = 0;
};

struct UpdateContainer {
  std::string id;
  std::string resources;
};

enum class Call : uint32_t {
  kNone = 0,  // a call that this monitor does not know
  kHello = 2,
  kSetUpPod = 3,
  kCreateContainer = 4,
  kStartContainer = 5,
  kSignalContainer = 6,
  kDeleteContainer = 7,
  kExec = 8,
  kCancelExec = 9,
  kReopenLog = 10,
  kGetState = 11,
  kShutdown = 12,
  kSendDescriptors = 13,
  kContinueContainer = 25,
  kUpdateContainer = 20,
  kAttach = 50,
  kLast = kAttach,
};

struct ToMonitor {
  uint64_t id = 0;
  Call call = Call::kNone;
  std::string_view body;        // of the call's message, within the frame
  std::string_view request_id;  // of the CRI call that it is for; within the frame, too
};

bool decode(std::string_view bytes, ToMonitor& message);
bool decode(std::string_view bytes, Hello& message);
bool decode(std::string_view bytes, SetUpPod& message);
bool decode(std::string_view bytes, CreateContainer& message);
bool decode(std::string_view bytes, SignalContainer& message);
bool decode(std::string_view bytes, Exec& message);
bool decode(std::string_view bytes, CancelExec& message);
bool decode(std::string_view bytes, Attach& message);
bool decode(std::string_view bytes, UpdateContainer& message);
// StartContainer, DeleteContainer, ReopenLog: nothing but the container's id.
bool decode_container_id(std::string_view bytes, std::string& id);

// ---- answers and events ----

struct HelloReply {
  uint32_t version = 0;
  std::string sandbox_id;
  int32_t pid = 0;
};

struct ContainerExit {
  std::string id;
  int32_t exit_code = 0;
  int32_t signal = 0;
  int64_t started_at = 0;
  int64_t finished_at = 0;
  bool oom_killed = false;
  std::optional<Failure> start_error;
};

enum class ContainerPhase : uint32_t { kCreated = 0, kRunning = 1, kExited = 2 };

struct ContainerState {
  std::string id;
  ContainerPhase phase = ContainerPhase::kCreated;
  int32_t pid = 0;
  int64_t started_at = 0;
  std::optional<ContainerExit> exit;
  bool starting = false;
};

// Descriptors of a program's streams, as the frame that carries them numbers them: from 1, 0 is none.
struct StreamNumbers {
  uint32_t stdin = 0;
  uint32_t stdout = 0;
  uint32_t stderr = 0;
  uint32_t terminal = 0;
};

struct ExecReply {
  int32_t exit_code = 0;
  bool timed_out = false;
  uint64_t dropped_bytes = 0;
};

struct LogDropped {
  uint64_t bytes = 0;
  int32_t errno_value = 0;
  bool begins = false;
};

// Bodies of frames: whole FromMonitor messages.
std::string encode_done(uint64_t request);
std::string encode_failure(uint64_t request, const Failure& failure);
std::string encode_hello_reply(uint64_t request, const HelloReply& reply);
std::string encode_create_reply(uint64_t request, int32_t pid);
std::string encode_start_reply(uint64_t request, int64_t started_at, int32_t pid);
std::string encode_exec_reply(uint64_t request, const ExecReply& reply);
std::string encode_state_reply(uint64_t request, const std::vector<ContainerState>& containers);
std::string encode_attach_reply(uint64_t request, const StreamNumbers& streams);
std::string encode_started_event(std::string_view id, int64_t started_at, int32_t pid);
std::string encode_exit_event(const ContainerExit& exit);
std::string encode_out_of_memory_event(std::string_view id, uint64_t kills);
std::string encode_log_dropped_event(std::string_view id, const LogDropped& dropped);
std::string encode_exec_started_event(uint64_t request, const StreamNumbers& streams);
std::string encode_exec_output(uint64_t request, uint32_t stream, std::string_view data);
// The content of an exit file: the bare ContainerExit.
std::string encode_exit(const ContainerExit& exit);

}  // namespace berth
