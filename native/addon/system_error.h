// What a failed system call leaves, on its way to JavaScript's SystemError (native/binding.ts).
#pragma once

#include <napi.h>

#include <exception>
#include <string>

namespace berth {

class SystemError : public std::exception {
 public:
  // `detail` replaces the text of errno where there is a better sentence: an overlay's own message, an extended ack.
  SystemError(int errno_value, std::string syscall, std::string subject, std::string detail = {});

  const char* what() const noexcept override { return message_.c_str(); }
  int errno_value() const { return errno_value_; }
  const std::string& syscall() const { return syscall_; }
  const std::string& detail() const { return detail_; }

  Napi::Error to_js(Napi::Env env) const;

 private:
  int errno_value_;
  std::string syscall_;
  std::string subject_;
  std::string detail_;
  std::string message_;
};

// Throws with the current errno.
[[noreturn]] void throw_errno(const char* syscall, const std::string& subject);

}  // namespace berth
