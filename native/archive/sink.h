// Where a layer's archive goes: compressed with gzip, both forms hashed.
#pragma once

#include <isa-l/igzip_lib.h>
#include <openssl/evp.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace berth::archive {

class Digest {
 public:
  Digest();
  void update(const void* bytes, size_t size);
  // "sha256:<hex>"; nothing can be added after it
  std::string finish();

 private:
  std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> context_;
};

class GzipSink {
 public:
  // Libraries are readied here, before the process is confined.
  explicit GzipSink(int fd);

  void write(const void* bytes, size_t size);
  // Nothing can be written after it.
  void finish();

  // After finish(): of the bytes that were given, and of those that were written to the descriptor.
  std::string diff_id() { return raw_.finish(); }
  std::string digest() { return compressed_.finish(); }
  uint64_t compressed_bytes() const { return compressed_bytes_; }

 private:
  void deflate(const uint8_t* bytes, size_t size, bool is_end);

  int fd_;
  Digest raw_;
  Digest compressed_;
  uint64_t compressed_bytes_ = 0;
  std::unique_ptr<isal_zstream> stream_;
  std::vector<uint8_t> level_buffer_;
  std::vector<uint8_t> input_;
  size_t filled_ = 0;
  std::vector<uint8_t> output_;
};

}  // namespace berth::archive
