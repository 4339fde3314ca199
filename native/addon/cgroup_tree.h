// A cgroup with those below it, whose lists of processes or threads are counted again and again.
#pragma once

#include <sys/stat.h>

#include <string>
#include <vector>

#include "common/unique_fd.h"

namespace berth {

// A list of processes is made when it is opened, so that it is opened for each count: from the tree's directory, which is much
// less than to walk the whole path.
class CgroupTree {
 public:
  // A path that is no directory makes a tree that counts nothing.
  explicit CgroupTree(const std::string& path);

  // The lines of all files of this name; unknown (cgroup_file.h): the cgroup is gone. `buffer` is for the files' bytes.
  double count(const std::string& file, std::vector<char>* buffer);

 private:
  struct Group {
    // From the tree's directory, with a slash at its end; empty: that directory itself.
    std::string path;
    // The directory's links when those below were looked for: the kernel keeps one for each of them, beside two.
    nlink_t links = 2;
    std::vector<Group> below;
  };

  double count_in(Group* group, const std::string& file, size_t depth, std::vector<char>* buffer);
  double count_below(Group* group, const std::string& file, size_t depth, std::vector<char>* buffer, bool* gone);
  std::vector<Group> groups_in(const std::string& path);

  UniqueFd directory_;
  Group all_;
};

}  // namespace berth
