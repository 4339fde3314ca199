#include "monitor/seccomp_answer.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>

#include <cstring>

namespace berth {

namespace {

#if defined(__x86_64__)
constexpr uint32_t kArchitecture = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr uint32_t kArchitecture = AUDIT_ARCH_AARCH64;
#else
#error "the audit number of this architecture is not known"
#endif

bool is_pass(uint32_t answer) {
  const uint32_t action = answer & SECCOMP_RET_ACTION_FULL;
  return action == SECCOMP_RET_ALLOW || action == SECCOMP_RET_LOG;
}

}  // namespace

bool filter_allows(std::string_view filter, int call, uint64_t first, uint64_t second) {
  seccomp_data data = {};
  data.nr = call;
  data.arch = kArchitecture;
  data.args[0] = first;
  data.args[1] = second;
  uint32_t accumulator = 0;
  // Jumps only go forward, so that it ends.
  for (size_t at = 0; at < filter.size() / sizeof(sock_filter); ++at) {
    sock_filter step = {};
    memcpy(&step, filter.data() + at * sizeof step, sizeof step);
    switch (step.code) {
      case BPF_LD | BPF_W | BPF_ABS:
        if (step.k > sizeof data - sizeof accumulator) return false;
        memcpy(&accumulator, reinterpret_cast<const char*>(&data) + step.k, sizeof accumulator);
        break;
      case BPF_ALU | BPF_AND | BPF_K:
        accumulator &= step.k;
        break;
      case BPF_JMP | BPF_JA:
        at += step.k;
        break;
      case BPF_JMP | BPF_JEQ | BPF_K:
        at += accumulator == step.k ? step.jt : step.jf;
        break;
      case BPF_JMP | BPF_JGT | BPF_K:
        at += accumulator > step.k ? step.jt : step.jf;
        break;
      case BPF_JMP | BPF_JGE | BPF_K:
        at += accumulator >= step.k ? step.jt : step.jf;
        break;
      case BPF_JMP | BPF_JSET | BPF_K:
        at += (accumulator & step.k) != 0 ? step.jt : step.jf;
        break;
      case BPF_RET | BPF_K:
        return is_pass(step.k);
      default:
        return false;
    }
  }
  return false;
}

}  // namespace berth
