// Text on its way to a reader, compressed when the reader wants it.
#pragma once

#include <isa-l/igzip_lib.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace berth {

// One gzip member (RFC 1952), given in parts.
class GzipText {
 public:
  GzipText();

  // Appends what is compressed so far to `to`; some of the text may come with a later part. Nothing can be added after the
  // last one.
  void add(std::string_view text, bool is_last, std::string* to);

 private:
  std::unique_ptr<isal_zstream> stream_;
  std::vector<uint8_t> level_buffer_;
};

}  // namespace berth
