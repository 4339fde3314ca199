#include "unpack/decompress.h"

#include <isa-l/igzip_lib.h>
#include <unistd.h>
#include <zstd.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "unpack/failure.h"

namespace berth::unpack {
namespace {

constexpr size_t kInputBytes = 256 * 1024;
constexpr int kMaxZstdWindowLog = 27;  // 128 MiB, what zstd itself accepts unasked

// The compressed side: one buffer, refilled when it is empty.
class Input {
 public:
  explicit Input(int fd) : fd_(fd), buffer_(kInputBytes) {}

  // Reads until at least `wanted` bytes stand there or the stream has ended.
  void fill(size_t wanted) {
    if (begin_ > 0 && begin_ < end_) memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
    while (!ended_ && end_ < wanted) {
      const ssize_t count = ::read(fd_, buffer_.data() + end_, buffer_.size() - end_);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) fail("read", "the compressed layer");
      if (count == 0) ended_ = true;
      end_ += static_cast<size_t>(count);
    }
  }
  bool refill() {
    if (begin_ == end_) fill(1);
    return begin_ < end_;
  }
  uint8_t* data() { return buffer_.data() + begin_; }
  size_t size() const { return end_ - begin_; }
  void consume(size_t count) { begin_ += count; }

 private:
  int fd_;
  std::vector<uint8_t> buffer_;
  size_t begin_ = 0;
  size_t end_ = 0;
  bool ended_ = false;
};

class Plain : public Decompressor {
 public:
  explicit Plain(Input input) : input_(std::move(input)) {}
  size_t read(uint8_t* out, size_t size) override {
    if (!input_.refill()) return 0;
    const size_t count = std::min(size, input_.size());
    memcpy(out, input_.data(), count);
    input_.consume(count);
    return count;
  }

 private:
  Input input_;
};

class Gzip : public Decompressor {
 public:
  explicit Gzip(Input input) : input_(std::move(input)) {
    isal_inflate_init(&state_);
    state_.crc_flag = ISAL_GZIP;
  }

  size_t read(uint8_t* out, size_t size) override {
    state_.next_out = out;
    state_.avail_out = static_cast<uint32_t>(std::min<size_t>(size, UINT32_MAX));
    const uint32_t room = state_.avail_out;
    while (state_.avail_out == room) {
      if (state_.block_state == ISAL_BLOCK_FINISH && !next_member()) break;
      const bool more = input_.refill();
      state_.next_in = input_.data();
      state_.avail_in = static_cast<uint32_t>(input_.size());
      const uint32_t before = state_.avail_in;
      const int result = isal_inflate(&state_);
      if (result != ISAL_DECOMP_OK) {
        refuse("gunzip", "", "the gzip stream is damaged (igzip error " + std::to_string(result) + ")");
      }
      input_.consume(before - state_.avail_in);
      // igzip answers OK when the input ends too early: only the state tells
      if (!more && state_.avail_out == room && state_.block_state != ISAL_BLOCK_FINISH) {
        refuse("gunzip", "", "the gzip stream ends too early");
      }
    }
    return room - state_.avail_out;
  }

 private:
  // After a member: another one, or zeros that pad the end, or the end.
  bool next_member() {
    while (input_.refill() && *input_.data() == 0) {
      padded_ = true;
      input_.consume(1);
    }
    if (input_.size() == 0) return false;
    if (padded_ || *input_.data() != 0x1f) refuse("gunzip", "", "bytes that are no gzip follow the gzip stream");
    isal_inflate_reset(&state_);
    state_.crc_flag = ISAL_GZIP;
    return true;
  }

  Input input_;
  inflate_state state_{};
  bool padded_ = false;
};

class Zstd : public Decompressor {
 public:
  explicit Zstd(Input input) : input_(std::move(input)), stream_(ZSTD_createDStream(), ZSTD_freeDStream) {
    if (!stream_) refuse("zstd", "", "no memory for the zstd decoder");
    ZSTD_DCtx_setParameter(stream_.get(), ZSTD_d_windowLogMax, kMaxZstdWindowLog);
  }

  size_t read(uint8_t* out, size_t size) override {
    ZSTD_outBuffer output{out, size, 0};
    while (output.pos == 0) {
      const bool more = input_.refill();
      if (!more && at_frame_end_) break;
      ZSTD_inBuffer in{input_.data(), input_.size(), 0};
      const size_t result = ZSTD_decompressStream(stream_.get(), &output, &in);
      if (ZSTD_isError(result)) {
        refuse("unzstd", "", std::string("the zstd stream is damaged: ") + ZSTD_getErrorName(result));
      }
      input_.consume(in.pos);
      at_frame_end_ = result == 0;
      if (!more && output.pos == 0 && !at_frame_end_) refuse("unzstd", "", "the zstd stream ends too early");
    }
    return output.pos;
  }

 private:
  Input input_;
  std::unique_ptr<ZSTD_DStream, size_t (*)(ZSTD_DStream*)> stream_;
  bool at_frame_end_ = true;
};

bool is_zstd(const uint8_t* magic) {
  const uint32_t value = uint32_t{magic[0]} | uint32_t{magic[1]} << 8 | uint32_t{magic[2]} << 16 |
                         uint32_t{magic[3]} << 24;
  return value == ZSTD_MAGICNUMBER || (value & ZSTD_MAGIC_SKIPPABLE_MASK) == ZSTD_MAGIC_SKIPPABLE_START;
}

}  // namespace

std::unique_ptr<Decompressor> open_decompressor(int fd) {
  Input input(fd);
  input.fill(4);
  if (input.size() >= 2 && input.data()[0] == 0x1f && input.data()[1] == 0x8b) {
    return std::make_unique<Gzip>(std::move(input));
  }
  if (input.size() >= 4 && is_zstd(input.data())) return std::make_unique<Zstd>(std::move(input));
  return std::make_unique<Plain>(std::move(input));
}

}  // namespace berth::unpack
