#include "monitor/cri_format.h"

#include <cstring>
#include <string>
#include <vector>

#include "monitor/check.h"

namespace {

using namespace berth;

constexpr int64_t kSecond = 1000000000;

class TextSink final : public RecordSink {
 public:
  char* reserve(size_t size) override {
    const size_t used = used_;
    text_.resize(used + size);
    return text_.data() + used;
  }
  void commit(size_t size) override { used_ += size; }
  std::string take() {
    std::string taken = text_.substr(0, used_);
    text_.clear();
    used_ = 0;
    return taken;
  }

 private:
  std::string text_;
  size_t used_ = 0;
};

// Gives data to a formatter as the log writer does, with what was held back in front.
class Feeder {
 public:
  explicit Feeder(size_t max_line_bytes) : formatter("stdout", max_line_bytes), room_(max_line_bytes) {}
  std::string feed(std::string_view data, int64_t now_ns) {
    std::vector<char> buffer(room_ + data.size());
    memcpy(buffer.data() + room_, data.data(), data.size());
    const char* begin = formatter.prepend_held(buffer.data() + room_);
    formatter.format(begin, static_cast<size_t>(buffer.data() + buffer.size() - begin), now_ns, sink);
    return sink.take();
  }
  std::string finish(int64_t now_ns) {
    formatter.finish(now_ns, sink);
    return sink.take();
  }

  RecordFormatter formatter;
  TextSink sink;

 private:
  const size_t room_;
};

void test_records() {
  Feeder feeder(16384);
  CHECK(feeder.feed("one\ntwo\n", 0) ==
        "1970-01-01T00:00:00.000000000Z stdout F one\n1970-01-01T00:00:00.000000001Z stdout F two\n");
  // The last instant of a leap day, and over into March.
  CHECK(feeder.feed("\n\n", 1709251199 * kSecond + 999999999) ==
        "2024-02-29T23:59:59.999999999Z stdout F \n2024-03-01T00:00:00.000000000Z stdout F \n");
  // A clock that was set back does not take the stream's times back.
  CHECK(feeder.feed("x\n", 5) == "2024-03-01T00:00:00.000000001Z stdout F x\n");
  CHECK(feeder.feed("y\n", 1795506320 * kSecond + 7) == "2026-11-24T07:45:20.000000007Z stdout F y\n");
}

void test_held() {
  Feeder feeder(16384);
  CHECK(feeder.feed("begun ", kSecond).empty());
  CHECK(feeder.feed("and ", kSecond).empty());
  CHECK(feeder.feed("ended\nnext", kSecond * 2) == "1970-01-01T00:00:02.000000000Z stdout F begun and ended\n");
  CHECK(feeder.finish(kSecond * 3) == "1970-01-01T00:00:03.000000000Z stdout P next\n");
  CHECK(feeder.finish(kSecond * 4).empty());
}

void test_long_lines() {
  Feeder feeder(4);
  CHECK(feeder.feed("abcdefghij\n", kSecond) ==
        "1970-01-01T00:00:01.000000000Z stdout P abcd\n"
        "1970-01-01T00:00:01.000000001Z stdout P efgh\n"
        "1970-01-01T00:00:01.000000002Z stdout F ij\n");
  // Exactly the limit is no long line, whether its newline is there already or comes later.
  CHECK(feeder.feed("abcd\n", 2 * kSecond) == "1970-01-01T00:00:02.000000000Z stdout F abcd\n");
  CHECK(feeder.feed("abcd", 3 * kSecond).empty());
  CHECK(feeder.feed("\n", 3 * kSecond) == "1970-01-01T00:00:03.000000000Z stdout F abcd\n");
  CHECK(feeder.feed("abcd", 4 * kSecond).empty());
  CHECK(feeder.feed("e", 4 * kSecond) == "1970-01-01T00:00:04.000000000Z stdout P abcd\n");
  CHECK(feeder.finish(5 * kSecond) == "1970-01-01T00:00:05.000000000Z stdout P e\n");
}

// However the same bytes are cut into reads, the records hold them all, in order, and times grow.
void test_any_cut() {
  std::string input;
  srand(7);
  for (int i = 0; i < 3000; ++i) input.append(static_cast<size_t>(rand() % 40), static_cast<char>('a' + i % 26)) += '\n';
  input += "the end";
  for (const size_t step : {1UL, 7UL, 64UL, 1000UL, 65536UL}) {
    Feeder feeder(16);
    std::string log;
    for (size_t at = 0; at < input.size(); at += step) log += feeder.feed(std::string_view(input).substr(at, step), kSecond);
    log += feeder.finish(kSecond);
    std::string output;
    std::string last_time;
    for (size_t at = 0; at < log.size();) {
      const size_t end = log.find('\n', at);
      const std::string record = log.substr(at, end - at);
      CHECK(record.substr(0, 30) > last_time && record.substr(30, 8) == " stdout ");
      last_time = record.substr(0, 30);
      const char tag = record[38];
      CHECK(record[39] == ' ' && record.size() - 40 <= 16);
      output += record.substr(40);
      if (tag == 'F') output += '\n';
      at = end + 1;
    }
    CHECK(output == input);
  }
}

}  // namespace

int main() {
  test_records();
  test_held();
  test_long_lines();
  test_any_cut();
  return 0;
}
