// Work that may wait in the kernel, or that changes its thread (setns, unshare), runs on a thread of its own: never on
// libuv's pool, where a hung volume would stop DNS and file access, and a changed namespace would leak into other work.
#pragma once

#include <napi.h>

#include <functional>

namespace berth {

// Makes the promise's value, on the loop's thread.
using Settle = std::function<Napi::Value(Napi::Env)>;
// Runs on its thread with all signals blocked. Throws SystemError; touches no JavaScript.
using Job = std::function<Settle()>;

Napi::Promise on_own_thread(Napi::Env env, Job job);
// The same for statistics, on a thread that leaves processors to the loop's, which has probes to answer.
Napi::Promise on_yielding_thread(Napi::Env env, Job job);

Settle settle_nothing();
Settle settle_number(double value);

}  // namespace berth
