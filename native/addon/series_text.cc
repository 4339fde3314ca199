// Prometheus' text of tables of numbers, written in pieces on a thread of its own: five hundred containers have some
// 45,000 series, which would keep the event loop for a tenth of a second.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "addon/arguments.h"
#include "addon/functions.h"
#include "addon/gzip_text.h"
#include "addon/own_thread.h"

namespace berth {
namespace {

// A piece is handed on when it is longer than this;
constexpr size_t piece_length = 256 << 10;
// a compressed one, of about as much text, when it is longer than this: each is a way to the loop's thread and back.
constexpr size_t compressed_length = 32 << 10;
// Beyond, a double holds no whole numbers one by one.
constexpr double whole_numbers = 9007199254740992.0;

struct Column {
  size_t column;
  std::string labels;  // `,name="value"` each, or empty
};

struct Family {
  std::string heading;
  std::string name;
  size_t table;
  std::vector<Column> columns;
};

// A row of `width` values for each of the labels; NaN: there is no such series.
struct Table {
  size_t width;
  std::vector<std::string> labels;
  std::vector<double> values;
};

struct Tables {
  std::vector<Family> families;
  std::vector<size_t> widths;
};

void append_number(double value, std::string* text) {
  if (std::isinf(value)) {
    text->append(value > 0 ? "+Inf" : "-Inf");
    return;
  }
  char digits[32];
  bool whole = std::trunc(value) == value && std::fabs(value) <= whole_numbers;
  auto [end, error] = whole ? std::to_chars(digits, digits + sizeof digits, static_cast<int64_t>(value))
                            : std::to_chars(digits, digits + sizeof digits, value);
  text->append(digits, error == std::errc() ? static_cast<size_t>(end - digits) : 0);
}

class Writing {
 public:
  Writing(std::shared_ptr<const Tables> about, bool compressed) : about_(std::move(about)) {
    for (size_t width : about_->widths) tables_.push_back({width, {}, {}});
    if (compressed) gzip_.emplace();
  }

  // False: there is no such table, or the values are not those of so many rows.
  bool add(size_t table, std::vector<std::string> labels, const double* values, size_t count) {
    if (table >= tables_.size() || count != labels.size() * tables_[table].width) return false;
    Table& to = tables_[table];
    std::move(labels.begin(), labels.end(), std::back_inserter(to.labels));
    to.values.insert(to.values.end(), values, values + count);
    return true;
  }

  // Bytes of the next piece; 0: all is written.
  size_t next() {
    begin_piece();
    while (family_ < about_->families.size() && piece_.size() < (gzip_ ? compressed_length : piece_length)) {
      std::string& text = gzip_ ? text_ : piece_;
      text.clear();
      text.reserve(piece_length + 4096);
      write_rows(&text);
      if (gzip_) gzip_->add(text, false, &piece_);
    }
    return piece_.size();
  }

  // The last piece, of a text that follows.
  size_t finish(std::string_view text) {
    begin_piece();
    if (gzip_) {
      gzip_->add(text, true, &piece_);
    } else {
      piece_.append(text);
    }
    return piece_.size();
  }

  // Of the piece; how many bytes. 0: it is taken.
  size_t take(char* into, size_t room) {
    size_t length = piece_.copy(into, room, taken_);
    taken_ += length;
    return length;
  }

 private:
  void begin_piece() {
    piece_.clear();
    taken_ = 0;
  }

  void write_rows(std::string* text) {
    for (; family_ < about_->families.size(); family_++, row_ = 0, headed_ = false) {
      const Family& family = about_->families[family_];
      const Table& table = tables_[family.table];
      while (row_ < table.labels.size()) {
        write_row(family, table, row_++, text);
        if (text->size() >= piece_length) return;
      }
    }
  }

  void write_row(const Family& family, const Table& table, size_t row, std::string* text) {
    const double* values = table.values.data() + row * table.width;
    for (const Column& column : family.columns) {
      double value = values[column.column];
      if (std::isnan(value)) continue;
      if (!headed_) text->append(family.heading);
      headed_ = true;
      text->append(family.name).append("{").append(table.labels[row]).append(column.labels).append("} ");
      append_number(value, text);
      text->push_back('\n');
    }
  }

