// Reading a directory tree that others have made: by names below one descriptor, never through a link.
#pragma once

#include <sys/stat.h>

#include <string>
#include <vector>

#include "archive/tar_writer.h"
#include "common/unique_fd.h"

namespace berth::archive {

struct Entry {
  std::string name;
  struct stat status {};
};

// A directory of a tree; closed when it goes.
class Directory {
 public:
  // A path below the tree's root ("" is the root itself). Throws Failure, also when it is none.
  Directory(int root, const std::string& path);

  int fd() const { return fd_.get(); }
  const std::string& path() const { return path_; }
  struct stat status() const;
  // Sorted by the names' bytes. What has vanished meanwhile is left out.
  std::vector<Entry> entries() const;
  std::string path_of(const std::string& name) const { return path_.empty() ? name : path_ + "/" + name; }

  // Extended attributes that an image may have, sorted by name; of an entry, or ("") of the directory itself.
  Attributes attributes(const std::string& name) const;
  // overlayfs shows nothing of the layers below in it
  bool is_opaque() const;
  std::string read_link(const std::string& name) const;
  // A regular file, to be read.
  UniqueFd open_file(const std::string& name) const;

 private:
  UniqueFd fd_;
  std::string path_;
};

// overlayfs's mark for a name that the layers below have and this one has not
bool is_whiteout(const struct stat& status);

}  // namespace berth::archive
