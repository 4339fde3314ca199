// User namespaces made from the agent, without a program: a short-lived child holds each until somebody has its descriptor.
#pragma once

#include <napi.h>
#include <sys/types.h>

#include <cstdint>
#include <string>

#include "addon/clone_on_stack.h"
#include "common/unique_fd.h"

namespace berth {

// One run of ids, as /proc/PID/uid_map has it.
struct IdRange {
  uint32_t inside = 0;
  uint32_t outside = 0;
  uint32_t length = 0;

  // "inside:outside:length", as the monitor's arguments have it.
  std::string as_argument() const;
};

struct IdMaps {
  IdRange uids;
  IdRange gids;
};

// {uids: {containerId, hostId, length}, gids: ...}
IdMaps to_id_maps(const Napi::Object& object);

// A child in a new user namespace with its maps, and in further namespaces that belong to it. The child shares this
// process's memory, touches nothing of it, and ends with this object or with the thread that made it.
class UserNamespaceChild {
 public:
  // `namespaces`: CLONE_NEW* of those that the user namespace is to own. They are made after the maps are written, so that
  // what the kernel puts into them belongs to the namespace's root. Throws SystemError; call on a thread of its own.
  UserNamespaceChild(const IdMaps& maps, uint64_t namespaces);
  ~UserNamespaceChild();
  UserNamespaceChild(const UserNamespaceChild&) = delete;
  UserNamespaceChild& operator=(const UserNamespaceChild&) = delete;

  int pidfd() const { return pidfd_.get(); }
  UniqueFd open_user_namespace() const;

 private:
  // What the child sees.
  struct Orders {
    pid_t parent = 0;
    int go = -1;    // eventfds
    int done = -1;
    uint64_t namespaces = 0;
    int failed_errno = 0;
  };

  static void run(void* orders);
  void write_maps(const IdMaps& maps) const;
  void make_namespaces();
  void end();

  ChildStack stack_;
  UniqueFd go_;
  UniqueFd done_;
  Orders orders_;
  long pid_ = -1;
  UniqueFd pidfd_;
};

// Makes an attached or detached mount that was just cloned show the ids of its files as the user namespace maps them.
// Throws SystemError.
void idmap_mount(int mount, int user_namespace, bool recursive, const std::string& subject);

}  // namespace berth
