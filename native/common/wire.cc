#include "common/wire.h"

namespace berth {

namespace {
constexpr uint32_t kLargestField = (1U << 29) - 1;
}

bool WireReader::fail() {
  ok_ = false;
  rest_ = {};
  return false;
}

bool WireReader::read_varint(uint64_t& value) {
  value = 0;
  for (size_t i = 0; i < 10; ++i) {
    if (i >= rest_.size()) return false;
    const auto byte = static_cast<uint8_t>(rest_[i]);
    if (i == 9 && byte > 1) return false;
    value |= static_cast<uint64_t>(byte & 0x7f) << (7 * i);
    if ((byte & 0x80) == 0) {
      rest_.remove_prefix(i + 1);
      return true;
    }
  }
  return false;
}

bool WireReader::next() {
  if (rest_.empty()) return false;
  uint64_t tag = 0;
  if (!read_varint(tag)) return fail();
  if (tag >> 3 == 0 || tag >> 3 > kLargestField) return fail();
  field_ = static_cast<uint32_t>(tag >> 3);
  type_ = static_cast<Type>(tag & 7);
  switch (type_) {
    case Type::kVarint:
      return read_varint(number_) || fail();
    case Type::kBytes: {
      uint64_t length = 0;
      if (!read_varint(length) || length > rest_.size()) return fail();
      bytes_ = rest_.substr(0, length);
      rest_.remove_prefix(length);
      return true;
    }
    case Type::kFixed64:
    case Type::kFixed32: {
      const size_t length = type_ == Type::kFixed64 ? 8 : 4;
      if (rest_.size() < length) return fail();
      rest_.remove_prefix(length);
      return true;
    }
  }
  return fail();
}

uint64_t WireReader::number() {
  if (type_ == Type::kVarint) return number_;
  fail();
  return 0;
}

int64_t WireReader::zigzag() {
  const uint64_t value = number();
  return static_cast<int64_t>(value >> 1) ^ -static_cast<int64_t>(value & 1);
}

std::string_view WireReader::bytes() {
  if (type_ == Type::kBytes) return bytes_;
  fail();
  return {};
}

void WireReader::append_numbers(std::vector<uint32_t>& list) {
  if (type_ == Type::kVarint) {
    list.push_back(static_cast<uint32_t>(number_));
    return;
  }
  WireReader packed(bytes());
  while (ok_ && !packed.rest_.empty()) {
    uint64_t value = 0;
    if (!packed.read_varint(value)) {
      fail();
      return;
    }
    list.push_back(static_cast<uint32_t>(value));
  }
}

void WireWriter::varint(uint64_t value) {
  while (value >= 0x80) {
    data_.push_back(static_cast<char>(value | 0x80));
    value >>= 7;
  }
  data_.push_back(static_cast<char>(value));
}

void WireWriter::number(uint32_t field, uint64_t value) {
  if (value == 0) return;
  varint(static_cast<uint64_t>(field) << 3);
  varint(value);
}

void WireWriter::bytes(uint32_t field, std::string_view value) {
  if (value.empty()) return;
  varint(static_cast<uint64_t>(field) << 3 | 2);
  varint(value.size());
  data_.append(value);
}

void WireWriter::message(uint32_t field, const WireWriter& value) {
  varint(static_cast<uint64_t>(field) << 3 | 2);
  varint(value.data_.size());
  data_.append(value.data_);
}

}  // namespace berth
