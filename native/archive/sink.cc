#include "archive/sink.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "unpack/failure.h"

namespace berth::archive {
namespace {

using unpack::fail;
using unpack::refuse;

constexpr size_t kBufferBytes = 256 * 1024;
// isa-l's best compression, about as good as zlib's at its default and several times as fast
constexpr int kLevel = 3;

void write_all(int fd, const uint8_t* bytes, size_t size) {
  for (size_t done = 0; done < size;) {
    const ssize_t count = ::write(fd, bytes + done, size - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail("write", "the archive");
    done += static_cast<size_t>(count);
  }
}

}  // namespace

Digest::Digest() : context_(EVP_MD_CTX_new(), EVP_MD_CTX_free) {
  if (!context_ || EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) != 1) {
    refuse("sha256", "", "OpenSSL has no SHA-256");
  }
}

void Digest::update(const void* bytes, size_t size) {
  if (EVP_DigestUpdate(context_.get(), bytes, size) != 1) refuse("sha256", "", "OpenSSL failed");
}

std::string Digest::finish() {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned length = 0;
  if (EVP_DigestFinal_ex(context_.get(), digest, &length) != 1) refuse("sha256", "", "OpenSSL failed");
  static constexpr char kHex[] = "0123456789abcdef";
  std::string text = "sha256:";
  for (unsigned i = 0; i < length; i++) {
    text += kHex[digest[i] >> 4];
    text += kHex[digest[i] & 15];
  }
  return text;
}

GzipSink::GzipSink(int fd)
    : fd_(fd),
      stream_(std::make_unique<isal_zstream>()),
      level_buffer_(ISAL_DEF_LVL3_DEFAULT),
      input_(kBufferBytes),
      output_(kBufferBytes) {
  isal_deflate_init(stream_.get());
  stream_->gzip_flag = IGZIP_GZIP;
  stream_->level = kLevel;
  stream_->level_buf = level_buffer_.data();
  stream_->level_buf_size = static_cast<uint32_t>(level_buffer_.size());
}

void GzipSink::write(const void* bytes, size_t size) {
  const uint8_t* from = static_cast<const uint8_t*>(bytes);
  while (size > 0) {
    const size_t count = std::min(size, input_.size() - filled_);
    memcpy(input_.data() + filled_, from, count);
    filled_ += count;
    from += count;
    size -= count;
    if (filled_ < input_.size()) return;
    deflate(input_.data(), filled_, false);
    filled_ = 0;
  }
}

void GzipSink::finish() { deflate(input_.data(), filled_, true); }

void GzipSink::deflate(const uint8_t* bytes, size_t size, bool is_end) {
  raw_.update(bytes, size);
  stream_->next_in = const_cast<uint8_t*>(bytes);
  stream_->avail_in = static_cast<uint32_t>(size);
  stream_->end_of_stream = is_end ? 1 : 0;
  do {
    stream_->next_out = output_.data();
    stream_->avail_out = static_cast<uint32_t>(output_.size());
    if (isal_deflate(stream_.get()) != COMP_OK) refuse("compress", "", "isa-l failed");
    const size_t count = output_.size() - stream_->avail_out;
    compressed_.update(output_.data(), count);
    write_all(fd_, output_.data(), count);
    compressed_bytes_ += count;
  } while (stream_->avail_out == 0);
}

}  // namespace berth::archive
