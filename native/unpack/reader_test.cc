// Archives that were damaged at random, read under the sanitizers: every one ends in entries or in a Failure, within
// bounds. The seed is fixed, so that a failure can be repeated; an argument gives another number of rounds.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "common/unique_fd.h"
#include "unpack/failure.h"
#include "unpack/layer_stream.h"
#include "unpack/path.h"
#include "unpack/tar_header.h"
#include "unpack/tar_reader.h"

namespace {

using berth::UniqueFd;
using namespace berth::unpack;

constexpr uint64_t kLimit = 1 << 26;

void set_sum(std::string& archive, size_t at) {
  memset(archive.data() + at + 148, ' ', 8);
  unsigned sum = 0;
  for (size_t i = 0; i < kBlockBytes; i++) sum += static_cast<unsigned char>(archive[at + i]);
  char text[8];
  snprintf(text, sizeof text, "%06o", sum & 0777777);
  memcpy(archive.data() + at + 148, text, 7);
}

void add(std::string& archive, std::vector<size_t>& headers, char type, const std::string& name,
         const std::string& content, bool gnu = false) {
  std::string block(kBlockBytes, '\0');
  block.replace(0, name.size(), name);
  block.replace(100, 7, "0000644");
  char size[12];
  snprintf(size, sizeof size, "%011zo", content.size());
  memcpy(block.data() + 124, size, 11);
  block[156] = type;
  memcpy(block.data() + 157, "target", 6);
  if (gnu) memcpy(block.data() + 257, "ustar  \0", 8);
  else memcpy(block.data() + 257, "ustar\00000", 8);
  if (type == 'S') {
    memcpy(block.data() + 386, "00000000000", 11);
    memcpy(block.data() + 398, "00000000005", 11);
    memcpy(block.data() + 483, "00000001000", 11);
  }
  headers.push_back(archive.size());
  archive += block;
  set_sum(archive, headers.back());
  archive += content;
  archive.resize((archive.size() + kBlockBytes - 1) / kBlockBytes * kBlockBytes);
}

std::string pax(const std::vector<std::string>& records) {
  std::string text;
  for (const std::string& record : records) {
    size_t length = record.size() + 3;
    while (std::to_string(length).size() + record.size() + 2 != length) length++;
    text += std::to_string(length) + " " + record + "\n";
  }
  return text;
}

std::string seed(std::vector<size_t>& headers) {
  std::string archive;
  add(archive, headers, '5', "dir/", "");
  add(archive, headers, '0', "dir/file", "content");
  add(archive, headers, 'L', "././@LongLink", std::string(300, 'n'), true);
  add(archive, headers, 'K', "././@LongLink", std::string(300, 'l'), true);
  add(archive, headers, '2', "short", "", true);
  add(archive, headers, 'x', "pax", pax({"path=a/b", "mtime=-1.5", "uid=5", "SCHILY.xattr.user.x=y", "size=3"}));
  add(archive, headers, '0', "name", "abc");
  add(archive, headers, 'S', "sparse", "01234", true);
  add(archive, headers, 'x', "pax", pax({"GNU.sparse.map=0,2,8,3", "GNU.sparse.size=100", "GNU.sparse.name=s"}));
  add(archive, headers, '0', "sparse01", "01234");
  add(archive, headers, 'x', "pax", pax({"GNU.sparse.offset=4", "GNU.sparse.numbytes=5", "GNU.sparse.size=9"}));
  add(archive, headers, '0', "sparse00", "01234");
  std::string lines = "1\n3\n5\n";
  lines.resize(kBlockBytes);
  add(archive, headers, 'x', "pax",
      pax({"GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.realsize=50", "GNU.sparse.name=z"}));
  add(archive, headers, '0', "sparse10", lines + "01234");
  add(archive, headers, '3', "device", "");
  add(archive, headers, 'g', "global", pax({"comment=x"}));
  add(archive, headers, '6', "fifo", "");
  archive.append(2 * kBlockBytes, '\0');
  return archive;
}

// The number of entries, or -1 for a Failure.
int read_archive(const std::string& archive) {
  const UniqueFd fd(memfd_create("archive", MFD_CLOEXEC));
  if (!fd || write(fd.get(), archive.data(), archive.size()) != static_cast<ssize_t>(archive.size()) ||
      lseek(fd.get(), 0, SEEK_SET) != 0) {
    perror("memfd");
    exit(2);
  }
  try {
    LayerStream stream(fd.get(), kLimit);
    TarReader reader(stream);
    int entries = 0;
    while (const auto entry = reader.next()) {
      entries++;
      const std::string path = clean_path(entry->path);
      if (path.find("..") == 0 || (!path.empty() && path.front() == '/')) {
        fprintf(stderr, "a path leaves the root: %s\n", path.c_str());
        exit(1);
      }
      size_t count = 0;
      uint64_t bytes = 0;
      do {
        reader.take(count);
        bytes += count;
      } while (count > 0);
      if (bytes != entry->stored_bytes) {
        fprintf(stderr, "%s: %zu bytes came, %zu were announced\n", path.c_str(), static_cast<size_t>(bytes),
                static_cast<size_t>(entry->stored_bytes));
        exit(1);
      }
    }
    stream.finish();
    return entries;
  } catch (const Failure&) {
    return -1;
  }
}

uint64_t state = 0x9e3779b97f4a7c15;
uint64_t next_random(uint64_t below) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state % below;
}

}  // namespace

int main(int argc, char** argv) {
  const long rounds = argc > 1 ? atol(argv[1]) : 5'000;
  std::vector<size_t> headers;
  const std::string whole = seed(headers);
  const int expected = 10;
  if (const int entries = read_archive(whole); entries != expected) {
    fprintf(stderr, "the seed has %d entries, not %d\n", entries, expected);
    return 1;
  }
  long accepted = 0;
  for (long round = 0; round < rounds; round++) {
    std::string archive = whole;
    const uint64_t changes = 1 + next_random(4);
    for (uint64_t i = 0; i < changes; i++) {
      const size_t at = next_random(archive.size());
      // digits and separators find more than other bytes do
      static constexpr char kLikely[] = "0179,=. \n-/\0\xff\x80";
      archive[at] = next_random(3) == 0 ? static_cast<char>(next_random(256)) : kLikely[next_random(sizeof kLikely - 1)];
    }
    for (const size_t header : headers) set_sum(archive, header);
    if (next_random(20) == 0) archive.resize(next_random(archive.size()));
    if (read_archive(archive) >= 0) accepted++;
  }
  printf("%ld damaged archives: %ld read, %ld refused\n", rounds, accepted, rounds - accepted);
  return 0;
}
