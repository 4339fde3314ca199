// OCI hooks that run in a container's own namespaces: createContainer before the host's root is left, startContainer just
// before the program. For children between clone and exec: nothing here allocates.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "monitor/child_channel.h"
#include "monitor/messages.h"
#include "monitor/program.h"

namespace berth {

// What execve takes for each hook of a stage, made before the clone. It points into the hooks, which must outlive it.
class HookVectors {
 public:
  explicit HookVectors(const std::vector<Hook>& hooks);
  const ProgramVectors& at(size_t index) const { return vectors_[index]; }

 private:
  std::vector<ProgramVectors> vectors_;
};

struct HookStage {
  const char* step;  // "run the createContainer hook"
  const std::vector<Hook>& hooks;
  const HookVectors& vectors;
  std::string_view state;  // as in Hooks of monitor.proto
};

// One after another, each with the container's state on its standard input. One that fails, or is not done in time, is
// reported with what it wrote, and ends the process.
void run_hooks(const HookStage& stage, int32_t pid, const ChildChannel& channel);

}  // namespace berth
