#include "monitor/cri_format.h"

#include <cstring>

namespace berth {

namespace {

void put_digits(char* at, int count, int64_t value) {
  for (int i = count - 1; i >= 0; --i) {
    at[i] = static_cast<char>('0' + value % 10);
    value /= 10;
  }
}

// "YYYY-MM-DDTHH:MM:SS" in UTC. By arithmetic: the time zone files are the host's, and localtime() takes locks.
void put_date_and_time(char* at, int64_t second) {
  const int64_t days = second / 86400;
  const int64_t of_day = second % 86400;
  // Years begin in March, so that the leap day is the last one.
  const int64_t shifted = days + 719468;
  const int64_t era = shifted / 146097;
  const int64_t day_of_era = shifted % 146097;
  const int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
  const int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  const int64_t month_from_march = (5 * day_of_year + 2) / 153;
  const int64_t day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
  const int64_t month = month_from_march < 10 ? month_from_march + 3 : month_from_march - 9;
  const int64_t year = era * 400 + year_of_era + (month <= 2 ? 1 : 0);
  memcpy(at, "0000-00-00T00:00:00", 19);
  put_digits(at, 4, year);
  put_digits(at + 5, 2, month);
  put_digits(at + 8, 2, day);
  put_digits(at + 11, 2, of_day / 3600);
  put_digits(at + 14, 2, of_day / 60 % 60);
  put_digits(at + 17, 2, of_day % 60);
}

constexpr size_t kFractionAt = 20;
constexpr int kFractionDigits = 9;
constexpr size_t kTagBehind = 2;  // the tag is the last but one byte of the prefix

}  // namespace

RecordFormatter::RecordFormatter(std::string_view stream_name, size_t max_line_bytes)
    : max_line_bytes_(max_line_bytes), held_(new char[max_line_bytes]) {
  memcpy(prefix_, "0000-00-00T00:00:00.000000000Z ", kTimeLength + 1);
  prefix_length_ = kTimeLength + 1;
  memcpy(prefix_ + prefix_length_, stream_name.data(), stream_name.size());
  prefix_length_ += stream_name.size();
  memcpy(prefix_ + prefix_length_, " F ", 3);
  prefix_length_ += 3;
}

void RecordFormatter::set_time(int64_t now_ns) {
  if (now_ns < next_ns_) now_ns = next_ns_;
  next_ns_ = now_ns;
  const int64_t second = now_ns / 1000000000;
  if (second != second_) {
    second_ = second;
    put_date_and_time(prefix_, second);
  }
  put_digits(prefix_ + kFractionAt, kFractionDigits, now_ns % 1000000000);
}

void RecordFormatter::advance_time() {
  // Mostly the last digit alone.
  char* last = prefix_ + kFractionAt + kFractionDigits - 1;
  if (*last < '9') {
    ++*last;
    ++next_ns_;
  } else {
    set_time(next_ns_ + 1);
  }
}

void RecordFormatter::put(const char* text, size_t length, char tag, RecordSink& sink) {
  prefix_[prefix_length_ - kTagBehind] = tag;
  char* at = sink.reserve(prefix_length_ + length + 1);
  memcpy(at, prefix_, prefix_length_);
  memcpy(at + prefix_length_, text, length);
  at[prefix_length_ + length] = '\n';
  sink.commit(prefix_length_ + length + 1);
  advance_time();
}

const char* RecordFormatter::prepend_held(char* before_data) {
  char* begin = before_data - held_length_;
  memcpy(begin, held_.get(), held_length_);
  held_length_ = 0;
  return begin;
}

void RecordFormatter::format(const char* data, size_t length, int64_t now_ns, RecordSink& sink) {
  set_time(now_ns);
  const char* const end = data + length;
  while (data < end) {
    const auto* newline = static_cast<const char*>(memchr(data, '\n', static_cast<size_t>(end - data)));
    const char* const line_end = newline != nullptr ? newline : end;
    while (static_cast<size_t>(line_end - data) > max_line_bytes_) {
      put(data, max_line_bytes_, 'P', sink);
      data += max_line_bytes_;
    }
    const auto rest = static_cast<size_t>(line_end - data);
    if (newline == nullptr) {
      memcpy(held_.get(), data, rest);
      held_length_ = rest;
      return;
    }
    put(data, rest, 'F', sink);
    data = newline + 1;
  }
}

void RecordFormatter::finish(int64_t now_ns, RecordSink& sink) {
  if (held_length_ == 0) return;
  set_time(now_ns);
  put(held_.get(), held_length_, 'P', sink);
  held_length_ = 0;
}

}  // namespace berth
