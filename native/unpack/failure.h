// What ends the unpacking of a layer: reported as one line of JSON on stderr.
#pragma once

#include <cerrno>
#include <string>
#include <utility>

namespace berth::unpack {

struct Failure {
  std::string step;     // the system call, or what was being done in words
  std::string path;     // the entry that it was about; empty when there is none
  int errno_value = 0;  // 0: no system call failed
  std::string message;  // a clause that explains it when step, path and errno do not
};

// The archive is not what it should be.
[[noreturn]] inline void refuse(std::string step, std::string path, std::string message) {
  throw Failure{std::move(step), std::move(path), 0, std::move(message)};
}

// A system call failed; errno is read here.
[[noreturn]] inline void fail(std::string call, std::string path) {
  const int saved = errno;
  throw Failure{std::move(call), std::move(path), saved, ""};
}

}  // namespace berth::unpack