  std::shared_ptr<const Tables> about_;
  std::vector<Table> tables_;
  size_t family_ = 0;
  size_t row_ = 0;
  bool headed_ = false;
  // What is compressed next.
  std::string text_;
  std::optional<GzipText> gzip_;
  std::string piece_;
  size_t taken_ = 0;
};

Family to_family(const Napi::Object& value) {
  Family family{text_field(value, "heading"), text_field(value, "name"),
                static_cast<size_t>(int_field(value, "table")), {}};
  Napi::Array columns = object_field(value, "columns").As<Napi::Array>();
  for (uint32_t i = 0; i < columns.Length(); i++) {
    Napi::Object column = columns.Get(i).As<Napi::Object>();
    family.columns.push_back({static_cast<size_t>(int_field(column, "column")), text_field(column, "labels")});
  }
  return family;
}

void check(const Tables& about, Napi::Env env) {
  for (const Family& family : about.families) {
    bool fits = family.table < about.widths.size();
    for (const Column& column : family.columns) fits = fits && column.column < about.widths[family.table];
    if (!fits) throw Napi::TypeError::New(env, family.name + " has no column in the tables");
  }
}

void add_rows(Writing* writing, const Napi::CallbackInfo& call) {
  std::vector<std::string> labels = to_texts(call[1], "labels");
  if (!call[0].IsNumber() || !call[2].IsTypedArray() ||
      call[2].As<Napi::TypedArray>().TypedArrayType() != napi_float64_array) {
    throw Napi::TypeError::New(call.Env(), "table is no number, or values are no Float64Array");
  }
  Napi::Float64Array values = call[2].As<Napi::Float64Array>();
  if (!writing->add(call[0].ToNumber().Uint32Value(), std::move(labels), values.Data(), values.ElementLength())) {
    throw Napi::TypeError::New(call.Env(), "there is no such table, or values has another number of rows than labels");
  }
}

Napi::Value begin_writing(const std::shared_ptr<const Tables>& about, const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  auto writing = std::make_shared<Writing>(about, info[0].ToBoolean());
  Napi::Object result = Napi::Object::New(env);
  result.Set("add", Napi::Function::New(env, [writing](const Napi::CallbackInfo& call) -> Napi::Value {
               add_rows(writing.get(), call);
               return call.Env().Undefined();
             }));
  result.Set("next", Napi::Function::New(env, [writing](const Napi::CallbackInfo& call) -> Napi::Value {
               return on_yielding_thread(call.Env(), [writing]() -> Settle {
                 return settle_number(static_cast<double>(writing->next()));
               });
             }));
  result.Set("finish", Napi::Function::New(env, [writing](const Napi::CallbackInfo& call) -> Napi::Value {
               std::string text = string_argument(call, 0, "text");
               return on_yielding_thread(call.Env(), [writing, text = std::move(text)]() -> Settle {
                 return settle_number(static_cast<double>(writing->finish(text)));
               });
             }));
  result.Set("take", Napi::Function::New(env, [writing](const Napi::CallbackInfo& call) -> Napi::Value {
               if (!call[0].IsBuffer()) throw Napi::TypeError::New(call.Env(), "into is no Buffer");
               Napi::Buffer<char> into = call[0].As<Napi::Buffer<char>>();
               return Napi::Number::New(call.Env(), static_cast<double>(writing->take(into.Data(), into.Length())));
             }));
  return result;
}

Napi::Value open_series_text(const Napi::CallbackInfo& info) {
  Napi::Array given = object_argument(info, 0, "families").As<Napi::Array>();
  Napi::Array widths = object_argument(info, 1, "widths").As<Napi::Array>();
  auto about = std::make_shared<Tables>();
  for (uint32_t i = 0; i < given.Length(); i++) about->families.push_back(to_family(given.Get(i).As<Napi::Object>()));
  for (uint32_t i = 0; i < widths.Length(); i++) about->widths.push_back(widths.Get(i).ToNumber().Uint32Value());
  check(*about, info.Env());
  Napi::Object result = Napi::Object::New(info.Env());
  std::shared_ptr<const Tables> kept = std::move(about);
  result.Set("write", Napi::Function::New(info.Env(), [kept](const Napi::CallbackInfo& call) {
               return begin_writing(kept, call);
             }));
  return result;
}

}  // namespace

void register_series_text(Napi::Object exports) { export_function<open_series_text>(exports, "openSeriesText"); }

}  // namespace berth
