#include "addon/gzip_text.h"

#include <cerrno>
#include <cstddef>

#include "addon/system_error.h"

namespace berth {
namespace {

// What a line of metrics has of others is in those just before it: 4 KiB find more than 32 (a smaller distance has a shorter
// code), and the next levels find nothing more.
constexpr int level = 1;
constexpr uint16_t window_bits = 12;
constexpr size_t step = 64 << 10;

}  // namespace

GzipText::GzipText() : stream_(std::make_unique<isal_zstream>()), level_buffer_(ISAL_DEF_LVL1_DEFAULT) {
  isal_deflate_init(stream_.get());
  stream_->gzip_flag = IGZIP_GZIP;
  stream_->hist_bits = window_bits;
  stream_->level = level;
  stream_->level_buf = level_buffer_.data();
  stream_->level_buf_size = static_cast<uint32_t>(level_buffer_.size());
}

void GzipText::add(std::string_view text, bool is_last, std::string* to) {
  // isa-l takes a pointer to what it does not write to.
  stream_->next_in = reinterpret_cast<uint8_t*>(const_cast<char*>(text.data()));
  stream_->avail_in = static_cast<uint32_t>(text.size());
  stream_->end_of_stream = is_last ? 1 : 0;
  do {
    size_t length = to->size();
    to->resize(length + step);
    stream_->next_out = reinterpret_cast<uint8_t*>(to->data() + length);
    stream_->avail_out = step;
    int result = isal_deflate(stream_.get());
    if (result != COMP_OK) throw SystemError(EIO, "isal_deflate", "metrics", "isa-l failed with " + std::to_string(result));
    to->resize(length + step - stream_->avail_out);
  } while (stream_->avail_out == 0);
}

}  // namespace berth
