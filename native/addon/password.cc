// Passwords against the hashes that crypt(3) makes: bcrypt's, of which each check takes tens of milliseconds by intention.
#include <crypt.h>

#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include "addon/arguments.h"
#include "addon/functions.h"
#include "addon/own_thread.h"

namespace berth {
namespace {

// As long as the longer one, whatever is in them.
bool equal(const std::string& one, const char* other) {
  size_t length = strlen(other);
  unsigned different = one.size() == length ? 0 : 1;
  for (size_t i = 0; i < one.size(); i++) {
    different |= static_cast<unsigned char>(one[i]) ^ static_cast<unsigned char>(length == 0 ? 0 : other[i % length]);
  }
  return different == 0;
}

Napi::Value check_password(const Napi::CallbackInfo& info) {
  std::string password = string_argument(info, 0, "password");
  std::string hash = string_argument(info, 1, "hash");
  return on_own_thread(info.Env(), [password = std::move(password), hash = std::move(hash)]() -> Settle {
    auto data = std::make_unique<crypt_data>();
    const char* made = crypt_r(password.c_str(), hash.c_str(), data.get());
    // "*0" and the like: the hash is none that this library knows
    bool fits = made != nullptr && made[0] != '*' && equal(hash, made);
    explicit_bzero(data.get(), sizeof *data);
    return [fits](Napi::Env env) { return Napi::Boolean::New(env, fits); };
  });
}

}  // namespace

void register_password(Napi::Object exports) { export_function<check_password>(exports, "checkPassword"); }

}  // namespace berth
