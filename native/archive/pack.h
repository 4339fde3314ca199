// A layer as the store has it becomes an archive again.
#pragma once

#include <map>
#include <string>
#include <utility>

#include "archive/tar_writer.h"
#include "archive/tree.h"

namespace berth::archive {

// Writes the layer whose top directory is `root`, in overlayfs's form, with whiteouts as the OCI image specification has
// them. The order, and all else, depends on nothing but the layer. Throws Failure.
class LayerPacker {
 public:
  LayerPacker(int root, TarWriter& archive) : root_(root), archive_(archive) {}

  void pack();
  // The root is a whole tree, and so is the one below: what it has that the other has not.
  void pack_difference(int below);

 private:
  void pack_directory(const std::string& path);
  void pack_entry(const Directory& directory, const Entry& entry);
  void pack_file(const Directory& directory, const Entry& entry);
  void pack_marker(const std::string& path);

  int root_;
  TarWriter& archive_;
  // the first name of each file that has several
  std::map<std::pair<dev_t, ino_t>, std::string> linked_;
};

}  // namespace berth::archive
