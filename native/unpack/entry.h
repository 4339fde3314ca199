// One entry of an archive, with what its extended headers say already applied.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace berth::unpack {

enum class EntryType { regular, hard_link, symbolic_link, character_device, block_device, directory, fifo };

// A piece of a sparse file that holds data.
struct Extent {
  uint64_t offset;
  uint64_t size;
};

struct Time {
  int64_t seconds = 0;
  int64_t nanoseconds = 0;  // 0 to 999,999,999
};

struct Entry {
  std::string path;
  std::string link;
  EntryType type = EntryType::regular;
  uint32_t mode = 0;  // the lowest twelve bits
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint64_t stored_bytes = 0;  // in the archive
  uint64_t file_bytes = 0;    // of the file; differs for sparse files only
  Time modified;
  uint32_t device_major = 0;
  uint32_t device_minor = 0;
  std::vector<std::pair<std::string, std::string>> attributes;
  bool sparse = false;
  std::vector<Extent> extents;
};

}  // namespace berth::unpack
