// What the layer fuzzer makes of its inputs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace berth::unpack {

class FuzzRandom {
 public:
  explicit FuzzRandom(uint64_t seed) : state_(seed | 1) {}
  uint64_t below(uint64_t limit) {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return state_ % limit;
  }

 private:
  uint64_t state_;
};

// A changed copy of an input: archives keep headers whose sums are right (mostly), and some are compressed, whole or
// damaged, with one member or several.
std::string mutate(const std::string& input, const std::string& other, FuzzRandom& random);

// Archives with every kind of entry and of extension.
std::vector<std::string> fuzz_seeds();

}  // namespace berth::unpack
