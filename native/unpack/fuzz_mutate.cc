#include <isa-l/igzip_lib.h>
#include <zstd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "unpack/fuzz.h"
#include "unpack/tar_header.h"

namespace berth::unpack {
namespace {

constexpr size_t kMaxInputBytes = 64 * 1024;

void set_sum(char* header) {
  memset(header + 148, ' ', 8);
  unsigned sum = 0;
  for (size_t i = 0; i < kBlockBytes; i++) sum += static_cast<unsigned char>(header[i]);
  char text[8];
  snprintf(text, sizeof text, "%06o", sum & 0777777);
  memcpy(header + 148, text, 7);
}

bool looks_like_header(const char* block) { return memcmp(block + 257, "ustar", 5) == 0; }

// Values that are at the edge of something.
constexpr const char* kNumbers[] = {"00000000000", "00000000001", "77777777777", "00000001000", "00000000777",
                                    "-0000000001", "20000000000", "00037777777", "9", ""};
constexpr const char* kNames[] = {"..",         "../x",        "/",         "/etc/passwd", "a/../../b", ".wh.",
                                  ".wh..wh..opq", ".wh.file",   ".wh..",     "dir",         "dir/link",  "dir/link/x",
                                  "dir/.wh.x",  "././@LongLink", "a//b/./c/", "new\nline",   ".wh..wh.plnk/x", "dir/.wh..wh..opq"};
constexpr const char* kRecords[] = {"path=../x", "linkpath=/", "size=18446744073709551615", "size=0", "uid=4294967295",
                                    "mtime=-9223372036854775808.9", "mtime=1.", "GNU.sparse.major=1", "GNU.sparse.map=0,1",
                                    "GNU.sparse.offset=9", "GNU.sparse.numbytes=9", "GNU.sparse.size=9",
                                    "GNU.sparse.realsize=8796093022208", "SCHILY.xattr.trusted.overlay.opaque=y",
                                    "SCHILY.xattr.security.capability=x", "SCHILY.xattr.user.=", "SCHILY.xattr.=x", "path=",
                                    "SCHILY.xattr.user.empty=", "uid="};
constexpr char kTypes[] = "01234567DgxLKSVA\0";

std::string record(const char* text) {
  size_t length = strlen(text) + 3;
  while (std::to_string(length).size() + strlen(text) + 2 != length) length++;
  return std::to_string(length) + " " + text + "\n";
}

template <size_t count>
const char* one_of(const char* const (&list)[count], FuzzRandom& random) {
  return list[random.below(count)];
}

void put(std::string& input, size_t at, const std::string& text) {
  if (at + text.size() <= input.size()) input.replace(at, text.size(), text);
}

// One change within a header.
void change_header(std::string& input, size_t block, FuzzRandom& random) {
  static constexpr struct {
    size_t at;
    size_t size;
  } kFields[] = {{100, 8}, {108, 8}, {116, 8}, {124, 12}, {136, 12}, {329, 8}, {337, 8}, {386, 12}, {398, 12}, {483, 12}};
  switch (random.below(6)) {
    case 0: {
      const auto& field = kFields[random.below(std::size(kFields))];
      std::string number = one_of(kNumbers, random);
      number.resize(field.size, '\0');
      return put(input, block + field.at, number);
    }
    case 1: {
      const auto& field = kFields[random.below(std::size(kFields))];
      std::string number(field.size, random.below(2) == 0 ? '\xff' : '\0');
      number[0] = random.below(2) == 0 ? '\x80' : '\xff';
      number[field.size - 1] = static_cast<char>(random.below(256));
      return put(input, block + field.at, number);
    }
    case 2:
    case 3: {
      std::string name = one_of(kNames, random);
      name.resize(100, '\0');
      return put(input, block + (random.below(2) == 0 ? 0 : 157), name);
    }
    case 4:
      input[block + 156] = kTypes[random.below(sizeof kTypes)];
      return;
    default:
      return put(input, block + 257, random.below(2) == 0 ? std::string("ustar  \0", 8) : std::string("ustar\00000", 8));
  }
}

void change_bytes(std::string& input, FuzzRandom& random) {
  static constexpr char kLikely[] = "0179,=. \n-/\0\xff\x80";
  const size_t at = random.below(input.size());
  if (random.below(3) == 0) input[at] = static_cast<char>(random.below(256));
  else input[at] = kLikely[random.below(sizeof kLikely - 1)];
}

void change_archive(std::string& input, const std::string& other, FuzzRandom& random) {
  const size_t blocks = std::max<size_t>(1, input.size() / kBlockBytes);
  const size_t block = random.below(blocks) * kBlockBytes;
  const size_t count = std::min<size_t>((1 + random.below(4)) * kBlockBytes, input.size() - std::min(block, input.size()));
  switch (random.below(8)) {
    case 0:
      input.erase(block, count);
      break;
    case 1:
      input.insert(block, input.substr(block, count));
      break;
    case 2: {
      const size_t from = random.below(std::max<size_t>(1, other.size() / kBlockBytes)) * kBlockBytes;
      input.insert(block, other.substr(from, (1 + random.below(6)) * kBlockBytes));
      break;
    }
    case 3:
      put(input, block, record(one_of(kRecords, random)));
      break;
    case 4:
      change_bytes(input, random);
      break;
    default:
      if (block + kBlockBytes <= input.size()) change_header(input, block, random);
  }
}

std::string compressed_gzip(const std::string& input) {
  isal_zstream stream;
  isal_deflate_init(&stream);
  std::string output(input.size() + 1024, '\0');
  stream.gzip_flag = IGZIP_GZIP;
  stream.end_of_stream = 1;
  stream.next_in = reinterpret_cast<uint8_t*>(const_cast<char*>(input.data()));
  stream.avail_in = static_cast<uint32_t>(input.size());
  stream.next_out = reinterpret_cast<uint8_t*>(output.data());
  stream.avail_out = static_cast<uint32_t>(output.size());
  isal_deflate(&stream);
  output.resize(stream.total_out);
  return output;
}

std::string compressed_zstd(const std::string& input) {
  std::string output(ZSTD_compressBound(input.size()), '\0');
  const size_t size = ZSTD_compress(output.data(), output.size(), input.data(), input.size(), 1);
  output.resize(ZSTD_isError(size) ? 0 : size);
  return output;
}

std::string compressed(const std::string& input, FuzzRandom& random) {
  const auto one = random.below(2) == 0 ? compressed_gzip : compressed_zstd;
  if (random.below(3) != 0) return one(input);
  const size_t cut = random.below(input.size() + 1);
  std::string output = one(input.substr(0, cut)) + one(input.substr(cut));
  if (random.below(4) == 0) output.append(random.below(600), '\0');
  return output;
}

}  // namespace

std::string mutate(const std::string& input, const std::string& other, FuzzRandom& random) {
  std::string output = input;
  if (output.empty()) output = other;
  const uint64_t changes = 1 + random.below(5);
  const bool is_archive = output.size() >= kBlockBytes && looks_like_header(output.data());
  for (uint64_t i = 0; i < changes && !output.empty(); i++) {
    if (is_archive) change_archive(output, other, random);
    else change_bytes(output, random);
  }
  if (output.size() > kMaxInputBytes) output.resize(kMaxInputBytes);
  if (is_archive && random.below(16) != 0) {
    for (size_t block = 0; block + kBlockBytes <= output.size(); block += kBlockBytes) {
      if (looks_like_header(output.data() + block)) set_sum(output.data() + block);
    }
  }
  if (random.below(16) == 0) output.resize(random.below(output.size() + 1));
  if (!is_archive || output.empty() || random.below(8) != 0) return output;
  output = compressed(output, random);
  if (random.below(2) == 0 && !output.empty()) change_bytes(output, random);
  return output;
}

namespace {

void add(std::string& archive, char type, const std::string& name, const std::string& content, bool gnu = false,
         const std::string& link = "target") {
  std::string block(kBlockBytes, '\0');
  block.replace(0, name.size(), name);
  block.replace(100, 7, "0000644");
  char size[12];
  snprintf(size, sizeof size, "%011zo", content.size());
  block.replace(124, 11, size);
  block[156] = type;
  block.replace(157, link.size(), link);
  block.replace(257, 8, gnu ? std::string("ustar  \0", 8) : std::string("ustar\00000", 8));
  if (type == 'S') {
    block.replace(386, 11, "00000000000");
    block.replace(398, 11, "00000000005");
    block.replace(483, 11, "00000001000");
  }
  set_sum(block.data());
  archive += block + content;
  archive.resize((archive.size() + kBlockBytes - 1) / kBlockBytes * kBlockBytes);
}

std::string records(const std::vector<const char*>& list) {
  std::string text;
  for (const char* one : list) text += record(one);
  return text;
}

}  // namespace

std::vector<std::string> fuzz_seeds() {
  std::string files;
  add(files, '5', "dir/", "");
  add(files, '0', "dir/file", "content");
  add(files, '1', "dir/hard", "", false, "dir/file");
  add(files, '2', "dir/link", "", false, "../outside");
  add(files, '3', "device", "");
  add(files, '4', "block", "");
  add(files, '6', "fifo", "");
  add(files, '0', "dir/link/x", "through");
  add(files, '0', "dir/.wh.gone", "");
  add(files, '0', "dir/.wh..wh..opq", "");
  std::string names;
  add(names, 'L', "././@LongLink", std::string(300, 'n'), true);
  add(names, 'K', "././@LongLink", std::string(300, 'l'), true);
  add(names, '2', "short", "", true);
  add(names, 'g', "global", records({"comment=x", "mtime=5.5"}));
  add(names, 'x', "pax", records({"path=a/b", "mtime=-1.5", "uid=5", "SCHILY.xattr.user.x=y", "size=3"}));
  add(names, '0', "name", "abc");
  std::string sparse;
  add(sparse, 'S', "sparse", "01234", true);
  add(sparse, 'x', "pax", records({"GNU.sparse.map=0,2,8,3", "GNU.sparse.size=100", "GNU.sparse.name=s"}));
  add(sparse, '0', "sparse01", "01234");
  add(sparse, 'x', "pax", records({"GNU.sparse.offset=4", "GNU.sparse.numbytes=5", "GNU.sparse.size=9"}));
  add(sparse, '0', "sparse00", "01234");
  add(sparse, 'x', "pax",
      records({"GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.realsize=50", "GNU.sparse.name=z"}));
  std::string lines = "1\n3\n5\n";
  lines.resize(kBlockBytes);
  add(sparse, '0', "sparse10", lines + "01234");
  std::vector<std::string> seeds{files, names, sparse};
  for (std::string& seed : seeds) seed.append(2 * kBlockBytes, '\0');
  seeds.push_back(compressed_gzip(seeds[0]) + compressed_gzip(seeds[1]));
  seeds.push_back(compressed_zstd(seeds[2]));
  return seeds;
}

}  // namespace berth::unpack
