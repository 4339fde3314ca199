#include "common/sys_error.h"

#include <cerrno>
#include <cstring>

namespace berth {

std::string SysError::describe() const {
  std::string text = call;
  if (!subject.empty()) text.append(" ").append(subject);
  if (errno_value != 0) text.append(": ").append(strerror(errno_value));
  return text;
}

SysError last_error(std::string_view call, std::string_view subject) {
  const int saved = errno;
  return SysError{std::string(call), saved, std::string(subject)};
}

}  // namespace berth
