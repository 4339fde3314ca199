#include "unpack/tar_header.h"

#include <algorithm>
#include <cstring>

#include "unpack/failure.h"

namespace berth::unpack {
namespace {

std::string text(const uint8_t* field, size_t size) {
  const char* begin = reinterpret_cast<const char*>(field);
  return std::string(begin, strnlen(begin, size));
}

void check_sum(const uint8_t* block) {
  // some writers added signed characters
  int64_t plain = 0;
  int64_t with_signs = 0;
  for (size_t i = 0; i < kBlockBytes; i++) {
    const bool is_sum = i >= 148 && i < 156;
    const uint8_t byte = is_sum ? ' ' : block[i];
    plain += byte;
    with_signs += static_cast<int8_t>(byte);
  }
  int64_t stored = -1;
  try {
    stored = parse_number(block + 148, 8, "checksum");
  } catch (const Failure&) {
    // as wrong as a number that differs
  }
  if (stored != plain && stored != with_signs) {
    refuse("read the archive", text(block, 100), "a header's checksum is wrong: this is no tar archive, or it is damaged");
  }
}

}  // namespace

bool is_zero_block(const uint8_t* block) {
  return std::all_of(block, block + kBlockBytes, [](uint8_t byte) { return byte == 0; });
}

int64_t parse_number(const uint8_t* field, size_t size, const char* name) {
  if ((field[0] & 0x80) != 0) {
    // two's complement, big endian; the top bit is the mark and the one below it the sign
    const bool negative = (field[0] & 0x40) != 0;
    uint64_t value = negative ? ~uint64_t{0} : 0;
    for (size_t i = 0; i < size; i++) {
      const uint8_t byte = i == 0 ? static_cast<uint8_t>(negative ? field[0] : field[0] & 0x7f) : field[i];
      const uint64_t lost = value >> 56;
      if (lost != (negative ? 0xffu : 0u)) refuse("read the archive", "", std::string("the ") + name + " is too large");
      value = value << 8 | byte;
    }
    if (static_cast<bool>(value >> 63) != negative) {
      refuse("read the archive", "", std::string("the ") + name + " is too large");
    }
    return static_cast<int64_t>(value);
  }
  size_t i = 0;
  while (i < size && field[i] == ' ') i++;
  uint64_t value = 0;
  for (; i < size && field[i] != 0 && field[i] != ' '; i++) {
    if (field[i] < '0' || field[i] > '7') {
      refuse("read the archive", "", std::string("the ") + name + " is no octal number");
    }
    if (value >> 59 != 0) refuse("read the archive", "", std::string("the ") + name + " is too large");
    value = value << 3 | static_cast<uint64_t>(field[i] - '0');
  }
  return static_cast<int64_t>(value);
}

Header parse_header(const uint8_t* block) {
  check_sum(block);
  Header header;
  if (memcmp(block + 257, "ustar\0", 6) == 0) header.kind = HeaderKind::posix;
  if (memcmp(block + 257, "ustar  \0", 8) == 0) header.kind = HeaderKind::gnu;
  header.path = text(block, 100);
  header.mode = parse_number(block + 100, 8, "mode");
  header.uid = parse_number(block + 108, 8, "uid");
  header.gid = parse_number(block + 116, 8, "gid");
  header.size = parse_number(block + 124, 12, "size");
  header.modified = parse_number(block + 136, 12, "modification time");
  header.type = static_cast<char>(block[156]);
  header.link = text(block + 157, 100);
  if (header.size < 0) refuse("read the archive", header.path, "the size is negative");
  if (header.kind == HeaderKind::old) return header;
  if (header.type == '3' || header.type == '4') {
    header.device_major = parse_number(block + 329, 8, "device number");
    header.device_minor = parse_number(block + 337, 8, "device number");
  }
  if (header.kind == HeaderKind::posix) {
    const std::string prefix = text(block + 345, 155);
    if (!prefix.empty()) header.path = prefix + "/" + header.path;
  }
  return header;
}

}  // namespace berth::unpack
