// The terminal of somebody who calls a command: Node's own raw mode leaves its output processing on, and full-screen
// programs would draw stairs.
#include <termios.h>

#include <cstring>

#include "addon/arguments.h"
#include "addon/functions.h"

namespace berth {
namespace {

Napi::Value make_terminal_raw(const Napi::CallbackInfo& info) {
  int fd = int_argument(info, 0, "fd");
  termios before;
  if (tcgetattr(fd, &before) < 0) throw_errno("tcgetattr", "the terminal");
  termios raw = before;
  cfmakeraw(&raw);
  if (tcsetattr(fd, TCSADRAIN, &raw) < 0) throw_errno("tcsetattr", "the terminal");
  return Napi::Function::New(info.Env(), [fd, before](const Napi::CallbackInfo& call) {
    tcsetattr(fd, TCSADRAIN, &before);
    return call.Env().Undefined();
  });
}

}  // namespace

void register_terminal(Napi::Object exports) { export_function<make_terminal_raw>(exports, "makeTerminalRaw"); }

}  // namespace berth
