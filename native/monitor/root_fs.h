// A container's root file system, built in the container's own mount namespace by its init. Everything is mounted by
// descriptor; no path of the image is ever resolved against the host.
#pragma once

#include <sys/types.h>

#include <vector>

#include "common/unique_fd.h"
#include "monitor/child_channel.h"
#include "monitor/messages.h"
#include "monitor/user_namespace.h"

namespace berth {

class RootFs {
 public:
  struct Sources {
    int root_fd;
    const std::vector<int>& mount_fds;  // for each of the plan's mounts its detached mount, or -1
    // pidfd of a process whose PID namespace /proc is to show; -1: the caller is in that namespace
    int pid_namespace_fd;
  };
  // Where to find the host's null device, and a directory to attach the root at.
  struct Places {
    const char* null;
    const char* root;
  };

  RootFs(const Plan& plan, const Sources& sources, const ChildChannel& channel)
      : plan_(plan), sources_(sources), root_(sources.root_fd), channel_(channel) {}

  // For a pod with a user namespace, whose root may not make device nodes: makes them while the caller is still the host's
  // root, where nobody sees them, owned as the namespace maps their owners. The other functions are for its own root then.
  void make_nodes(const UserNamespace& users);
  // Attaches the root, within a mount namespace that the caller has just made. From here on nothing that is mounted is seen
  // outside.
  void attach(const Places& places);
  // Mounts, devices, the working directory, masks, in the plan's order.
  void fill();
  // Makes the root "/" and detaches everything of the host.
  void pivot();
  // The slave of a new terminal of the container's own devpts, which is also bound to /dev/console; its master is sent.
  UniqueFd open_terminal();
  // After all else: read-only, and its propagation.
  void finish();

 private:
  // What is put over masked paths. The first path gets the mount itself, the others copies of it: before Linux 6.15 only
  // an attached mount can be copied.
  struct Cover {
    UniqueFd mount;
    bool attached = false;
  };

  void mount_one(const Mount& mount, int source_fd);
  UniqueFd make_file_system(const Mount& mount);
  UniqueFd open_context(const Mount& mount);
  UniqueFd open_proc_context();
  void attach_at(int mount_fd, int target, const char* path);
  void make_device(const Device& device, size_t index);
  // True: it was made. False: something is there already.
  bool make_node(int parent, const char* name, const Device& device, size_t index);
  void remember_own_proc(int mount_fd);
  bool is_in_own_proc(int fd);
  void make_device_links();
  void check_null_device();
  void make_directories();
  // As the user's own, when it is missing.
  void make_working_directory();
  void mask(const char* path);
  void make_readonly(const char* path);
  UniqueFd clone_mount(int fd, unsigned flags, const char* step, const char* path);

  const Plan& plan_;
  const Sources sources_;
  const int root_;
  const ChildChannel& channel_;
  Cover null_;                // the host's /dev/null, for masked files
  Cover empty_;               // a read-only directory with nothing in it, for masked directories
  UniqueFd bundle_;           // a clone of the hooks' bundle, for hooks that run as the root of a user namespace
  UniqueFd nodes_;            // a tmpfs with the device nodes, each named by its place in the plan; invalid: they are made in place
  UniqueFd terminals_mount_;  // the container's devpts
  dev_t own_proc_ = 0;        // the device number of the container's procfs
};

}  // namespace berth
