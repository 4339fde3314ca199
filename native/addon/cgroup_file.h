// The numbers in the text of a cgroup's file.
#pragma once

#include <cmath>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace berth {

// The kernel or the hierarchy does not tell the value.
constexpr double unknown = std::numeric_limits<double>::quiet_NaN();

inline bool is_unknown(double value) { return std::isnan(value); }

// One value of a file: "" is the whole file, "name" a line's second word, "word name" what follows "name=" in the line
// that begins with the word.
struct CgroupKey {
  std::string line;
  std::string item;
  double factor = 1;
};

struct CgroupFile {
  std::string root;
  std::string name;
  // Counted lines of the file in the cgroup and all below it, instead of keys.
  bool counted = false;
  // Not read in a pass without details.
  bool detail = false;
  // Its values change whenever the cgroup's processes run, come or go.
  bool pulse = false;
  // Its values change with a pulse, and for some time after it (a quota's period ends when nobody runs any more): where the
  // last pass found none and there is none since, they are what they were.
  bool steady = false;
  // Its one value stands for the whole text.
  bool fingerprint = false;
  std::vector<CgroupKey> keys;

  size_t values() const { return counted || fingerprint ? 1 : keys.size(); }

  // The values of a file that is not counted, in the order of its keys; a limit that is "max" is infinity.
  void parse(std::string_view text, double* values) const;
};

}  // namespace berth
