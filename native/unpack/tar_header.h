// The 512 bytes that stand before every entry: v7, ustar and GNU.
#pragma once

#include <cstdint>
#include <string>

#include "unpack/entry.h"

namespace berth::unpack {

constexpr size_t kBlockBytes = 512;

enum class HeaderKind { posix, gnu, old };

struct Header {
  HeaderKind kind = HeaderKind::old;
  char type = 0;
  std::string path;
  std::string link;
  int64_t mode = 0;
  int64_t uid = 0;
  int64_t gid = 0;
  int64_t size = 0;
  int64_t modified = 0;
  int64_t device_major = 0;
  int64_t device_minor = 0;
};

bool is_zero_block(const uint8_t* block);

// Checks the sum and reads the fields. Throws Failure.
Header parse_header(const uint8_t* block);

// Octal, or base 256 when the highest bit is set. An empty field is 0.
int64_t parse_number(const uint8_t* field, size_t size, const char* name);

}  // namespace berth::unpack
