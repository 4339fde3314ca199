#include "monitor/cgroup.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace berth {

namespace {

constexpr int kKillPasses = 8;

// At most size - 1 bytes; false when it cannot be opened.
bool read_text(const char* path, char* text, size_t size) {
  const UniqueFd file(open(path, O_RDONLY | O_CLOEXEC));
  if (!file) return false;
  size_t length = 0;
  while (length < size - 1) {
    const ssize_t count = read(file.get(), text + length, size - 1 - length);
    if (count <= 0) break;
    length += static_cast<size_t>(count);
  }
  text[length] = '\0';
  return true;
}

bool file_has(int directory_fd, const char* name, const char* words) {
  const UniqueFd file(openat(directory_fd, name, O_RDONLY | O_CLOEXEC));
  char text[256];
  const ssize_t length = file ? read(file.get(), text, sizeof text - 1) : 0;
  text[length > 0 ? length : 0] = '\0';
  return strstr(text, words) != nullptr;
}

// The session of a process as /proc/PID/stat has it: the fourth field after the name in brackets. 0: it has ended.
int32_t session_of(const char* pid) {
  char path[64];
  char text[512];
  snprintf(path, sizeof path, "/proc/%s/stat", pid);
  if (!read_text(path, text, sizeof text)) return 0;
  const char* after_name = strrchr(text, ')');
  char state = 'Z';
  int session = 0;
  if (after_name == nullptr || sscanf(after_name + 1, " %c %*d %*d %d", &state, &session) != 2) return 0;
  return state == 'Z' || state == 'X' ? 0 : session;
}

}  // namespace

bool kill_cgroup2(int directory_fd) {
  const UniqueFd file(openat(directory_fd, "cgroup.kill", O_WRONLY | O_CLOEXEC));
  return file && write(file.get(), "1", 1) == 1;
}

bool is_populated(int directory_fd) { return file_has(directory_fd, "cgroup.events", "populated 1"); }

bool takes_processes(int directory_fd) { return !file_has(directory_fd, "cgroup.type", "domain invalid"); }

void kill_listed(const std::string& procs_file) {
  char text[16384];
  for (int pass = 0; pass < kKillPasses; ++pass) {
    if (!read_text(procs_file.c_str(), text, sizeof text) || text[0] == '\0') return;
    for (char* line = text; *line != '\0';) {
      const auto pid = static_cast<pid_t>(strtol(line, &line, 10));
      if (pid > 1 && pid != getpid()) kill(pid, SIGKILL);
      while (*line != '\0' && (*line < '0' || *line > '9')) ++line;
    }
  }
}

void kill_session(int32_t leader) {
  // The numbers in /proc are the host's, and this process may be in a PID namespace of its own: signals go by pidfd to
  // what was looked at.
  for (int pass = 0; pass < kKillPasses; ++pass) {
    DIR* directory = opendir("/proc");
    if (directory == nullptr) return;
    bool found = false;
    while (const dirent* entry = readdir(directory)) {
      if (entry->d_name[0] < '0' || entry->d_name[0] > '9' || session_of(entry->d_name) != leader) continue;
      char path[64];
      snprintf(path, sizeof path, "/proc/%.20s", entry->d_name);
      const UniqueFd process(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
      // /proc/PID serves as a pidfd; the session is looked at again now that the number cannot change its meaning.
      if (!process || session_of(entry->d_name) != leader) continue;
      found |= syscall(SYS_pidfd_send_signal, process.get(), SIGKILL, nullptr, 0) == 0;
    }
    closedir(directory);
    if (!found) return;
  }
}

uint64_t parse_oom_kills(const char* text) {
  for (const char* line = text; line != nullptr && *line != '\0';) {
    if (strncmp(line, "oom_kill ", 9) == 0) return strtoull(line + 9, nullptr, 10);
    line = strchr(line, '\n');
    if (line != nullptr) ++line;
  }
  return 0;
}

uint64_t read_oom_kills(const std::string& file) {
  char text[1024];
  if (file.empty() || !read_text(file.c_str(), text, sizeof text)) return 0;
  return parse_oom_kills(text);
}

bool TasksFiles::open(const std::vector<std::string>& paths, std::string& failed) {
  for (const std::string& path : paths) {
    UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    if (!fd) {
      failed = path;
      return false;
    }
    files_.push_back({path, std::move(fd)});
  }
  return true;
}

const char* TasksFiles::join() const {
  for (const File& file : files_) {
    if (write(file.fd.get(), "0", 1) != 1) return file.path.c_str();
  }
  return nullptr;
}

void TasksFiles::list(std::vector<int>& descriptors) const {
  for (const File& file : files_) descriptors.push_back(file.fd.get());
}

bool make_exec_cgroup(const std::string& parent, uint64_t& counter, ExecCgroup& made) {
  do {
    char name[32];
    snprintf(name, sizeof name, "/exec-%llu", static_cast<unsigned long long>(++counter));
    made.path = parent + name;
    if (mkdir(made.path.c_str(), 0755) == 0) {
      made.directory.reset(open(made.path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
      if (made.directory) return true;
      const int saved = errno;
      rmdir(made.path.c_str());
      errno = saved;
      return false;
    }
  } while (errno == EEXIST);
  return false;
}

void CgroupLeftovers::remove(std::string path) {
  if (rmdir(path.c_str()) != 0 && errno == EBUSY) paths_.push_back(std::move(path));
}

void CgroupLeftovers::sweep() {
  std::erase_if(paths_, [](const std::string& path) { return rmdir(path.c_str()) == 0 || errno != EBUSY; });
}

}  // namespace berth
