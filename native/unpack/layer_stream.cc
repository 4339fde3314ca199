#include "unpack/layer_stream.h"

#include <algorithm>
#include <cstring>

#include "unpack/failure.h"

namespace berth::unpack {
namespace {

constexpr size_t kBufferBytes = 256 * 1024;

}  // namespace

LayerStream::LayerStream(int fd, uint64_t limit_bytes)
    : fd_(fd), limit_bytes_(limit_bytes), hash_(EVP_MD_CTX_new(), EVP_MD_CTX_free), buffer_(kBufferBytes) {
  if (!hash_ || EVP_DigestInit_ex(hash_.get(), EVP_sha256(), nullptr) != 1) {
    refuse("sha256", "", "OpenSSL has no SHA-256");
  }
}

bool LayerStream::refill() {
  if (begin_ < end_) return true;
  if (ended_) return false;
  if (!source_) source_ = open_decompressor(fd_);
  begin_ = 0;
  end_ = source_->read(buffer_.data(), buffer_.size());
  ended_ = end_ == 0;
  total_ += end_;
  if (total_ > limit_bytes_) {
    refuse("decompress", "", "the layer is larger than " + std::to_string(limit_bytes_) + " bytes");
  }
  if (EVP_DigestUpdate(hash_.get(), buffer_.data(), end_) != 1) refuse("sha256", "", "OpenSSL failed");
  return !ended_;
}

const uint8_t* LayerStream::take(size_t max, size_t& count) {
  if (!refill()) {
    count = 0;
    return buffer_.data();
  }
  count = std::min(max, end_ - begin_);
  const uint8_t* view = buffer_.data() + begin_;
  begin_ += count;
  return view;
}

void LayerStream::read_exactly(uint8_t* out, size_t size, const std::string& path) {
  if (size > 0 && !read_block(out, size, path)) refuse("read the archive", path, "the archive ends too early");
}

bool LayerStream::read_block(uint8_t* out, size_t size, const std::string& path) {
  size_t done = 0;
  while (done < size) {
    size_t count = 0;
    const uint8_t* view = take(size - done, count);
    if (count == 0 && done == 0) return false;
    if (count == 0) refuse("read the archive", path, "the archive ends too early");
    memcpy(out + done, view, count);
    done += count;
  }
  return true;
}

uint64_t LayerStream::skip_up_to(uint64_t size) {
  while (size > 0) {
    size_t count = 0;
    take(static_cast<size_t>(std::min<uint64_t>(size, kBufferBytes)), count);
    if (count == 0) break;
    size -= count;
  }
  return size;
}

void LayerStream::skip(uint64_t size, const std::string& path) {
  if (skip_up_to(size) > 0) refuse("read the archive", path, "the archive ends too early");
}

std::string LayerStream::finish() {
  size_t count = 0;
  do {
    take(kBufferBytes, count);
  } while (count > 0);
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned length = 0;
  if (EVP_DigestFinal_ex(hash_.get(), digest, &length) != 1) refuse("sha256", "", "OpenSSL failed");
  static constexpr char kHex[] = "0123456789abcdef";
  std::string text = "sha256:";
  for (unsigned i = 0; i < length; i++) {
    text += kHex[digest[i] >> 4];
    text += kHex[digest[i] & 15];
  }
  return text;
}

}  // namespace berth::unpack
