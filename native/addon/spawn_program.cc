// Starts a program of the host's: a CNI plugin. Node's own spawn forks the whole agent, which takes 10 ms and more of the
// event loop's time with a heap of some hundred megabytes; this one shares the memory until the program runs (vfork), on a
// thread of its own.
#include <fcntl.h>
#include <spawn.h>
extern "C" {  // glibc 2.36 forgot it in the header
#include <sys/pidfd.h>
}
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <memory>
#include <string>
#include <vector>

#include "addon/arguments.h"
#include "addon/functions.h"
#include "addon/own_thread.h"
#include "common/unique_fd.h"

namespace berth {
namespace {

struct Program {
  std::string path;
  std::vector<std::string> environment;  // NAME=value
};

struct Pipe {
  UniqueFd read;
  UniqueFd write;
};

Pipe make_pipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) < 0) throw_errno("pipe2", "");
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

// posix_spawn's functions answer an errno.
void check(int error, const char* what, const std::string& path) {
  if (error != 0) throw SystemError(error, what, path);
}

class SpawnSettings {
 public:
  explicit SpawnSettings(const std::string& path) : path_(path) {
    check(posix_spawn_file_actions_init(&actions), "posix_spawn_file_actions_init", path_);
    check(posix_spawnattr_init(&attributes), "posix_spawnattr_init", path_);
  }
  SpawnSettings(const SpawnSettings&) = delete;
  SpawnSettings& operator=(const SpawnSettings&) = delete;
  ~SpawnSettings() {
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
  }

  void give(int fd, int as) { check(posix_spawn_file_actions_adddup2(&actions, fd, as), "posix_spawn", path_); }

  // A group of its own, the root as its directory, no signal blocked or ignored: Node ignores SIGPIPE.
  void set_up_process() {
    check(posix_spawn_file_actions_addchdir_np(&actions, "/"), "posix_spawn", path_);
    sigset_t none;
    sigset_t all;
    sigemptyset(&none);
    sigfillset(&all);
    check(posix_spawnattr_setpgroup(&attributes, 0), "posix_spawn", path_);
    check(posix_spawnattr_setsigmask(&attributes, &none), "posix_spawn", path_);
    check(posix_spawnattr_setsigdefault(&attributes, &all), "posix_spawn", path_);
    short flags = POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
    check(posix_spawnattr_setflags(&attributes, flags), "posix_spawn", path_);
  }

  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;

 private:
  const std::string& path_;
};

struct Spawned {
  pid_t pid = 0;
  UniqueFd pidfd;
  UniqueFd input;
  UniqueFd output;
  UniqueFd errors;
};

std::vector<char*> pointers(std::vector<std::string>* texts) {
  std::vector<char*> result;
  for (std::string& text : *texts) result.push_back(text.data());
  result.push_back(nullptr);
  return result;
}

Spawned spawn_program(Program program) {
  Pipe input = make_pipe();
  Pipe output = make_pipe();
  Pipe errors = make_pipe();
  SpawnSettings settings(program.path);
  settings.give(input.read.get(), STDIN_FILENO);
  settings.give(output.write.get(), STDOUT_FILENO);
  settings.give(errors.write.get(), STDERR_FILENO);
  settings.set_up_process();
  std::vector<std::string> arguments = {program.path};
  Spawned spawned;
  int error = posix_spawn(&spawned.pid, program.path.c_str(), &settings.actions, &settings.attributes,
                          pointers(&arguments).data(), pointers(&program.environment).data());
  if (error != 0) throw SystemError(error, "posix_spawn", program.path);
  // its zombie is nobody's to reap before it is watched: the number is its own until then
  spawned.pidfd = UniqueFd(pidfd_open(spawned.pid, 0));
  if (!spawned.pidfd) {
    int number = errno;
    kill(-spawned.pid, SIGKILL);
    waitpid(spawned.pid, nullptr, 0);
    throw SystemError(number, "pidfd_open", program.path);
  }
  spawned.input = std::move(input.write);
  spawned.output = std::move(output.read);
  spawned.errors = std::move(errors.read);
  return spawned;
}

Napi::Value spawn_program_call(const Napi::CallbackInfo& info) {
  Napi::Object options = object_argument(info, 0, "options");
  Program program{text_field(options, "path"), texts_field(options, "environment")};
  return on_own_thread(info.Env(), [program]() -> Settle {
    auto spawned = std::make_shared<Spawned>(spawn_program(program));
    return [spawned](Napi::Env env) {
      Napi::Object object = Napi::Object::New(env);
      object.Set("pid", spawned->pid);
      object.Set("pidfd", spawned->pidfd.release());
      object.Set("input", spawned->input.release());
      object.Set("output", spawned->output.release());
      object.Set("errors", spawned->errors.release());
      return object;
    };
  });
}

}  // namespace

void register_spawn_program(Napi::Object exports) { export_function<spawn_program_call>(exports, "spawnProgram"); }

}  // namespace berth
