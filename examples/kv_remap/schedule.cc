#include "examples/kv_remap/schedule.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "examples/common/program.h"

namespace remap {
namespace {

class Chooser {
 public:
  explicit Chooser(const Shape& shape) : shape_(shape), random_(shape.seed) {
    std::vector<double> weights;
    for (uint32_t rank = 1; rank <= shape.blocks; ++rank) weights.push_back(1.0 / rank);
    zipf_ = std::discrete_distribution<uint32_t>(weights.begin(), weights.end());
  }

  std::vector<uint32_t> Choose(uint32_t step) {
    std::vector<uint32_t> needed;
    if (shape_.reuse == "cyclic") {
      for (uint32_t i = 0; i < shape_.window; ++i) needed.push_back((step * shape_.fresh + i) % shape_.blocks);
      return needed;
    }
    while (needed.size() < shape_.window) {
      const uint32_t block = zipf_(random_);
      if (std::find(needed.begin(), needed.end(), block) == needed.end()) needed.push_back(block);
    }
    return needed;
  }

 private:
  const Shape shape_;
  std::mt19937_64 random_;
  std::discrete_distribution<uint32_t> zipf_;
};

}  // namespace

std::vector<Step> MakeSchedule(const Shape& shape) {
  if (shape.slots < 2 * shape.window || shape.blocks < shape.slots) {
    throw examples::Refused(
        "--slots must hold two windows (--window), and --blocks must be at least --slots: a block "
        "that leaves for the next step may not be in use by this one");
  }
  Chooser chooser(shape);
  std::vector<int64_t> last_used(shape.blocks, -1);
  std::vector<uint32_t> uses(shape.blocks, 0);
  std::vector<bool> resident(shape.blocks, false);
  uint32_t resident_count = 0;
  std::vector<Step> schedule;
  for (uint32_t number = 0; number < shape.steps; ++number) {
    Step step;
    step.needed = chooser.Choose(number);
    for (const uint32_t block : step.needed) {
      step.versions.push_back(uses[block]++);
      last_used[block] = number;
    }
    for (const uint32_t block : step.needed) {
      if (resident[block]) continue;
      Swap swap;
      swap.wanted = block;
      if (resident_count == shape.slots) {
        for (uint32_t other = 0; other < shape.blocks; ++other) {
          if (!resident[other]) continue;
          if (swap.victim == Swap::kNone || last_used[other] < last_used[swap.victim]) swap.victim = other;
        }
        resident[swap.victim] = false;
      } else {
        ++resident_count;
      }
      resident[block] = true;
      step.swaps.push_back(swap);
    }
    schedule.push_back(step);
  }
  return schedule;
}

}  // namespace remap
