// Maps of sparse files: GNU's old form and pax forms 0.0, 0.1 and 1.0.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "unpack/entry.h"
#include "unpack/layer_stream.h"

namespace berth::unpack {

constexpr size_t kMaxExtents = 1 << 20;
constexpr uint64_t kMaxFileBytes = uint64_t{1} << 43;

// The map in a header of type 'S' and in the blocks that continue it.
std::vector<Extent> read_gnu_sparse_map(const uint8_t* header, LayerStream& stream, const std::string& path,
                                        uint64_t& file_bytes);

// "offset,size,offset,size" of form 0.1
std::vector<Extent> parse_sparse_list(std::string_view text);

// The lines before the data in form 1.0; `consumed` is their length with padding.
std::vector<Extent> read_sparse_lines(LayerStream& stream, const std::string& path, uint64_t stored_bytes,
                                      uint64_t& consumed);

// Ascending, without overlap, within the file, and as long in sum as what is stored. Throws Failure.
void check_extents(const std::vector<Extent>& extents, uint64_t file_bytes, uint64_t stored_bytes,
                   const std::string& path);

}  // namespace berth::unpack
