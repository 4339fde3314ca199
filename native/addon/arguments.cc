#include "addon/arguments.h"

#include <cmath>

namespace berth {
namespace {

[[noreturn]] void wrong_type(Napi::Env env, const char* name, const char* expected) {
  throw Napi::TypeError::New(env, std::string(name) + " must be " + expected);
}

int64_t to_int(const Napi::Value& value, const char* name) {
  if (!value.IsNumber()) wrong_type(value.Env(), name, "a whole number");
  double number = value.As<Napi::Number>().DoubleValue();
  if (std::trunc(number) != number || std::abs(number) > 9007199254740991.0) {
    wrong_type(value.Env(), name, "a whole number");
  }
  return static_cast<int64_t>(number);
}

}  // namespace

Napi::Object object_argument(const Napi::CallbackInfo& info, size_t index, const char* name) {
  if (!info[index].IsObject()) wrong_type(info.Env(), name, "an object");
  return info[index].As<Napi::Object>();
}

Napi::Function function_argument(const Napi::CallbackInfo& info, size_t index, const char* name) {
  if (!info[index].IsFunction()) wrong_type(info.Env(), name, "a function");
  return info[index].As<Napi::Function>();
}

std::string string_argument(const Napi::CallbackInfo& info, size_t index, const char* name) {
  return to_text(info[index], name);
}

int int_argument(const Napi::CallbackInfo& info, size_t index, const char* name) {
  int64_t value = to_int(info[index], name);
  if (value != static_cast<int>(value)) wrong_type(info.Env(), name, "a 32-bit number");
  return static_cast<int>(value);
}

std::string to_text(const Napi::Value& value, const char* name) {
  if (!value.IsString()) wrong_type(value.Env(), name, "a string");
  std::string text = value.As<Napi::String>().Utf8Value();
  // The kernel would silently take what comes before the NUL.
  if (text.find('\0') != std::string::npos) wrong_type(value.Env(), name, "a string without NUL characters");
  return text;
}

std::vector<std::string> to_texts(const Napi::Value& value, const char* name) {
  if (!value.IsArray()) wrong_type(value.Env(), name, "an array of strings");
  Napi::Array array = value.As<Napi::Array>();
  std::vector<std::string> texts;
  texts.reserve(array.Length());
  for (uint32_t i = 0; i < array.Length(); i++) texts.push_back(to_text(array.Get(i), name));
  return texts;
}

Writes to_writes(const Napi::Value& value, const char* name) {
  if (!value.IsArray()) wrong_type(value.Env(), name, "an array of [path, value] pairs");
  Napi::Array array = value.As<Napi::Array>();
  Writes writes;
  writes.reserve(array.Length());
  for (uint32_t i = 0; i < array.Length(); i++) {
    std::vector<std::string> pair = to_texts(array.Get(i), name);
    if (pair.size() != 2) wrong_type(value.Env(), name, "an array of [path, value] pairs");
    writes.emplace_back(std::move(pair[0]), std::move(pair[1]));
  }
  return writes;
}

bool has_field(const Napi::Object& object, const char* name) {
  Napi::Value value = object.Get(name);
  return !value.IsUndefined() && !value.IsNull();
}

std::string text_field(const Napi::Object& object, const char* name) { return to_text(object.Get(name), name); }

std::string text_field_or_empty(const Napi::Object& object, const char* name) {
  return has_field(object, name) ? text_field(object, name) : std::string();
}

std::vector<std::string> texts_field(const Napi::Object& object, const char* name) {
  return to_texts(object.Get(name), name);
}

int64_t int_field(const Napi::Object& object, const char* name) { return to_int(object.Get(name), name); }

int64_t int_field_or(const Napi::Object& object, const char* name, int64_t otherwise) {
  return has_field(object, name) ? int_field(object, name) : otherwise;
}

bool bool_field(const Napi::Object& object, const char* name) {
  if (!has_field(object, name)) return false;
  Napi::Value value = object.Get(name);
  if (!value.IsBoolean()) wrong_type(object.Env(), name, "a boolean");
  return value.As<Napi::Boolean>().Value();
}

Napi::Object object_field(const Napi::Object& object, const char* name) {
  Napi::Value value = object.Get(name);
  if (!value.IsObject()) wrong_type(object.Env(), name, "an object");
  return value.As<Napi::Object>();
}

}  // namespace berth
