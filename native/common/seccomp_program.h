// A seccomp filter's program, made shorter. The kernel translates and checks the whole program at every start of a program
// and at every exec, so that its length is a good part of what an exec costs.
#pragma once

#include <linux/filter.h>

#include <vector>

namespace berth {

// A program that answers every call as `program` does: a search among the ranges of call numbers that get the same answer,
// for each architecture, and behind it what looks at arguments. One with other instructions than libseccomp makes, or that
// would not become shorter, is answered as it is.
std::vector<sock_filter> compact_seccomp_program(const std::vector<sock_filter>& program);

}  // namespace berth
