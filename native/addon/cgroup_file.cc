#include "addon/cgroup_file.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <system_error>

namespace berth {
namespace {

double to_number(std::string_view text) {
  if (text.starts_with("max")) return std::numeric_limits<double>::infinity();
  double value = unknown;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() ? value : unknown;
}

// FNV-1a, as far as a double holds whole numbers.
double fingerprint_of(std::string_view text) {
  uint64_t hash = 14695981039346656037u;
  for (char byte : text) hash = (hash ^ static_cast<unsigned char>(byte)) * 1099511628211u;
  return static_cast<double>(hash >> 11);
}

// Lines of a file whose keys are asked for in the order in which they most often stand: each search goes on where the
// last one ended.
class Lines {
 public:
  explicit Lines(std::string_view text) : text_(text) {}

  // What follows `word` and a space; empty when no line begins so.
  std::string_view after(std::string_view word) {
    size_t begun = at_;
    for (bool wrapped = false;;) {
      if (at_ >= text_.size()) {
        if (wrapped) return {};
        wrapped = true;
        at_ = 0;
        if (begun == 0) return {};
      }
      size_t end = std::min(text_.find('\n', at_), text_.size());
      std::string_view line = text_.substr(at_, end - at_);
      if (line.size() > word.size() && line.starts_with(word) && line[word.size()] == ' ') {
        return line.substr(word.size() + 1);
      }
      at_ = end + 1;
      if (wrapped && at_ >= begun) return {};
    }
  }

 private:
  std::string_view text_;
  size_t at_ = 0;
};

double item_of(std::string_view line, const std::string& item) {
  for (size_t at = line.find(item); at != std::string_view::npos; at = line.find(item, at + 1)) {
    bool whole = at == 0 || line[at - 1] == ' ';
    if (whole && line.substr(at + item.size()).starts_with('=')) return to_number(line.substr(at + item.size() + 1));
  }
  return unknown;
}

}  // namespace

void CgroupFile::parse(std::string_view text, double* values) const {
  if (fingerprint) {
    *values = fingerprint_of(text);
    return;
  }
  Lines lines(text);
  for (const CgroupKey& key : keys) {
    double value = unknown;
    if (key.line.empty()) {
      value = to_number(text);
    } else {
      std::string_view rest = lines.after(key.line);
      if (!rest.empty()) value = key.item.empty() ? to_number(rest) : item_of(rest, key.item);
    }
    *values++ = value * key.factor;
  }
}

}  // namespace berth
