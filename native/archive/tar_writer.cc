#include "archive/tar_writer.h"

#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "unpack/failure.h"

namespace berth::archive {
namespace {

using unpack::fail;
using unpack::refuse;

constexpr size_t kBlock = 512;
constexpr size_t kNameBytes = 100;
// what fits into seven and into eleven octal digits
constexpr uint64_t kMaxId = 07777777;
constexpr uint64_t kMaxNumber = 077777777777;

using Block = std::array<char, kBlock>;
using Records = std::vector<std::pair<std::string, std::string>>;

void put_octal(Block& block, size_t offset, size_t width, uint64_t value) {
  for (size_t i = offset + width - 1; i-- > offset; value >>= 3) block[i] = static_cast<char>('0' + (value & 7));
}

void put_text(Block& block, size_t offset, size_t width, const std::string& text) {
  memcpy(block.data() + offset, text.data(), std::min(width, text.size()));
}

Block make_block(char type, const std::string& path, mode_t mode, uint64_t uid, uint64_t gid, uint64_t size,
                 uint64_t modified, const std::string& link, dev_t device) {
  Block block{};
  put_text(block, 0, kNameBytes, path);
  put_octal(block, 100, 8, mode & 07777);
  put_octal(block, 108, 8, uid);
  put_octal(block, 116, 8, gid);
  put_octal(block, 124, 12, size);
  put_octal(block, 136, 12, modified);
  block[156] = type;
  put_text(block, 157, kNameBytes, link);
  memcpy(block.data() + 257, "ustar\0" "00", 8);
  put_octal(block, 329, 8, major(device));
  put_octal(block, 337, 8, minor(device));
  memset(block.data() + 148, ' ', 8);
  unsigned sum = 0;
  for (const char byte : block) sum += static_cast<unsigned char>(byte);
  put_octal(block, 148, 7, sum);
  return block;
}

// "LENGTH KEY=VALUE\n", the length of itself, too
std::string pax_record(const std::string& key, const std::string& value) {
  const size_t rest = key.size() + value.size() + 3;
  size_t length = rest + 1;
  while (std::to_string(length).size() + rest != length) length = std::to_string(length).size() + rest;
  return std::to_string(length) + " " + key + "=" + value + "\n";
}

std::string time_text(const timespec& time) {
  // the fraction of a time before 1970 counts from the other side
  const bool is_before = time.tv_sec < 0 && time.tv_nsec > 0;
  const int64_t seconds = is_before ? time.tv_sec + 1 : time.tv_sec;
  const long nanoseconds = is_before ? 1'000'000'000 - time.tv_nsec : time.tv_nsec;
  std::string text = std::to_string(seconds);
  if (is_before && seconds == 0) text = "-0";
  if (nanoseconds == 0) return text;
  char fraction[16];
  snprintf(fraction, sizeof fraction, ".%09ld", nanoseconds);
  text += fraction;
  return text.substr(0, text.find_last_not_of('0') + 1);
}

}  // namespace

void TarWriter::pad(uint64_t size) {
  static constexpr char kZeros[kBlock] = {};
  if (size % kBlock != 0) sink_.write(kZeros, kBlock - size % kBlock);
}

void TarWriter::write_header(char type, const std::string& path, const struct stat& status, uint64_t stored_bytes,
                             const std::string& link, Records records) {
  const timespec& modified = status.st_mtim;
  const bool has_plain_time =
      modified.tv_nsec == 0 && modified.tv_sec >= 0 && static_cast<uint64_t>(modified.tv_sec) <= kMaxNumber;
  if (path.size() > kNameBytes) records.emplace_back("path", path);
  if (link.size() > kNameBytes) records.emplace_back("linkpath", link);
  if (stored_bytes > kMaxNumber) records.emplace_back("size", std::to_string(stored_bytes));
  if (status.st_uid > kMaxId) records.emplace_back("uid", std::to_string(status.st_uid));
  if (status.st_gid > kMaxId) records.emplace_back("gid", std::to_string(status.st_gid));
  if (!has_plain_time) records.emplace_back("mtime", time_text(modified));
  if (!records.empty()) {
    std::string text;
    for (const auto& [key, value] : records) text += pax_record(key, value);
    const Block block = make_block('x', "pax", 0644, 0, 0, text.size(), 0, "", 0);
    sink_.write(block.data(), block.size());
    sink_.write(text.data(), text.size());
    pad(text.size());
  }
  const auto bounded = [](uint64_t value, uint64_t most) { return value > most ? 0 : value; };
  const bool is_device = S_ISCHR(status.st_mode) || S_ISBLK(status.st_mode);
  const Block block =
      make_block(type, path, status.st_mode, bounded(status.st_uid, kMaxId), bounded(status.st_gid, kMaxId),
                 bounded(stored_bytes, kMaxNumber), modified.tv_sec < 0 ? 0 : bounded(modified.tv_sec, kMaxNumber), link,
                 is_device ? status.st_rdev : 0);
  sink_.write(block.data(), block.size());
}

namespace {

Records records_of(const Attributes& attributes) {
  Records records;
  for (const auto& [name, value] : attributes) records.emplace_back("SCHILY.xattr." + name, value);
  return records;
}

char type_of(mode_t mode) {
  switch (mode & S_IFMT) {
    case S_IFLNK:
      return '2';
    case S_IFCHR:
      return '3';
    case S_IFBLK:
      return '4';
    case S_IFDIR:
      return '5';
    case S_IFIFO:
      return '6';
    default:
      return '0';
  }
}

}  // namespace

void TarWriter::write_node(const std::string& path, const struct stat& status, const std::string& link,
                           const Attributes& attributes) {
  const char type = type_of(status.st_mode);
  write_header(type, type == '5' ? path + "/" : path, status, 0, link, records_of(attributes));
}

void TarWriter::write_hard_link(const std::string& path, const struct stat& status, const std::string& target) {
  write_header('1', path, status, 0, target, {});
}

void TarWriter::copy(int fd, const Extent& extent, const std::string& path) {
  std::array<char, 65536> buffer;
  if (lseek(fd, static_cast<off_t>(extent.offset), SEEK_SET) < 0) fail("lseek", path);
  for (uint64_t left = extent.size; left > 0;) {
    const ssize_t count = read(fd, buffer.data(), std::min<uint64_t>(buffer.size(), left));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail("read", path);
    if (count == 0) refuse("read", path, "the file became shorter meanwhile");
    sink_.write(buffer.data(), static_cast<size_t>(count));
    left -= static_cast<size_t>(count);
  }
}

void TarWriter::write_file(const std::string& path, const struct stat& status, const Attributes& attributes, int fd,
                           const std::vector<Extent>& extents) {
  const uint64_t size = static_cast<uint64_t>(status.st_size);
  Records records = records_of(attributes);
  if (extents.empty()) {
    write_header('0', path, status, size, "", std::move(records));
    copy(fd, {0, size}, path);
    return pad(size);
  }
  // GNU's sparse format 1.0: the map stands before the data, in decimal, and fills whole blocks
  std::string map = std::to_string(extents.size()) + "\n";
  uint64_t stored = 0;
  for (const Extent& extent : extents) {
    map += std::to_string(extent.offset) + "\n" + std::to_string(extent.size) + "\n";
    stored += extent.size;
  }
  map.resize((map.size() + kBlock - 1) / kBlock * kBlock);
  stored += map.size();
  records.emplace_back("GNU.sparse.major", "1");
  records.emplace_back("GNU.sparse.minor", "0");
  records.emplace_back("GNU.sparse.name", path);
  records.emplace_back("GNU.sparse.realsize", std::to_string(size));
  write_header('0', path, status, stored, "", std::move(records));
  sink_.write(map.data(), map.size());
  for (const Extent& extent : extents) copy(fd, extent, path);
  pad(stored);
}

void TarWriter::finish() {
  static constexpr char kEnd[2 * kBlock] = {};
  sink_.write(kEnd, sizeof kEnd);
  sink_.finish();
}

}  // namespace berth::archive
