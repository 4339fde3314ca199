// Bytes of a descriptor, decompressed: gzip (any number of members), zstd (any number of frames) or as they are. Which
// one is told by the first bytes, not by what somebody said about them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace berth::unpack {

class Decompressor {
 public:
  virtual ~Decompressor() = default;
  // Up to `size` bytes; 0 only at the end of a stream that is whole. Throws Failure.
  virtual size_t read(uint8_t* out, size_t size) = 0;
};

std::unique_ptr<Decompressor> open_decompressor(int fd);

}  // namespace berth::unpack
