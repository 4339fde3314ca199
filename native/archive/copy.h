// A tree is made again, elsewhere.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "archive/tree.h"

namespace berth::archive {

// Makes the tree whose top directory is `from` again in `to`, an empty directory: names, content, links between its names,
// owners, modes, times and the attributes that an image may have.
class TreeCopy {
 public:
  // share: what is no directory becomes a further name of the file itself, which nobody may change then. Otherwise files
  // share their blocks where the file system can do that, until one of them is written to.
  TreeCopy(int from, int to, bool share) : from_(from), to_(to), share_(share) {}

  void run();

  // What was made, as it occupies the disk.
  uint64_t bytes() const { return bytes_; }
  uint64_t inodes() const { return inodes_; }

 private:
  void copy_directory(const std::string& path);
  bool copy_link(const Directory& source, int target, const Entry& entry);
  void copy_file(const Directory& source, int target, const Entry& entry);
  void copy_content(int from, int to, const Entry& entry, const std::string& path);
  void copy_node(const Directory& source, int target, const Entry& entry);
  void finish_directory(const std::string& path);
  void count(const struct stat& status);

  int from_;
  int to_;
  bool share_;
  bool clones_ = true;
  std::vector<std::string> directories_;
  // the first name in the new tree of each file that has several
  std::map<ino_t, std::string> linked_;
  uint64_t bytes_ = 0;
  uint64_t inodes_ = 0;
};

}  // namespace berth::archive
