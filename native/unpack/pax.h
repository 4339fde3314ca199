// Extended headers of POSIX.1-2001 ("pax"): records "LENGTH KEY=VALUE\n".
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "unpack/entry.h"

namespace berth::unpack {

struct PaxRecords {
  // an empty value takes back what was said before, but for extended attributes, which may be empty
  std::map<std::string, std::string> values;
  // GNU.sparse.offset and .numbytes of sparse format 0.0, which repeat
  std::vector<Extent> extents;
};

// Adds the records of one extended header. Throws Failure.
void parse_pax(std::string_view text, PaxRecords& records);

uint64_t parse_decimal(std::string_view text, const char* name);
// "1700000000.123456789", also negative
Time parse_time(std::string_view text);

}  // namespace berth::unpack
