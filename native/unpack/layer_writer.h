// Puts the entries of a layer into the root directory of this (confined) process: in overlayfs's form, or applied to the tree
// of the layers below, which is there already.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "common/unique_fd.h"
#include "unpack/entry.h"
#include "unpack/tar_reader.h"

namespace berth::unpack {

class LayerWriter {
 public:
  // apply: what the layer hides is removed, and directories that it does not describe stay as they are. Files that were there
  // are never changed, because other trees may have them, too: they are unlinked, and made anew.
  // has_below: otherwise, with layers below that are not here; a hard link may lead to one of their files.
  LayerWriter(bool apply, bool has_below);

  void write(const Entry& entry, TarReader& data);
  // Times and default ACLs of directories: last, because making a file in them changes or uses these.
  void finish();

  uint64_t bytes() const { return bytes_; }
  uint64_t inodes() const { return inodes_; }

  struct Implicit {
    // There is nothing but whiteouts in it; without a directory below, it is none.
    bool only_hides;
    // The layer itself had hidden what is below before: it looks like none of that.
    bool is_alone;
  };

  // Directories that no entry describes, by paths without links: they look like the same directory of the layers below.
  const std::map<std::string, Implicit>& implicit_directories() const { return implicit_; }
  // Directories that have whiteouts in them.
  const std::set<std::string>& directories_of_whiteouts() const { return of_whiteouts_; }
  // Names of files that are copies of what the layers below have: kBelow says of what.
  const std::set<std::string>& links_below() const { return links_below_; }
  // What they were links to; by the first one, which may have been replaced since.
  const std::map<std::string, std::string>& first_links_below() const { return first_links_below_; }
  bool root_is_implicit() const { return root_is_implicit_; }
  // Nothing of the layers below shows through.
  bool root_is_opaque() const { return root_is_opaque_; }

 private:
  // Whose links have been followed on the way to a directory.
  enum class Way { plain, own, below };
  struct CachedParent {
    std::string path;
    // where the links in it lead
    std::string real_path;
    UniqueFd fd;
    Way way = Way::plain;
  };
  struct DirectoryEnd {
    std::string path;
    ino_t inode;
    // it has an entry; otherwise it is one of the layers below
    bool is_own;
    Time modified;
    std::string default_acl;
  };

  int open_parent(const std::string& path, CachedParent& cache, bool make);
  void keep_time(int directory, const std::string& path);
  UniqueFd make_parents(const std::string& path, int links = 0);
  UniqueFd walk_applied(const std::string& path, bool make, Way& way);
  bool make_directory(int parent, const std::string& name, const std::string& path);
  void replace_lower(int parent, const std::string& name, const std::string& path);
  std::string real_path_of(int directory, const std::string& path);
  void forget_parents();
  // Of a directory and those that it is in: an entry comes into it.
  void use_directories(const std::string& path);

  bool write_whiteout(const std::string& path);
  void hide(const std::string& hidden, const std::string& path);
  int open_hiding_parent(const std::string& path);
  int open_lower_parent(const std::string& path);
  void write_directory(const Entry& entry, const std::string& path);
  void write_file(const Entry& entry, const std::string& path, TarReader& data);
  void write_content(int fd, const Entry& entry, TarReader& data);
  void write_link(const Entry& entry, const std::string& path);
  bool may_link(const struct stat& target, const std::string& target_name) const;
  void link_made(const std::string& name);
  bool link_below(const std::string& path, const std::string& target);
  bool link_again(const std::string& path, const std::string& target);
  void add_link_below(int parent, const std::string& name);
  bool only_hides(const std::string& path) const;
  bool hides_below(const std::string& path);
  void write_symlink(const Entry& entry, const std::string& path);
  void write_node(const Entry& entry, const std::string& path);

  // Removes what stands in the way of a new entry and closes the cached parents.
  void remove_existing(int parent, const std::string& name, const std::string& path);
  // Of the layers below, nothing shows through in the directory any more.
  void set_opaque(int parent, const std::string& name, const std::string& path);
  void purge(int parent, const std::string& name, const std::string& path);
  bool purge_inside(int parent, const std::string& name, const std::string& path);
  // A new inode has been made under this name.
  void add_made(int parent, const std::string& name, const std::string& path);
  bool is_made(const struct stat& status) const { return !apply_ || made_.contains(status.st_ino); }
  // Of a name that is no directory's: hard links are of this layer, although the file is one of the layers below.
  bool is_made(int parent, const std::string& name, const struct stat& status) const;
  bool is_linked(int parent, const std::string& name) const;
  void add_linked(int parent, const std::string& name);
  void forget_linked(int directory);
  void set_node_attributes(int parent, const std::string& name, const Entry& entry);

  const bool apply_;
  const bool has_below_;
  UniqueFd root_;
  CachedParent parent_;
  CachedParent link_parent_;
  std::vector<DirectoryEnd> directory_ends_;
  std::map<std::string, Implicit> implicit_;
  std::set<std::string> of_whiteouts_;
  std::set<std::string> links_below_;
  std::map<std::string, std::string> first_links_below_;
  // how many of the implicit ones are there for whiteouts alone
  size_t hiding_only_ = 0;
  // a whiteout is being written
  bool hiding_ = false;
  // the inodes of directories that have been made opaque
  std::unordered_set<ino_t> opaque_;
  // apply: the inodes of what this layer has made or described, which its own whiteouts do not hide
  std::unordered_set<ino_t> made_;
  // apply: hard links to files of the layers below, by the directory's inode and the name
  std::set<std::pair<ino_t, std::string>> linked_;
  // apply: the inodes of directories of the layers below that keep their time, whatever comes into them
  std::unordered_set<ino_t> kept_;
  bool root_is_implicit_ = true;
  bool root_is_opaque_ = false;
  bool has_setgid_directory_ = false;
  bool has_aufs_links_ = false;
  // the root directory
  uint64_t bytes_ = 4096;
  uint64_t inodes_ = 1;
};

}  // namespace berth::unpack
