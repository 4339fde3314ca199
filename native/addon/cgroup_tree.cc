#include "addon/cgroup_tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <string_view>

#include "addon/cgroup_file.h"

namespace berth {
namespace {

constexpr size_t deepest = 32;

uint64_t count_lines(int fd, std::vector<char>* buffer) {
  uint64_t lines = 0;
  while (true) {
    ssize_t got = read(fd, buffer->data(), buffer->size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return lines;
    lines += static_cast<uint64_t>(std::count(buffer->data(), buffer->data() + got, '\n'));
  }
}

}  // namespace

CgroupTree::CgroupTree(const std::string& path) : directory_(open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)) {}

double CgroupTree::count(const std::string& file, std::vector<char>* buffer) {
  return directory_ ? count_in(&all_, file, 0, buffer) : unknown;
}

double CgroupTree::count_in(Group* group, const std::string& file, size_t depth, std::vector<char>* buffer) {
  UniqueFd list(openat(directory_.get(), (group->path + file).c_str(), O_RDONLY | O_CLOEXEC));
  struct stat status;
  if (!list || fstatat(directory_.get(), group->path.c_str(), &status, AT_EMPTY_PATH) < 0) return unknown;
  double count = static_cast<double>(count_lines(list.get(), buffer));
  list.reset();
  if (depth >= deepest) return count;
  bool gone = false;
  bool same = status.st_nlink == group->links;
  double below = same ? count_below(group, file, depth, buffer, &gone) : 0;
  if (!same || gone) {
    group->links = status.st_nlink;
    group->below = status.st_nlink <= 2 ? std::vector<Group>() : groups_in(group->path);
    below = count_below(group, file, depth, buffer, &gone);
  }
  return count + below;
}

double CgroupTree::count_below(Group* group, const std::string& file, size_t depth, std::vector<char>* buffer,
                               bool* gone) {
  double sum = 0;
  for (Group& each : group->below) {
    double count = count_in(&each, file, depth + 1, buffer);
    if (is_unknown(count)) {
      *gone = true;
    } else {
      sum += count;
    }
  }
  return sum;
}

std::vector<CgroupTree::Group> CgroupTree::groups_in(const std::string& path) {
  std::vector<Group> groups;
  UniqueFd fd(openat(directory_.get(), path.empty() ? "." : path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  std::unique_ptr<DIR, int (*)(DIR*)> entries(fd ? fdopendir(fd.get()) : nullptr, closedir);
  if (entries == nullptr) return groups;
  fd.release();
  while (dirent* entry = readdir(entries.get())) {
    std::string_view name = entry->d_name;
    if (entry->d_type == DT_DIR && name != "." && name != "..") groups.push_back({path + entry->d_name + "/", 2, {}});
  }
  return groups;
}

}  // namespace berth
