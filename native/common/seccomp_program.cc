#include "common/seccomp_program.h"

#include <linux/seccomp.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>

namespace berth {

namespace {

constexpr uint32_t kNumber = offsetof(seccomp_data, nr);
constexpr uint32_t kArchitecture = offsetof(seccomp_data, arch);

// What the program answers when only the architecture and the number are known: a result, or the place from which on it
// looks at arguments.
struct Answer {
  bool is_result = false;
  uint32_t result = 0;
  size_t place = 0;

  bool operator==(const Answer&) const = default;
};

// From this number up to the next run's.
struct Run {
  uint32_t first;
  Answer answer;
};

bool is_comparison(uint16_t code) {
  return code == (BPF_JMP | BPF_JEQ | BPF_K) || code == (BPF_JMP | BPF_JGT | BPF_K) || code == (BPF_JMP | BPF_JGE | BPF_K);
}

bool compare(uint16_t code, uint32_t value, uint32_t with) {
  if (code == (BPF_JMP | BPF_JEQ | BPF_K)) return value == with;
  return code == (BPF_JMP | BPF_JGT | BPF_K) ? value > with : value >= with;
}

bool is_known(uint16_t code) {
  return is_comparison(code) || code == (BPF_LD | BPF_W | BPF_ABS) || code == (BPF_JMP | BPF_JA) ||
         code == (BPF_RET | BPF_K) || code == (BPF_ALU | BPF_AND | BPF_K) || code == (BPF_JMP | BPF_JSET | BPF_K);
}

// An instruction of the new program. With `place` it is a jump to where that instruction of the old one comes to stand.
struct Step {
  sock_filter filter;
  std::optional<size_t> place;
};

Step leaf(const Answer& answer) {
  if (answer.is_result) return {BPF_STMT(BPF_RET | BPF_K, answer.result), std::nullopt};
  return {BPF_STMT(BPF_JMP | BPF_JA, 0), answer.place};
}

// A search among so few runs that every conditional jump reaches its answer; each answer is there once, at the end.
class SmallSearch {
 public:
  static constexpr ptrdiff_t kLargest = 100;

  std::vector<Step> among(const Run* first, const Run* last) {
    halve(first, last);
    std::vector<Answer> answers;
    for (const Jump& jump : jumps_) {
      auto found = std::find(answers.begin(), answers.end(), jump.answer);
      if (found == answers.end()) found = answers.insert(answers.end(), jump.answer);
      const size_t target = steps_.size() + static_cast<size_t>(found - answers.begin());
      sock_filter& from = steps_[jump.from].filter;
      (jump.when ? from.jt : from.jf) = static_cast<uint8_t>(target - jump.from - 1);
    }
    for (const Answer& answer : answers) steps_.push_back(leaf(answer));
    return std::move(steps_);
  }

 private:
  struct Jump {
    size_t from;
    bool when;
    Answer answer;
  };

  void halve(const Run* first, const Run* last) {
    const Run* middle = first + (last - first) / 2;
    const size_t at = steps_.size();
    steps_.push_back({BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, middle->first, 0, 0), std::nullopt});
    if (middle - first == 1) {
      jumps_.push_back({at, false, first->answer});
    } else {
      halve(first, middle);
    }
    if (last - middle == 1) {
      jumps_.push_back({at, true, middle->answer});
    } else {
      steps_[at].filter.jt = static_cast<uint8_t>(steps_.size() - at - 1);
      halve(middle, last);
    }
  }

  std::vector<Step> steps_;
  std::vector<Jump> jumps_;
};

std::vector<Step> search(const Run* first, const Run* last) {
  if (last - first == 1) return {leaf(first->answer)};
  if (last - first <= SmallSearch::kLargest) return SmallSearch().among(first, last);
  const Run* middle = first + (last - first) / 2;
  const std::vector<Step> below = search(first, middle);
  const std::vector<Step> above = search(middle, last);
  std::vector<Step> steps = {{BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, middle->first, 0, 1), std::nullopt},
                             {BPF_STMT(BPF_JMP | BPF_JA, static_cast<uint32_t>(below.size())), std::nullopt}};
  steps.insert(steps.end(), below.begin(), below.end());
  steps.insert(steps.end(), above.begin(), above.end());
  return steps;
}

class Compaction {
 public:
  explicit Compaction(const std::vector<sock_filter>& program) : program_(program) {
    for (const sock_filter& step : program) {
      if (!is_known(step.code)) failed_ = true;
      if (!is_comparison(step.code)) continue;
      // An answer can only change at a number that is compared with, or behind it.
      numbers_.insert(step.k);
      if (step.k != UINT32_MAX) numbers_.insert(step.k + 1);
    }
    numbers_.insert(0);
  }

