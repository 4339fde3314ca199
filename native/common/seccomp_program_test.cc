#include "common/seccomp_program.h"

#include <linux/audit.h>
#include <linux/seccomp.h>

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>

#include "monitor/check.h"

namespace {

using namespace berth;
using Program = std::vector<sock_filter>;

constexpr uint32_t kArchitectures[] = {AUDIT_ARCH_X86_64, AUDIT_ARCH_I386, AUDIT_ARCH_ARM};

uint32_t run(const Program& program, const seccomp_data& data) {
  uint32_t value = 0;
  for (size_t at = 0; at < program.size(); ++at) {
    const sock_filter& step = program[at];
    const auto jump = [&](bool condition) { at += condition ? step.jt : step.jf; };
    switch (step.code) {
      case BPF_LD | BPF_W | BPF_ABS:
        CHECK(step.k % 4 == 0 && step.k < sizeof data);
        memcpy(&value, reinterpret_cast<const char*>(&data) + step.k, sizeof value);
        break;
      case BPF_ALU | BPF_AND | BPF_K:
        value &= step.k;
        break;
      case BPF_JMP | BPF_JA:
        at += step.k;
        break;
      case BPF_JMP | BPF_JEQ | BPF_K:
        jump(value == step.k);
        break;
      case BPF_JMP | BPF_JGT | BPF_K:
        jump(value > step.k);
        break;
      case BPF_JMP | BPF_JGE | BPF_K:
        jump(value >= step.k);
        break;
      case BPF_JMP | BPF_JSET | BPF_K:
        jump((value & step.k) != 0);
        break;
      case BPF_RET | BPF_K:
        return step.k;
      default:
        CHECK(false);
    }
  }
  CHECK(false);
  return 0;
}

// As libseccomp makes them: a part for each architecture, which asks for numbers and, for some of them, for arguments.
Program random_program(std::mt19937& random) {
  const auto below = [&random](uint32_t end) { return static_cast<uint32_t>(random() % end); };
  const auto answer = [&] { return sock_filter BPF_STMT(BPF_RET | BPF_K, below(4) == 0 ? SECCOMP_RET_KILL : below(3)); };
  Program program;
  const uint32_t parts = 1 + below(3);
  for (uint32_t part = 0; part < parts; ++part) {
    Program numbers = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr))};
    for (uint32_t i = below(80); i > 0; --i) {
      const uint16_t codes[] = {BPF_JMP | BPF_JEQ | BPF_K, BPF_JMP | BPF_JGT | BPF_K, BPF_JMP | BPF_JGE | BPF_K};
      const uint32_t number = below(10) == 0 ? static_cast<uint32_t>(random()) : below(300);
      if (below(8) != 0) {
        numbers.push_back(BPF_JUMP(codes[below(3)], number, 0, 1));
        numbers.push_back(answer());
        continue;
      }
      const uint32_t argument = static_cast<uint32_t>(offsetof(seccomp_data, args)) + 4 * below(12);
      numbers.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 5));
      numbers.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, argument));
      numbers.push_back(BPF_STMT(BPF_ALU | BPF_AND | BPF_K, below(16)));
      numbers.push_back(BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, below(16), 0, 1));
      numbers.push_back(answer());
      numbers.push_back(answer());
    }
    numbers.push_back(answer());
    program.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch)));
    program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kArchitectures[below(3)], 1, 0));
    program.push_back(BPF_STMT(BPF_JMP | BPF_JA, static_cast<uint32_t>(numbers.size())));
    program.insert(program.end(), numbers.begin(), numbers.end());
  }
  program.push_back(answer());
  return program;
}

void check_same(const Program& program, const Program& compacted, std::mt19937& random) {
  for (const uint32_t architecture : {kArchitectures[0], kArchitectures[1], kArchitectures[2], uint32_t{AUDIT_ARCH_S390X}}) {
    for (uint32_t i = 0; i < 900; ++i) {
      seccomp_data data = {};
      data.arch = architecture;
      data.nr = static_cast<int>(i < 600 ? i / 2 : static_cast<uint32_t>(random()));
      if (i >= 600 && i < 800) {
        data.nr = static_cast<int>(program[random() % program.size()].k + static_cast<uint32_t>(random() % 3) - 1);
      }
      for (__u64& argument : data.args) argument = (static_cast<__u64>(random() & 15) << 32) | (random() & 15);
      CHECK(run(program, data) == run(compacted, data));
    }
  }
}

}  // namespace

int main() {
  const auto seed = static_cast<unsigned>(getenv("BERTH_SEED") != nullptr ? atoi(getenv("BERTH_SEED")) : 1);
  printf("BERTH_SEED=%u\n", seed);
  std::mt19937 random(seed);
  size_t shortened = 0;
  for (int i = 0; i < 200; ++i) {
    const Program program = random_program(random);
    const Program compacted = compact_seccomp_program(program);
    CHECK(compacted.size() <= program.size());
    if (compacted.size() < program.size()) ++shortened;
    check_same(program, compacted, random);
  }
  CHECK(shortened > 50);

  // What looks at a number by its bits stays as it is.
  const Program by_bits = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)), BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 1, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, 1), BPF_STMT(BPF_RET | BPF_K, 2)};
  CHECK(compact_seccomp_program(by_bits).size() == by_bits.size());
  return 0;
}
