// Protobuf's wire format, as far as monitor.proto uses it: varints, strings, bytes, nested messages, packed numbers.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace berth {

// Walks over the fields of one message. Malformed input ends the walk with ok() false; the bytes it was given must outlive
// it. A field that the caller does not know is stepped over by calling next() again.
class WireReader {
 public:
  explicit WireReader(std::string_view bytes) : rest_(bytes) {}

  bool next();
  bool ok() const { return ok_; }
  uint32_t field() const { return field_; }

  // The value of the current field; a field of another wire type makes the whole message malformed.
  uint64_t number();
  uint32_t number32() { return static_cast<uint32_t>(number()); }
  int64_t zigzag();
  bool boolean() { return number() != 0; }
  std::string_view bytes();
  std::string text() { return std::string(bytes()); }
  // One element, or a packed run of them.
  void append_numbers(std::vector<uint32_t>& list);

 private:
  enum class Type : uint8_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

  bool read_varint(uint64_t& value);
  bool fail();

  std::string_view rest_;
  std::string_view bytes_;
  uint64_t number_ = 0;
  uint32_t field_ = 0;
  Type type_ = Type::kVarint;
  bool ok_ = true;
};

// Appends fields to a message. Numbers of zero, false and empty strings are left out, as proto3 has it.
class WireWriter {
 public:
  void number(uint32_t field, uint64_t value);
  void signed_number(uint32_t field, int64_t value) { number(field, static_cast<uint64_t>(value)); }
  void bytes(uint32_t field, std::string_view value);
  // Also written when it is empty: a message that is there and one that is not are different things.
  void message(uint32_t field, const WireWriter& value);

  const std::string& data() const { return data_; }

 private:
  void varint(uint64_t value);

  std::string data_;
};

}  // namespace berth
