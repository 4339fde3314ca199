// The program of a container or an exec: its standard streams, descriptors, working directory, and the exec itself. For
// children between clone and exec: nothing allocates.
#pragma once

#include <string>
#include <vector>

#include "common/unique_fd.h"
#include "monitor/child_channel.h"
#include "monitor/messages.h"

namespace berth {

// The vectors that execve takes, made before the clone. They point into what they are made from, which must outlive them.
class ProgramVectors {
 public:
  explicit ProgramVectors(const Process& process) : ProgramVectors(process.args, process.env) {}
  ProgramVectors(const std::vector<std::string>& args, const std::vector<std::string>& env);
  char* const* argv() const { return argv_.data(); }
  char* const* envp() const { return envp_.data(); }

 private:
  std::vector<char*> argv_;
  std::vector<char*> envp_;
};

// A pipe for a standard stream. It is the program's user's own, who may open it again as /dev/stdout. False with errno.
bool make_stream(UniqueFd& read_end, UniqueFd& write_end, uid_t owner);

// What a child begins with: which descriptors it keeps.
struct Descriptors {
  int stdin_fd = -1;
  int stdout_fd = -1;
  int stderr_fd = -1;
  std::vector<int> kept;  // above 2; sorted by sort()

  void sort();
};

// The first thing that a child does: the standard streams, and everything else closed that is not kept.
void keep_only(const Descriptors& descriptors, const ChildChannel& channel);
// Closes all but the standard streams and the channel.
void keep_only_channel(const ChildChannel& channel);

bool is_null_device(int fd);
// In the container: streams that are the host's null device become its own one, which can be found by its name. Where there
// is none they stay.
void use_own_null_device(const ChildChannel& channel);

enum class WhoEnters { kRoot, kUser };
// False: root is not let in (a volume with squashed root), and the user should try. Refuses a directory that lies outside
// of the root, whatever way led there.
bool enter_working_directory(const Process& process, WhoEnters who, const ChildChannel& channel);

// A session of its own, with the terminal on its standard input if there is one.
void start_session(bool terminal, const ChildChannel& channel);
void reset_signals();
// Names without "/" are looked up in the PATH of the program's own environment.
[[noreturn]] void execute(const Process& process, const ProgramVectors& vectors, const ChildChannel& channel);

}  // namespace berth
