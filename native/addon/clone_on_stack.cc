#include "addon/clone_on_stack.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>

#include "addon/system_error.h"

namespace berth {
namespace {

constexpr size_t guard_size = 64 << 10;  // a whole page on every page size that Linux has
constexpr size_t stack_size = 128 << 10;
constexpr int signals_end = 65;

// The kernel's own struct: glibc's sigaction refuses the two signals that it keeps for itself.
struct KernelSigaction {
  void (*handler)(int) = SIG_DFL;
  unsigned long flags = 0;
  void (*restorer)() = nullptr;
  uint64_t mask = 0;
};

}  // namespace

long clone3_on_stack(clone_args* arguments, void (*child)(void*), void* argument) {
#if defined(__x86_64__)
  long result;
  asm volatile(
      "syscall\n\t"
      "test %%rax, %%rax\n\t"
      "jnz 1f\n\t"
      "xor %%ebp, %%ebp\n\t"
      "mov %[argument], %%rdi\n\t"
      "call *%[child]\n\t"
      "ud2\n"
      "1:"
      : "=a"(result)
      : "0"(static_cast<long>(SYS_clone3)), "D"(arguments), "S"(sizeof *arguments), [child] "r"(child),
        [argument] "r"(argument)
      : "rcx", "r11", "memory", "cc");
  return result;
#elif defined(__aarch64__)
  register long number asm("x8") = SYS_clone3;
  register long result asm("x0") = reinterpret_cast<long>(arguments);
  register long size asm("x1") = sizeof *arguments;
  asm volatile(
      "svc #0\n\t"
      "cbnz x0, 1f\n\t"
      "mov x29, #0\n\t"
      "mov x0, %[argument]\n\t"
      "blr %[child]\n\t"
      "brk #1\n"
      "1:"
      : "+r"(result)
      : "r"(number), "r"(size), [child] "r"(child), [argument] "r"(argument)
      : "memory", "cc");
  return result;
#else
#error "clone3_on_stack is written for x86_64 and aarch64"
#endif
}

bool reset_signal_handlers() {
  KernelSigaction defaults;
  for (int signal = 1; signal < signals_end; signal++) {
    if (signal == SIGKILL || signal == SIGSTOP) continue;
    if (syscall(SYS_rt_sigaction, signal, &defaults, nullptr, sizeof defaults.mask) < 0) return false;
  }
  return true;
}

bool unblock_signals() {
  uint64_t none = 0;
  return syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, nullptr, sizeof none) == 0;
}

ChildStack::ChildStack() {
  memory_ = mmap(nullptr, guard_size + stack_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
  if (memory_ == MAP_FAILED) throw_errno("mmap", "a child's stack");
  if (mprotect(memory_, guard_size, PROT_NONE) < 0) {
    munmap(memory_, guard_size + stack_size);
    throw_errno("mprotect", "a child's stack");
  }
}

ChildStack::~ChildStack() { munmap(memory_, guard_size + stack_size); }

void ChildStack::set_in(clone_args* arguments) const {
  arguments->stack = reinterpret_cast<uintptr_t>(memory_) + guard_size;
  arguments->stack_size = stack_size;
}

}  // namespace berth
