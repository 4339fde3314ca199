#include "monitor/runtime_words.h"

#include <cerrno>
#include <cstdlib>

namespace berth {

namespace {

constexpr size_t kLongestMessage = 4096;

// The value of a JSON string that begins after its quotation mark; its escapes are resolved as far as messages have them.
std::string json_text(std::string_view rest) {
  std::string text;
  for (size_t i = 0; i < rest.size() && rest[i] != '"' && text.size() < kLongestMessage; ++i) {
    if (rest[i] != '\\' || i + 1 == rest.size()) {
      text += rest[i];
      continue;
    }
    const char escaped = rest[++i];
    if (escaped == 'n' || escaped == 't' || escaped == 'r') {
      text += ' ';
    } else if (escaped == 'u' && i + 4 < rest.size()) {
      const auto code = strtoul(std::string(rest.substr(i + 1, 4)).c_str(), nullptr, 16);
      text += code >= 0x20 && code < 0x7f ? static_cast<char>(code) : '?';
      i += 4;
    } else {
      text += escaped;
    }
  }
  while (!text.empty() && text.back() == ' ') text.pop_back();
  return text;
}

struct Reason {
  std::string_view words;
  int errno_value;
};

// Go's words and the C library's, which differ in their first letters.
constexpr Reason kReasons[] = {
    {"xecutable file not found in $PATH", ENOENT},
    {"o such file or directory", ENOENT},
    {"ermission denied", EACCES},
    {"peration not permitted", EPERM},
    {"ot a directory", ENOTDIR},
    {"s a directory", EISDIR},
    {"ile name too long", ENAMETOOLONG},
    {"oo many levels of symbolic links", ELOOP},
    {"xec format error", ENOEXEC},
    {"rgument list too long", E2BIG},
    {"ead-only file system", EROFS},
};

// 0: none of those that the request is to blame for.
int errno_at_end(std::string_view words) {
  for (const Reason& reason : kReasons) {
    if (words.ends_with(reason.words)) return reason.errno_value;
  }
  return 0;
}

// As json_text leaves of it what Go's %q writes.
std::string go_quoted(std::string_view text) {
  std::string quoted = "\"";
  for (const char letter : text) {
    if (letter == '"' || letter == '\\') quoted += '\\';
    if (letter == '\n') quoted += "\\n";
    else if (letter == '\t') quoted += "\\t";
    else if (letter == '\r') quoted += "\\r";
    else quoted += letter;
  }
  return quoted + '"';
}

bool take(std::string_view& words, std::string_view beginning) {
  if (!words.starts_with(beginning)) return false;
  words.remove_prefix(beginning.size());
  return true;
}

// The directory, or one on the way to it.
bool is_at_or_above(std::string_view path, std::string_view directory) {
  return !path.empty() && directory.starts_with(path) && (directory.size() == path.size() || directory[path.size()] == '/');
}

enum class Fault { kNone, kProgram, kDirectory };

// What comes behind them is of the container's init, and not of runc's own work.
std::string_view without_runc_prefix(std::string_view words) {
  constexpr std::string_view kStart = "unable to start container process: ";
  const size_t start = words.find(kStart);
  if (start == std::string_view::npos) return {};
  words.remove_prefix(start + kStart.size());
  take(words, "error during container init: ");
  return words;
}

Fault runc_fault(std::string_view words, std::string_view program, std::string_view directory) {
  words = without_runc_prefix(words);
  if (take(words, "exec: ")) return take(words, go_quoted(program) + ": ") ? Fault::kProgram : Fault::kNone;
  if (take(words, "mkdir ")) {
    return is_at_or_above(words.substr(0, words.rfind(": ")), directory) ? Fault::kDirectory : Fault::kNone;
  }
  return take(words, "chdir to cwd (" + go_quoted(directory) + ") ") ? Fault::kDirectory : Fault::kNone;
}

Fault crun_fault(std::string_view words, std::string_view program, std::string_view directory) {
  const auto quoted = [](std::string_view text) { return "`" + std::string(text) + "`"; };
  if (take(words, "executable file ")) return take(words, quoted(program) + " not found") ? Fault::kProgram : Fault::kNone;
  // It does not name it.
  if (words.starts_with("open executable: ")) return Fault::kProgram;
  if (!take(words, "chdir ")) return Fault::kNone;
  take(words, "to ");
  return take(words, quoted(directory) + ": ") ? Fault::kDirectory : Fault::kNone;
}

}  // namespace

std::string last_log_error(std::string_view log) {
  std::string found;
  while (!log.empty()) {
    const std::string_view line = log.substr(0, log.find('\n'));
    log.remove_prefix(line.size() < log.size() ? line.size() + 1 : line.size());
    const size_t message = line.find("\"msg\":");
    if (message == std::string_view::npos || line.find("\"error\"") == std::string_view::npos) continue;
    const size_t quote = line.find('"', message + 6);
    if (quote != std::string_view::npos) found = json_text(line.substr(quote + 1));
  }
  return found;
}

std::optional<Failure> fault_of_program(std::string_view words, std::string_view program, std::string_view directory) {
  const int errno_value = errno_at_end(words);
  if (errno_value == 0) return std::nullopt;
  Fault fault = runc_fault(words, program, directory);
  if (fault == Fault::kNone) fault = crun_fault(words, program, directory);
  if (fault == Fault::kNone) return std::nullopt;
  const bool is_program = fault == Fault::kProgram;
  Failure failed = failure(ErrorKind::kInvalid, SysError{is_program ? "execve" : "enter the working directory", errno_value,
                                                         std::string(is_program ? program : directory)});
  failed.message = words;
  return failed;
}

}  // namespace berth
