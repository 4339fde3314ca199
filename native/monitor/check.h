// For the tests: a check that tells its place, and ends the test with failure.
#pragma once

#include <cstdio>
#include <cstdlib>

#define CHECK(condition)                                                             \
  do {                                                                               \
    if (!(condition)) {                                                              \
      fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);        \
      std::exit(1);                                                                  \
    }                                                                                \
  } while (false)
