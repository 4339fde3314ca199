#include "unpack/report.h"

#include <unistd.h>

#include <cstdio>

namespace berth::unpack {

std::string quoted(std::string_view text) {
  std::string json = "\"";
  for (const char character : text) {
    const unsigned char byte = static_cast<unsigned char>(character);
    if (byte == '"' || byte == '\\') {
      json += '\\';
      json += character;
    } else if (byte < 0x20 || byte >= 0x7f) {
      char escape[8];
      snprintf(escape, sizeof escape, "\\u%04x", byte);
      json += escape;
    } else {
      json += character;
    }
  }
  return json + '"';
}

void write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t count = write(fd, text.data(), text.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail("write", "the result");
    text.remove_prefix(static_cast<size_t>(count));
  }
}

void write_line(int fd, std::string line) { write_all(fd, line + '\n'); }

void report(const Failure& failure, std::string_view request_id) {
  const std::string line = "{\"step\":" + quoted(failure.step) + ",\"path\":" + quoted(failure.path) +
                           ",\"errno\":" + std::to_string(failure.errno_value) +
                           ",\"message\":" + quoted(failure.message) +
                           (request_id.empty() ? "" : ",\"request\":" + quoted(request_id)) + "}\n";
  [[maybe_unused]] const ssize_t ignored = write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace berth::unpack
