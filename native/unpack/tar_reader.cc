#include "unpack/tar_reader.h"

#include <algorithm>

#include "unpack/failure.h"
#include "unpack/sparse.h"
#include "unpack/tar_header.h"

namespace berth::unpack {
namespace {

constexpr size_t kMaxPathBytes = 4096;
constexpr size_t kMaxPaxBytes = 1 << 20;
constexpr uint64_t kMaxEntries = 4'000'000;
constexpr std::string_view kAttributePrefix = "SCHILY.xattr.";

uint64_t padding_of(uint64_t size) { return (kBlockBytes - size % kBlockBytes) % kBlockBytes; }

uint32_t checked_id(uint64_t value, const char* name, const std::string& path) {
  // the highest number means "leave it" to the kernel
  if (value >= UINT32_MAX) refuse("read the archive", path, std::string(name) + " is larger than 2^32 - 2");
  return static_cast<uint32_t>(value);
}

uint32_t checked_number(int64_t value, const char* name, const std::string& path) {
  if (value < 0 || value > UINT32_MAX) refuse("read the archive", path, std::string(name) + " is out of range");
  return static_cast<uint32_t>(value);
}

// Nothing for entries that carry no file.
std::optional<EntryType> type_of(const Header& header, const std::string& path) {
  switch (header.type) {
    case '0':
    case '\0':
    case '7':
      // before ustar a directory was a name with a slash at its end
      return !path.empty() && path.back() == '/' ? EntryType::directory : EntryType::regular;
    case 'S':
      return EntryType::regular;
    case '1':
      return EntryType::hard_link;
    case '2':
      return EntryType::symbolic_link;
    case '3':
      return EntryType::character_device;
    case '4':
      return EntryType::block_device;
    case '5':
    case 'D':
      return EntryType::directory;
    case '6':
      return EntryType::fifo;
    case 'V':
      return std::nullopt;
    default:
      refuse("read the archive", path, "entries of type " + std::to_string(static_cast<int>(header.type)) +
                                           " are not known");
  }
}

}  // namespace

std::string TarReader::read_text(int64_t size, size_t limit, const std::string& path) {
  if (static_cast<uint64_t>(size) > limit) refuse("read the archive", path, "an extended header is too long");
  std::string text(static_cast<size_t>(size), '\0');
  stream_.read_exactly(reinterpret_cast<uint8_t*>(text.data()), text.size(), path);
  stream_.skip(padding_of(text.size()), path);
  return text;
}

const uint8_t* TarReader::take(size_t& count) {
  const size_t wanted = static_cast<size_t>(std::min<uint64_t>(left_, SIZE_MAX));
  const uint8_t* view = stream_.take(wanted, count);
  if (count == 0 && left_ > 0) refuse("read the archive", path_, "the archive ends too early");
  left_ -= count;
  return view;
}

std::optional<Entry> TarReader::next() {
  stream_.skip(left_, path_);
  // some writers end right after the last file: umoci insert, for one
  stream_.skip_up_to(padding_);
  left_ = 0;
  padding_ = 0;
  for (;;) {
    uint8_t block[kBlockBytes];
    if (!stream_.read_block(block, sizeof block, path_)) return std::nullopt;
    if (is_zero_block(block)) {
      if (stream_.read_block(block, sizeof block, path_) && !is_zero_block(block)) {
        refuse("read the archive", path_, "a block of zeros stands in the middle of the archive");
      }
      return std::nullopt;
    }
    const Header header = parse_header(block);
    if (++entries_ > kMaxEntries) refuse("read the archive", path_, "the archive has too many entries");
    switch (header.type) {
      case 'g':
        parse_pax(read_text(header.size, kMaxPaxBytes, header.path), global_);
        if (global_.values.size() > 1000) refuse("read the archive", "", "global headers hold too many records");
        continue;
      case 'x':
        local_ = {};
        parse_pax(read_text(header.size, kMaxPaxBytes, header.path), local_);
        continue;
      case 'L':
        long_path_ = read_text(header.size, kMaxPathBytes + 1, header.path).c_str();
        continue;
      case 'K':
        long_link_ = read_text(header.size, kMaxPathBytes + 1, header.path).c_str();
        continue;
      default:
        break;
    }
    std::optional<Entry> entry = assemble(header, block);
    local_ = {};
    long_path_.clear();
    long_link_.clear();
    if (entry) return entry;
    stream_.skip(left_, path_);
    stream_.skip_up_to(padding_);
    left_ = 0;
    padding_ = 0;
  }
}

std::optional<Entry> TarReader::assemble(const Header& header, const uint8_t* block) {
  Entry entry;
  entry.path = long_path_.empty() ? header.path : long_path_;
  entry.link = long_link_.empty() ? header.link : long_link_;
  entry.stored_bytes = static_cast<uint64_t>(header.size);
  entry.modified.seconds = header.modified;
  // what a global header says holds for every entry that does not say otherwise itself
  if (!global_.values.empty()) local_.values.insert(global_.values.begin(), global_.values.end());
  std::erase_if(local_.values, [](const auto& record) {
    return record.second.empty() && !record.first.starts_with(kAttributePrefix);
  });
  apply_pax(entry);
  path_ = entry.path;
  if (!local_.values.contains("uid")) entry.uid = checked_id(static_cast<uint64_t>(header.uid), "uid", path_);
  if (!local_.values.contains("gid")) entry.gid = checked_id(static_cast<uint64_t>(header.gid), "gid", path_);
  entry.mode = static_cast<uint32_t>(header.mode & 07777);
  entry.device_major = checked_number(header.device_major, "the device number", path_);
  entry.device_minor = checked_number(header.device_minor, "the device number", path_);

  const std::optional<EntryType> type = type_of(header, entry.path);
  // a name with a slash at its end may be a directory, and have data nevertheless
  const bool holds_data = !type || std::string_view("0\0007SD", 5).find(header.type) != std::string_view::npos;
  // hard links may carry a size without data; for the others a size has no meaning
  if (!holds_data) entry.stored_bytes = 0;
  if (entry.stored_bytes > kMaxFileBytes) refuse("read the archive", path_, "the file is too large");
  left_ = entry.stored_bytes;
  padding_ = padding_of(entry.stored_bytes);
  entry.file_bytes = entry.stored_bytes;
  if (!type) return std::nullopt;
  entry.type = *type;
  if (header.type == 'S') {
    entry.sparse = true;
    entry.extents = read_gnu_sparse_map(block, stream_, path_, entry.file_bytes);
    check_extents(entry.extents, entry.file_bytes, entry.stored_bytes, path_);
  } else if (entry.type == EntryType::regular) {
    apply_sparse(entry);
  }
  if (entry.path.size() > kMaxPathBytes || entry.link.size() > kMaxPathBytes) {
    refuse("read the archive", entry.path.substr(0, 200), "a path is longer than 4096 bytes");
  }
  if (entry.path.find('\0') != std::string::npos || entry.link.find('\0') != std::string::npos) {
    refuse("read the archive", path_, "a path holds a NUL byte");
  }
  return entry;
}

void TarReader::apply_pax(Entry& entry) {
  for (const auto& [key, value] : local_.values) {
    if (key == "path") entry.path = value;
    else if (key == "linkpath") entry.link = value;
    else if (key == "uid") entry.uid = checked_id(parse_decimal(value, "uid"), "uid", entry.path);
    else if (key == "gid") entry.gid = checked_id(parse_decimal(value, "gid"), "gid", entry.path);
    else if (key == "mtime") entry.modified = parse_time(value);
    else if (key.starts_with(kAttributePrefix)) entry.attributes.emplace_back(key.substr(kAttributePrefix.size()), value);
    else if (key == "size") entry.stored_bytes = parse_decimal(value, "size");
  }
}

void TarReader::apply_sparse(Entry& entry) {
  const auto value_of = [this](const char* key) -> const std::string* {
    const auto found = local_.values.find(key);
    return found == local_.values.end() ? nullptr : &found->second;
  };
  const std::string* major = value_of("GNU.sparse.major");
  const std::string* map = value_of("GNU.sparse.map");
  const bool lines = major != nullptr && *major == "1";
  if (!lines && map == nullptr && local_.extents.empty()) return;
  if (const std::string* name = value_of("GNU.sparse.name")) entry.path = *name;
  const std::string* size = value_of("GNU.sparse.realsize");
  if (size == nullptr) size = value_of("GNU.sparse.size");
  if (size == nullptr) refuse("read the archive", entry.path, "a sparse file has no size");
  entry.sparse = true;
  entry.file_bytes = parse_decimal(*size, "a sparse file's size");
  if (lines) {
    uint64_t consumed = 0;
    entry.extents = read_sparse_lines(stream_, entry.path, entry.stored_bytes, consumed);
    entry.stored_bytes -= consumed;
    left_ -= consumed;
  } else {
    entry.extents = map != nullptr ? parse_sparse_list(*map) : local_.extents;
  }
  check_extents(entry.extents, entry.file_bytes, entry.stored_bytes, entry.path);
}

}  // namespace berth::unpack
