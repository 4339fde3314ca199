#include "addon/mount_context.h"

#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>

#include "addon/system_error.h"

namespace berth {
namespace {

// What the kernel wrote about the last failure into the context, "e overlay: ..." a line.
std::string context_messages(int context) {
  std::string messages;
  char line[512];
  ssize_t got;
  while ((got = read(context, line, sizeof line)) > 0) {
    std::string text(line, static_cast<size_t>(got));
    if (text.size() > 2 && text[1] == ' ') text.erase(0, 2);
    while (!text.empty() && text.back() == '\n') text.pop_back();
    messages += (messages.empty() ? "" : "; ") + text;
  }
  return messages;
}

}  // namespace

void throw_context_error(int context, const char* syscall, const std::string& subject) {
  int value = errno;
  throw SystemError(value, syscall, subject, context_messages(context));
}

void set_parameter(int context, const char* key, const std::string& value) {
  if (fsconfig(context, FSCONFIG_SET_STRING, key, value.c_str(), 0) < 0) {
    throw_context_error(context, "fsconfig", std::string(key) + "=" + value);
  }
}

UniqueFd create_and_mount(int context, unsigned attributes, const std::string& subject) {
  if (fsconfig(context, FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) < 0) {
    throw_context_error(context, "fsconfig create", subject);
  }
  UniqueFd mount(fsmount(context, FSMOUNT_CLOEXEC, attributes));
  if (!mount) throw_context_error(context, "fsmount", subject);
  return mount;
}

}  // namespace berth
