#include "addon/system_error.h"

#include <cerrno>
#include <cstring>
#include <utility>

namespace berth {
namespace {

std::string errno_name(int value) {
  const char* name = strerrorname_np(value);
  return name != nullptr ? name : std::string("E").append(std::to_string(value));
}

std::string errno_text(int value) {
  const char* text = strerrordesc_np(value);
  return text != nullptr ? text : "unknown error";
}

}  // namespace

SystemError::SystemError(int errno_value, std::string syscall, std::string subject, std::string detail)
    : errno_value_(errno_value), syscall_(std::move(syscall)), subject_(std::move(subject)) {
  detail_ = detail.empty() ? errno_text(errno_value_) : std::move(detail);
  message_ = syscall_;
  if (!subject_.empty()) message_ += " " + subject_;
  message_ += ": " + detail_ + " (" + errno_name(errno_value_) + ")";
}

Napi::Error SystemError::to_js(Napi::Env env) const {
  Napi::Error error = Napi::Error::New(env, message_);
  Napi::Object object = error.Value();
  object.Set("syscall", syscall_);
  object.Set("errnoName", errno_name(errno_value_));
  object.Set("errno", Napi::Number::New(env, errno_value_));
  object.Set("subject", subject_);
  return error;
}

void throw_errno(const char* syscall, const std::string& subject) {
  int value = errno;
  throw SystemError(value, syscall, subject);
}

}  // namespace berth
