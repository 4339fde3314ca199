#include "addon/own_thread.h"

#include <pthread.h>
#include <unistd.h>

#include <csignal>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "addon/event_loop.h"
#include "addon/system_error.h"

namespace berth {
namespace {

// A third of the weight of a thread of nice 0.
constexpr int yielding_nice = 5;

struct Done {
  std::shared_ptr<Napi::Promise::Deferred> deferred;
  Settle settle;
  std::optional<SystemError> error;
};

// The finished jobs of one environment. Threads hold it by shared_ptr, so that one that outlives the environment finds
// `wake` empty and drops its result.
struct Finished {
  std::mutex mutex;
  std::vector<Done> jobs;
  std::unique_ptr<LoopWake> wake;
  std::unique_ptr<Napi::AsyncContext> context;
  napi_env env = nullptr;
  size_t running = 0;  // loop's thread only

  void post(Done done) {
    std::lock_guard lock(mutex);
    if (wake == nullptr) return;
    jobs.push_back(std::move(done));
    wake->send();
  }

  void settle_all() {
    std::vector<Done> ready;
    {
      std::lock_guard lock(mutex);
      ready.swap(jobs);
    }
    Napi::Env napi(env);
    Napi::HandleScope handles(napi);
    Napi::CallbackScope callbacks(napi, *context);
    for (Done& done : ready) {
      if (--running == 0) wake->let_go();
      try {
        if (done.error) {
          done.deferred->Reject(done.error->to_js(napi).Value());
        } else {
          done.deferred->Resolve(done.settle(napi));
        }
      } catch (const Napi::Error& error) {
        done.deferred->Reject(error.Value());
      }
    }
  }

  void close() {
    std::lock_guard lock(mutex);
    if (wake != nullptr) wake->close();
    wake.reset();
    context.reset();
    jobs.clear();
  }
};

struct InstanceData {
  std::shared_ptr<Finished> finished;
};

std::shared_ptr<Finished> finished_of(Napi::Env env) {
  InstanceData* data = env.GetInstanceData<InstanceData>();
  if (data == nullptr) {
    data = new InstanceData{std::make_shared<Finished>()};
    Finished* finished = data->finished.get();
    finished->env = env;
    finished->context = std::make_unique<Napi::AsyncContext>(env, "berth");
    finished->wake = std::make_unique<LoopWake>(env, [finished] { finished->settle_all(); });
    env.AddCleanupHook([](Finished* at_exit) { at_exit->close(); }, finished);
    env.SetInstanceData(data);
  }
  return data->finished;
}

Done run(const Job& job) {
  Done done;
  try {
    done.settle = job();
  } catch (const SystemError& error) {
    done.error = error;
  } catch (const std::exception& error) {
    done.error = SystemError(ENOMEM, "native job", "", error.what());
  }
  return done;
}

}  // namespace

Napi::Promise on_own_thread(Napi::Env env, Job job) {
  std::shared_ptr<Finished> finished = finished_of(env);
  auto deferred = std::make_shared<Napi::Promise::Deferred>(env);
  Napi::Promise promise = deferred->Promise();
  // A thread starts with its creator's mask: blocked here, no signal handler of Node's can ever run on it.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  try {
    std::thread([finished, deferred, job = std::move(job)]() mutable {
      Done done = run(job);
      done.deferred = std::move(deferred);
      finished->post(std::move(done));
    }).detach();
    if (finished->running++ == 0) finished->wake->hold();
  } catch (const std::system_error& error) {
    deferred->Reject(SystemError(error.code().value(), "pthread_create", "").to_js(env).Value());
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return promise;
}

Napi::Promise on_yielding_thread(Napi::Env env, Job job) {
  return on_own_thread(env, [job = std::move(job)] {
    // Linux has this for each thread by itself. Where it is refused, the job runs all the same.
    [[maybe_unused]] int now = nice(yielding_nice);
    return job();
  });
}

Settle settle_nothing() {
  return [](Napi::Env env) { return env.Undefined(); };
}

Settle settle_number(double value) {
  return [value](Napi::Env env) { return Napi::Number::New(env, value); };
}

}  // namespace berth
