#include "monitor/exit_file.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "common/unique_fd.h"
#include "monitor/monitor_log.h"

namespace berth {

namespace {
std::string exit_path(const std::string& pod_directory, const std::string& id) {
  return pod_directory + "/exits/" + id;
}
}  // namespace

bool make_exit_directory(const std::string& pod_directory) {
  return mkdir((pod_directory + "/exits").c_str(), 0700) == 0 || errno == EEXIST;
}

void write_exit_file(const std::string& pod_directory, const ContainerExit& exit) {
  const std::string path = exit_path(pod_directory, exit.id);
  // No id begins with a dot.
  const std::string unfinished = exit_path(pod_directory, "." + exit.id);
  const std::string content = encode_exit(exit);
  const UniqueFd file(open(unfinished.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!file || write(file.get(), content.data(), content.size()) != static_cast<ssize_t>(content.size()) ||
      rename(unfinished.c_str(), path.c_str()) != 0) {
    monitor_log("an exit file could not be written:", last_error("write", path).describe());
    unlink(unfinished.c_str());
  }
}

void remove_exit_file(const std::string& pod_directory, const std::string& id) {
  unlink(exit_path(pod_directory, id).c_str());
}

}  // namespace berth
