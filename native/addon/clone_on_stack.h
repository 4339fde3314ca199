// clone3 for a child that shares this process's memory: it must have a stack of its own, which no C function can switch
// to by itself.
#pragma once

#include <linux/sched.h>
#include <sched.h>
#include <sys/types.h>

namespace berth {

// The child runs `child(argument)` on arguments.stack, which must not return. Answers the child's pid, or a negative errno.
long clone3_on_stack(clone_args* arguments, void (*child)(void*), void* argument);

// For the child, who shares its parent's memory: false leaves errno.
// Ignored signals would stay ignored through exec, and Node's handlers must never run in the child.
bool reset_signal_handlers();
bool unblock_signals();

// Memory for one child's stack, with a guard page below it.
class ChildStack {
 public:
  ChildStack();  // throws SystemError
  ~ChildStack();
  ChildStack(const ChildStack&) = delete;
  ChildStack& operator=(const ChildStack&) = delete;
  void set_in(clone_args* arguments) const;

 private:
  void* memory_;
};

}  // namespace berth
