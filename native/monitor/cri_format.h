// The CRI's log format: "2026-01-02T03:04:05.000000006Z stdout F a line\n". Pure: bytes in, bytes out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

namespace berth {

constexpr size_t kDefaultLineBytes = 16384;
constexpr size_t kLargestLineBytes = 128 << 10;
constexpr size_t kReadBytes = 64 << 10;

// Where formatted records are put. The implementation has room for one record at least whenever reserve() returns.
class RecordSink {
 public:
  virtual ~RecordSink() = default;
  // Room for `size` bytes in one piece.
  virtual char* reserve(size_t size) = 0;
  virtual void commit(size_t size) = 0;
};

// Cuts one stream into records. What comes after the last newline is held back until its line is complete, is longer than
// the limit, or the stream ends: then it is a P record (there was no newline, and readers put none).
class RecordFormatter {
 public:
  RecordFormatter(std::string_view stream_name, size_t max_line_bytes);

  // What was held back is to be put in front of the next data: `before_data` has max_line_bytes of room before it.
  // Returns where the data now begins.
  const char* prepend_held(char* before_data);
  // `data` begins with what prepend_held() gave. Times grow from record to record, by a nanosecond at least.
  void format(const char* data, size_t length, int64_t now_ns, RecordSink& sink);
  void finish(int64_t now_ns, RecordSink& sink);

 private:
  void set_time(int64_t now_ns);
  void advance_time();
  void put(const char* text, size_t length, char tag, RecordSink& sink);

  static constexpr size_t kTimeLength = 30;  // with nine digits of a second and the "Z"

  const size_t max_line_bytes_;
  std::unique_ptr<char[]> held_;
  size_t held_length_ = 0;
  int64_t next_ns_ = 0;  // what the prefix stands for; later than all records that were put
  int64_t second_ = -1;  // of the date and time in the prefix
  char prefix_[48];
  size_t prefix_length_;
};

}  // namespace berth
