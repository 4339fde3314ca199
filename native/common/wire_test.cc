#include "common/wire.h"

#include "monitor/check.h"

namespace {

using namespace berth;

void test_numbers() {
  for (const uint64_t value : {uint64_t{1}, uint64_t{127}, uint64_t{128}, uint64_t{300}, uint64_t{1} << 35, ~uint64_t{0}}) {
    WireWriter writer;
    writer.number(3, value);
    WireReader reader(writer.data());
    CHECK(reader.next() && reader.field() == 3 && reader.number() == value);
    CHECK(!reader.next() && reader.ok());
  }
  WireWriter nothing;
  nothing.number(1, 0);
  nothing.bytes(2, "");
  CHECK(nothing.data().empty());
  nothing.message(3, WireWriter());
  CHECK(nothing.data() == std::string("\x1a\x00", 2));

  WireReader zigzag(std::string_view("\x08\x01\x08\x02\x08\xcf\x0f", 7));
  CHECK(zigzag.next() && zigzag.zigzag() == -1);
  CHECK(zigzag.next() && zigzag.zigzag() == 1);
  CHECK(zigzag.next() && zigzag.zigzag() == -1000);
}

void test_unknown_fields() {
  // fixed64 of field 5, fixed32 of field 6, then a string of field 1
  WireReader reader(std::string_view("\x29" "12345678" "\x35" "1234" "\x0a\x02hi", 18));
  CHECK(reader.next() && reader.field() == 5);
  CHECK(reader.next() && reader.field() == 6);
  CHECK(reader.next() && reader.bytes() == "hi");
  CHECK(!reader.next() && reader.ok());
}

void test_packed() {
  std::vector<uint32_t> list;
  WireReader reader(std::string_view("\x0a\x03\x01\xac\x02\x08\x07", 7));
  CHECK(reader.next());
  reader.append_numbers(list);
  CHECK(reader.next());
  reader.append_numbers(list);
  CHECK(reader.ok() && list == std::vector<uint32_t>({1, 300, 7}));
}

void test_malformed() {
  for (const std::string_view bytes : {
           std::string_view("\x08"),                                              // a number is missing
           std::string_view("\x0a\x05hi"),                                        // a string is shorter than it says
           std::string_view("\x00\x01", 2),                                       // field 0
           std::string_view("\x0b\x0c"),                                          // a group
           std::string_view("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),  // a number of eleven bytes
           std::string_view("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01hi"),    // a length near 2^64
           std::string_view("\x29" "1234"),
       }) {
    WireReader reader(bytes);
    while (reader.next()) continue;
    CHECK(!reader.ok());
  }
  WireReader wrong_type(std::string_view("\x08\x01", 2));
  CHECK(wrong_type.next() && wrong_type.bytes().empty() && !wrong_type.ok() && !wrong_type.next());
}

}  // namespace

int main() {
  test_numbers();
  test_unknown_fields();
  test_packed();
  test_malformed();
  return 0;
}
