// Entries of a tar archive (POSIX pax), as few extended headers as possible: two equal trees make equal bytes.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "archive/sink.h"

namespace berth::archive {

using Attributes = std::vector<std::pair<std::string, std::string>>;

// A piece of a file that holds data.
struct Extent {
  uint64_t offset;
  uint64_t size;
};

class TarWriter {
 public:
  explicit TarWriter(GzipSink& sink) : sink_(sink) {}

  // A directory, symbolic link, device or fifo; or a file without content.
  void write_node(const std::string& path, const struct stat& status, const std::string& link,
                  const Attributes& attributes);
  void write_hard_link(const std::string& path, const struct stat& status, const std::string& target);
  // A file whose content follows from the descriptor. Extents: only these pieces of it hold data; none: all of it does.
  void write_file(const std::string& path, const struct stat& status, const Attributes& attributes, int fd,
                  const std::vector<Extent>& extents);
  void finish();

 private:
  void write_header(char type, const std::string& path, const struct stat& status, uint64_t stored_bytes,
                    const std::string& link, std::vector<std::pair<std::string, std::string>> records);
  void copy(int fd, const Extent& extent, const std::string& path);
  void pad(uint64_t size);

  GzipSink& sink_;
};

}  // namespace berth::archive
