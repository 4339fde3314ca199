#include "unpack/sparse.h"

#include "unpack/failure.h"
#include "unpack/pax.h"
#include "unpack/tar_header.h"

namespace berth::unpack {
namespace {

constexpr size_t kGnuPairBytes = 24;

void add_extent(std::vector<Extent>& extents, uint64_t offset, uint64_t size, const std::string& path) {
  if (extents.size() >= kMaxExtents) refuse("read the archive", path, "a sparse map is too long");
  extents.push_back({offset, size});
}

// False at the first unused pair.
bool add_gnu_pairs(const uint8_t* pairs, int count, std::vector<Extent>& extents, const std::string& path) {
  for (int i = 0; i < count; i++) {
    const uint8_t* pair = pairs + i * kGnuPairBytes;
    if (pair[0] == 0) return false;
    const int64_t offset = parse_number(pair, 12, "sparse offset");
    const int64_t size = parse_number(pair + 12, 12, "sparse size");
    if (offset < 0 || size < 0) refuse("read the archive", path, "a sparse map holds a negative number");
    add_extent(extents, static_cast<uint64_t>(offset), static_cast<uint64_t>(size), path);
  }
  return true;
}

}  // namespace

std::vector<Extent> read_gnu_sparse_map(const uint8_t* header, LayerStream& stream, const std::string& path,
                                        uint64_t& file_bytes) {
  std::vector<Extent> extents;
  add_gnu_pairs(header + 386, 4, extents, path);
  bool continued = header[482] != 0;
  const int64_t real = parse_number(header + 483, 12, "sparse file's size");
  if (real < 0) refuse("read the archive", path, "the sparse file's size is negative");
  file_bytes = static_cast<uint64_t>(real);
  while (continued) {
    uint8_t block[kBlockBytes];
    stream.read_exactly(block, sizeof block, path);
    if (!add_gnu_pairs(block, 21, extents, path)) break;
    continued = block[504] != 0;
  }
  return extents;
}

std::vector<Extent> parse_sparse_list(std::string_view text) {
  std::vector<Extent> extents;
  const auto next = [&text]() {
    const size_t comma = text.find(',');
    const uint64_t value = parse_decimal(text.substr(0, comma), "GNU.sparse.map");
    text = comma == std::string_view::npos ? std::string_view{} : text.substr(comma + 1);
    return value;
  };
  while (!text.empty()) {
    const uint64_t offset = next();
    add_extent(extents, offset, next(), "");
  }
  return extents;
}

std::vector<Extent> read_sparse_lines(LayerStream& stream, const std::string& path, uint64_t stored_bytes,
                                      uint64_t& consumed) {
  uint8_t block[kBlockBytes];
  size_t position = kBlockBytes;
  consumed = 0;
  const auto next_number = [&]() {
    std::string digits;
    for (;;) {
      if (position == kBlockBytes) {
        if (consumed + kBlockBytes > stored_bytes) refuse("read the archive", path, "a sparse map is cut off");
        stream.read_exactly(block, sizeof block, path);
        consumed += kBlockBytes;
        position = 0;
      }
      const char byte = static_cast<char>(block[position++]);
      if (byte == '\n') return parse_decimal(digits, "a sparse map");
      if (digits.size() >= 20) refuse("read the archive", path, "a sparse map's number is too long");
      digits += byte;
    }
  };
  const uint64_t count = next_number();
  if (count > kMaxExtents) refuse("read the archive", path, "a sparse map is too long");
  std::vector<Extent> extents;
  for (uint64_t i = 0; i < count; i++) {
    const uint64_t offset = next_number();
    add_extent(extents, offset, next_number(), path);
  }
  return extents;
}

void check_extents(const std::vector<Extent>& extents, uint64_t file_bytes, uint64_t stored_bytes,
                   const std::string& path) {
  if (file_bytes > kMaxFileBytes) refuse("read the archive", path, "the sparse file is too large");
  uint64_t end = 0;
  uint64_t sum = 0;
  for (const Extent& extent : extents) {
    if (extent.offset < end || extent.offset > file_bytes || extent.size > file_bytes - extent.offset) {
      refuse("read the archive", path, "the sparse map is out of order or leaves the file");
    }
    end = extent.offset + extent.size;
    sum += extent.size;
  }
  if (sum != stored_bytes) refuse("read the archive", path, "the sparse map does not fit what is stored");
}

}  // namespace berth::unpack
