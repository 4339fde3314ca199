// What the monitor does with cgroups that the agent has made: ends everything in them, makes the execs' child cgroups,
// reads the oom_kill counter.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/unique_fd.h"

namespace berth {

// Writes cgroup.kill: everything in the cgroup and below it is dead or dying when this returns. False: there is no such
// file (cgroup v1, or the cgroup is gone).
bool kill_cgroup2(int directory_fd);

// True: some process in the cgroup, or below it, has not ended yet. (Zombies have.)
bool is_populated(int directory_fd);

// False: its parent has threaded cgroups below (somebody has made them), beside which no other one takes a process.
bool takes_processes(int directory_fd);

// SIGKILL to each process of a cgroup.procs file, until it is empty or the passes are over: for hierarchies without
// cgroup.kill.
void kill_listed(const std::string& procs_file);

// SIGKILL to everything of a session, found in /proc; `leader` in its PID namespace. What has made itself a session of its
// own is not found.
void kill_session(int32_t leader);

// "oom_kill N" of memory.oom_control (v1) or memory.events (v2); 0 when it cannot be read.
uint64_t read_oom_kills(const std::string& file);
uint64_t parse_oom_kills(const char* text);

// The `tasks` files of a container's v1 cgroups, open for as long as processes may join: an exec's way in has no path to walk.
class TasksFiles {
 public:
  // False with errno, and `failed` as the path.
  bool open(const std::vector<std::string>& paths, std::string& failed);
  // The calling thread joins each. Null: it has; else the one that was refused, with errno. Nothing is allocated.
  const char* join() const;
  void list(std::vector<int>& descriptors) const;
  void close() { files_.clear(); }

 private:
  struct File {
    std::string path;
    UniqueFd fd;
  };
  std::vector<File> files_;
};

// A new child cgroup for one exec: `name` is unique in `parent`, also when an old one is left.
struct ExecCgroup {
  std::string path;
  UniqueFd directory;
};
// False with errno.
bool make_exec_cgroup(const std::string& parent, uint64_t& counter, ExecCgroup& made);

// Cgroups whose exec is over while children of it still run in the background.
class CgroupLeftovers {
 public:
  // Removes it now if it is empty, and keeps it for sweep() if not.
  void remove(std::string path);
  void sweep();
  bool empty() const { return paths_.empty(); }

 private:
  std::vector<std::string> paths_;
};

}  // namespace berth
