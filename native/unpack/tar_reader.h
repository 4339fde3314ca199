// Entries of a tar archive, one after another, with pax and GNU extensions applied.
#pragma once

#include <optional>
#include <string>

#include "unpack/entry.h"
#include "unpack/layer_stream.h"
#include "unpack/pax.h"

namespace berth::unpack {

class TarReader {
 public:
  explicit TarReader(LayerStream& stream) : stream_(stream) {}

  // The next entry, or nothing at the end of the archive. What the caller did not read of the entry before is skipped.
  std::optional<Entry> next();
  // A view of the entry's next stored bytes; 0: no more.
  const uint8_t* take(size_t& count);

 private:
  std::string read_text(int64_t size, size_t limit, const std::string& path);
  std::optional<Entry> assemble(const struct Header& header, const uint8_t* block);
  void apply_pax(Entry& entry);
  void apply_sparse(Entry& entry);

  LayerStream& stream_;
  PaxRecords global_;
  PaxRecords local_;
  std::string long_path_;
  std::string long_link_;
  std::string path_;
  uint64_t left_ = 0;
  uint64_t padding_ = 0;
  uint64_t entries_ = 0;
};

}  // namespace berth::unpack
