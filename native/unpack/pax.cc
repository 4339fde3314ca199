#include "unpack/pax.h"

#include <cerrno>
#include <charconv>

#include "unpack/failure.h"
#include "unpack/sparse.h"

namespace berth::unpack {
namespace {

void add_record(std::string_view key, std::string_view value, PaxRecords& records) {
  if (key == "GNU.sparse.offset") {
    if (records.extents.size() >= kMaxExtents) refuse("read the archive", "", "a sparse map is too long");
    records.extents.push_back({parse_decimal(value, "GNU.sparse.offset"), 0});
    return;
  }
  if (key == "GNU.sparse.numbytes") {
    if (records.extents.empty()) refuse("read the archive", "", "GNU.sparse.numbytes comes before its offset");
    records.extents.back().size = parse_decimal(value, "GNU.sparse.numbytes");
    return;
  }
  records.values[std::string(key)] = std::string(value);
}

}  // namespace

void parse_pax(std::string_view text, PaxRecords& records) {
  while (!text.empty()) {
    size_t length = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), length);
    const size_t digits = static_cast<size_t>(end - text.data());
    if (error != std::errc{} || digits == 0 || digits + 2 > length || length > text.size() || text[digits] != ' ' ||
        text[length - 1] != '\n') {
      refuse("read the archive", "", "an extended header is malformed");
    }
    const std::string_view record = text.substr(digits + 1, length - digits - 2);
    const size_t equals = record.find('=');
    if (equals == std::string_view::npos || equals == 0) {
      refuse("read the archive", "", "an extended header's record has no key");
    }
    add_record(record.substr(0, equals), record.substr(equals + 1), records);
    text.remove_prefix(length);
  }
}

uint64_t parse_decimal(std::string_view text, const char* name) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value > INT64_MAX) {
    refuse("read the archive", "", std::string(name) + " is no number: " + std::string(text.substr(0, 40)));
  }
  return value;
}

Time parse_time(std::string_view text) {
  const bool negative = !text.empty() && text.front() == '-';
  if (negative) text.remove_prefix(1);
  const size_t dot = text.find('.');
  Time time;
  time.seconds = static_cast<int64_t>(parse_decimal(text.substr(0, dot), "mtime"));
  bool has_rest = false;
  if (dot != std::string_view::npos) {
    int64_t unit = 100'000'000;
    for (const char digit : text.substr(dot + 1)) {
      if (digit < '0' || digit > '9') refuse("read the archive", "", "mtime is no number");
      if (unit == 0 && digit != '0') has_rest = true;
      time.nanoseconds += unit * (digit - '0');
      unit /= 10;
    }
  }
  if (!negative) return time;
  // cut off towards the past, as GNU tar does
  if (has_rest) time.nanoseconds++;
  // -1.25 is two seconds before the epoch and three quarters
  if (time.nanoseconds == 0) return Time{-time.seconds, 0};
  return Time{-time.seconds - 1, 1'000'000'000 - time.nanoseconds};
}

}  // namespace berth::unpack
