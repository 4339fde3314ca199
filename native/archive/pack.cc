#include "archive/pack.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>
#include <vector>

#include "archive/compare.h"
#include "unpack/failure.h"
#include "unpack/path.h"
#include "unpack/sparse.h"

namespace berth::archive {
namespace {

using unpack::fail;

constexpr const char* kWhiteout = ".wh.";
constexpr const char* kOpaqueMarker = ".wh..wh..opq";
// less is not worth a map
constexpr uint64_t kMinHoleBytes = 64 * 1024;

// The pieces that hold data, when there are holes worth it; else none.
std::vector<Extent> data_of(int fd, const struct stat& status, const std::string& path) {
  const uint64_t size = static_cast<uint64_t>(status.st_size);
  if (static_cast<uint64_t>(status.st_blocks) * 512 + kMinHoleBytes > size) return {};
  std::vector<Extent> extents;
  uint64_t held = 0;
  for (off_t at = 0; static_cast<uint64_t>(at) < size;) {
    const off_t begin = lseek(fd, at, SEEK_DATA);
    if (begin < 0 && errno == ENXIO) break;
    if (begin < 0) fail("lseek", path);
    const off_t end = lseek(fd, begin, SEEK_HOLE);
    if (end < 0) fail("lseek", path);
    if (extents.size() == unpack::kMaxExtents) return {};
    extents.push_back({static_cast<uint64_t>(begin), static_cast<uint64_t>(end - begin)});
    held += static_cast<uint64_t>(end - begin);
    at = end;
  }
  if (held == size) return {};
  // the last piece tells where the file ends
  if (extents.empty()) extents.push_back({size, 0});
  return extents;
}

}  // namespace

void LayerPacker::pack() {
  pack_directory("");
  archive_.finish();
}

void LayerPacker::pack_difference(int below) {
  {
    const Directory top(root_, "");
    archive_.write_node(".", top.status(), "", top.attributes(""));
  }
  Comparison comparison(root_, {below}, {.whole = true, .thorough = true}, [this](Change change, const std::string& path) {
    const Directory parent(root_, unpack::parent_of(path));
    const std::string name = unpack::name_of(path);
    if (change == Change::deleted) return pack_marker(parent.path_of(kWhiteout + name));
    Entry entry{name, {}};
    if (fstatat(parent.fd(), name.c_str(), &entry.status, AT_SYMLINK_NOFOLLOW) != 0) fail("stat", path);
    pack_entry(parent, entry);
  });
  comparison.run();
  archive_.finish();
}

void LayerPacker::pack_directory(const std::string& path) {
  std::vector<std::string> below;
  {
    const Directory directory(root_, path);
    archive_.write_node(path.empty() ? "." : path, directory.status(), "", directory.attributes(""));
    if (directory.is_opaque()) pack_marker(directory.path_of(kOpaqueMarker));
    for (const Entry& entry : directory.entries()) {
      if (S_ISDIR(entry.status.st_mode)) below.push_back(entry.name);
      else if (is_whiteout(entry.status)) pack_marker(directory.path_of(kWhiteout + entry.name));
      else pack_entry(directory, entry);
    }
  }
  for (const std::string& name : below) pack_directory(path.empty() ? name : path + "/" + name);
}

void LayerPacker::pack_entry(const Directory& directory, const Entry& entry) {
  const std::string path = directory.path_of(entry.name);
  // an archive has no sockets
  if (S_ISSOCK(entry.status.st_mode)) return;
  if (entry.status.st_nlink > 1 && !S_ISDIR(entry.status.st_mode)) {
    const auto [known, is_first] = linked_.try_emplace({entry.status.st_dev, entry.status.st_ino}, path);
    if (!is_first) return archive_.write_hard_link(path, entry.status, known->second);
  }
  if (S_ISREG(entry.status.st_mode)) return pack_file(directory, entry);
  const std::string link = S_ISLNK(entry.status.st_mode) ? directory.read_link(entry.name) : "";
  archive_.write_node(path, entry.status, link, directory.attributes(entry.name));
}

void LayerPacker::pack_file(const Directory& directory, const Entry& entry) {
  const std::string path = directory.path_of(entry.name);
  const UniqueFd file = directory.open_file(entry.name);
  const std::vector<Extent> extents = data_of(file.get(), entry.status, path);
  archive_.write_file(path, entry.status, directory.attributes(entry.name), file.get(), extents);
}

void LayerPacker::pack_marker(const std::string& path) {
  struct stat status {};
  status.st_mode = S_IFREG;
  archive_.write_node(path, status, "", {});
}

}  // namespace berth::archive