  std::vector<sock_filter> run() {
    std::vector<Step> steps = {{BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kArchitecture), std::nullopt}};
    // What holds for all architectures that have no name in the program comes last.
    const std::vector<Run> others = runs_of(unnamed());
    std::set<uint32_t> done;
    // The answers for one can bring in another.
    for (auto next = architectures_.begin(); next != architectures_.end() && !failed_;) {
      const uint32_t architecture = *next;
      const std::vector<Step> table = table_of(runs_of(architecture));
      done.insert(architecture);
      next = std::find_if(architectures_.begin(), architectures_.end(), [&](uint32_t a) { return !done.contains(a); });
      steps.push_back({BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, architecture, 1, 0), std::nullopt});
      steps.push_back({BPF_STMT(BPF_JMP | BPF_JA, static_cast<uint32_t>(table.size())), std::nullopt});
      steps.insert(steps.end(), table.begin(), table.end());
    }
    const std::vector<Step> table = table_of(others);
    steps.insert(steps.end(), table.begin(), table.end());
    if (failed_) return program_;
    std::vector<sock_filter> compacted = link(steps);
    return failed_ || compacted.size() >= program_.size() ? program_ : compacted;
  }

 private:
  // An architecture that is equal to none that the program can compare with.
  uint32_t unnamed() const {
    uint32_t value = 0;
    while (numbers_.contains(value)) ++value;
    return value;
  }

  std::vector<Run> runs_of(uint32_t architecture) {
    std::vector<Run> runs;
    for (const uint32_t number : numbers_) {
      const Answer found = answer(architecture, number);
      if (failed_) break;
      if (runs.empty() || runs.back().answer != found) runs.push_back({number, found});
    }
    return runs;
  }

  // Notes which architectures are compared with. It fails where the number or the architecture is looked at by its bits, or
  // an architecture by its size.
  Answer answer(uint32_t architecture, uint32_t number) {
    uint32_t accumulator = 0;
    bool is_architecture = false;
    // Jumps only go forward, so that it ends.
    for (size_t at = 0; at < program_.size(); ++at) {
      const sock_filter& step = program_[at];
      if (step.code == (BPF_RET | BPF_K)) return {.is_result = true, .result = step.k};
      if (step.code == (BPF_LD | BPF_W | BPF_ABS)) {
        if (step.k != kNumber && step.k != kArchitecture) return {.place = at};
        is_architecture = step.k == kArchitecture;
        accumulator = is_architecture ? architecture : number;
      } else if (step.code == (BPF_JMP | BPF_JA)) {
        at += step.k;
      } else if (is_comparison(step.code) && (!is_architecture || step.code == (BPF_JMP | BPF_JEQ | BPF_K))) {
        if (is_architecture) architectures_.insert(step.k);
        at += compare(step.code, accumulator, step.k) ? step.jt : step.jf;
      } else {
        break;
      }
    }
    failed_ = true;
    return {};
  }

  static std::vector<Step> table_of(const std::vector<Run>& runs) {
    std::vector<Step> table;
    if (runs.empty()) return table;
    if (runs.size() > 1) table.push_back({BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kNumber), std::nullopt});
    const std::vector<Step> found = search(runs.data(), runs.data() + runs.size());
    table.insert(table.end(), found.begin(), found.end());
    return table;
  }

  // Behind the tables comes what can be reached of the old program from the places where arguments are looked at.
  std::vector<sock_filter> link(const std::vector<Step>& steps) {
    std::set<size_t> reached;
    for (const Step& step : steps) {
      if (step.place) reached.insert(*step.place);
    }
    for (const size_t at : reached) {  // a set takes in what is added behind the iterator
      const sock_filter& step = program_[at];
      if (step.code == (BPF_RET | BPF_K)) continue;
      const bool jumps = is_comparison(step.code) || step.code == (BPF_JMP | BPF_JSET | BPF_K);
      for (const size_t next : {at + 1 + (step.code == (BPF_JMP | BPF_JA) ? step.k : jumps ? step.jt : 0),
                                at + 1 + (step.code == (BPF_JMP | BPF_JA) ? step.k : jumps ? step.jf : 0)}) {
        if (next >= program_.size()) {
          failed_ = true;
          return {};
        }
        reached.insert(next);
      }
    }
    std::map<size_t, size_t> moved;
    for (const size_t at : reached) moved.emplace(at, steps.size() + moved.size());

    std::vector<sock_filter> program;
    for (const Step& step : steps) {
      program.push_back(step.filter);
      if (step.place) program.back().k = static_cast<uint32_t>(moved[*step.place] - program.size());
    }
    for (const size_t at : reached) {
      sock_filter step = program_[at];
      program.push_back(step);
      // What is left out lies between: no distance grows.
      const auto distance = [&](size_t skipped) { return moved[at + 1 + skipped] - program.size(); };
      if (step.code == (BPF_JMP | BPF_JA)) {
        program.back().k = static_cast<uint32_t>(distance(step.k));
      } else if (is_comparison(step.code) || step.code == (BPF_JMP | BPF_JSET | BPF_K)) {
        program.back().jt = static_cast<uint8_t>(distance(step.jt));
        program.back().jf = static_cast<uint8_t>(distance(step.jf));
      }
    }
    return program;
  }

  const std::vector<sock_filter>& program_;
  std::set<uint32_t> numbers_;
  std::set<uint32_t> architectures_;
  bool failed_ = false;
};

}  // namespace

std::vector<sock_filter> compact_seccomp_program(const std::vector<sock_filter>& program) {
  return Compaction(program).run();
}

}  // namespace berth
