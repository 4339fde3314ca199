// The uncompressed layer, hashed as it goes by.
#pragma once

#include <openssl/evp.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "unpack/decompress.h"

namespace berth::unpack {

class LayerStream {
 public:
  // OpenSSL is readied here, before the process is confined.
  LayerStream(int fd, uint64_t limit_bytes);

  // A view of the bytes that stand next, at most `max` of them, and moves past them; 0 bytes: the end.
  const uint8_t* take(size_t max, size_t& count);
  // Exactly `size` bytes; throws Failure when the stream ends before.
  void read_exactly(uint8_t* out, size_t size, const std::string& path);
  // False when the stream ends before the first byte.
  bool read_block(uint8_t* out, size_t size, const std::string& path);
  void skip(uint64_t size, const std::string& path);
  // What the stream was too short for.
  uint64_t skip_up_to(uint64_t size);
  // Reads to the end and returns "sha256:<hex>" of everything.
  std::string finish();

 private:
  bool refill();

  int fd_;
  uint64_t limit_bytes_;
  std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> hash_;
  std::unique_ptr<Decompressor> source_;
  std::vector<uint8_t> buffer_;
  size_t begin_ = 0;
  size_t end_ = 0;
  uint64_t total_ = 0;
  bool ended_ = false;
};

}  // namespace berth::unpack
