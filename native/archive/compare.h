// What one tree has that another has not.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "archive/tree.h"

namespace berth::archive {

enum class Change : char { added = 'A', changed = 'C', deleted = 'D' };

struct ComparisonOptions {
  // The upper tree is complete, and is compared with the one that is below. Others below have directories and empty files
  // which may be there besides. Otherwise it is in overlayfs's form, as all below
  // it: what is not in it is as it is there.
  bool whole = false;
  // Owners, attributes and content count, too, for files that have the same size and time. Otherwise files of whole trees are
  // taken for the same when size, mode and time are, and the tree may change meanwhile.
  bool thorough = false;
};

class Comparison {
 public:
  using Tell = std::function<void(Change, const std::string& path)>;

  // Top directories; those below, the topmost first. Changes are told in the order of their paths, each after the directories
  // that it is in: those are told as changed, too. The top directory itself is not told. Throws Failure.
  Comparison(int upper, std::vector<int> lower, ComparisonOptions options, Tell tell);

  void run();

 private:
  // Which of the lower trees have a directory at a path that shows through.
  using Layers = std::vector<size_t>;
  struct Step {
    std::string name;
    bool is_told = false;
    Change change{};
    bool is_directory = false;
    Layers lower;
  };
  struct Found {
    bool exists = false;
    size_t layer = 0;
    struct stat status {};
    Layers directories;
  };

  void compare_directory(const std::string& path, const Layers& lower);
  std::vector<Step> steps_of(const Directory& upper, const Layers& lower);
  Found find(const std::vector<std::pair<size_t, Directory>>& lower, const std::string& name) const;
  void add_deleted(const std::vector<std::pair<size_t, Directory>>& lower, const std::vector<Entry>& present,
                   std::vector<Step>& steps) const;
  bool is_changed(const Directory& upper, const Entry& entry, const Directory& lower, const struct stat& before) const;
  void tell(Change change, const std::string& path);

  int upper_;
  std::vector<int> lower_;
  ComparisonOptions options_;
  Tell tell_;
  // directories above the one that is looked at, that were not told yet
  std::vector<std::string> untold_;
};

}  // namespace berth::archive
