// Reads the options objects of native/binding.ts. A value of the wrong type is a TypeError that names the field.
#pragma once

#include <napi.h>

#include <string>
#include <utility>
#include <vector>

namespace berth {

using Writes = std::vector<std::pair<std::string, std::string>>;

Napi::Object object_argument(const Napi::CallbackInfo& info, size_t index, const char* name);
Napi::Function function_argument(const Napi::CallbackInfo& info, size_t index, const char* name);
std::string string_argument(const Napi::CallbackInfo& info, size_t index, const char* name);
int int_argument(const Napi::CallbackInfo& info, size_t index, const char* name);

std::string to_text(const Napi::Value& value, const char* name);
std::vector<std::string> to_texts(const Napi::Value& value, const char* name);
// [path, value] pairs
Writes to_writes(const Napi::Value& value, const char* name);

bool has_field(const Napi::Object& object, const char* name);
std::string text_field(const Napi::Object& object, const char* name);
std::string text_field_or_empty(const Napi::Object& object, const char* name);
std::vector<std::string> texts_field(const Napi::Object& object, const char* name);
int64_t int_field(const Napi::Object& object, const char* name);
int64_t int_field_or(const Napi::Object& object, const char* name, int64_t otherwise);
// absent is false
bool bool_field(const Napi::Object& object, const char* name);
Napi::Object object_field(const Napi::Object& object, const char* name);

}  // namespace berth
