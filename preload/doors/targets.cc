#include "preload/doors/targets.h"

#include "preload/base/apply_wanted.h"
#include "preload/doors/resolve.h"
#include "preload/doors/visibility.h"

namespace uvmtrace {

constinit std::atomic<void*> targets[kWays][kFunctionsEnd]{};

namespace {

// Whether the target of this way is, or now becomes, `target`.
bool Claim(FunctionId id, Way way, void* target) {
  std::atomic<void*>& known = targets[static_cast<int>(way)][id];
  void* seen = known.load(std::memory_order_acquire);
  if (seen == nullptr && known.compare_exchange_strong(seen, target, std::memory_order_acq_rel)) return true;
  return seen == target;
}

}  // namespace

void* HandOut(FunctionId id, Way way, void* target) {
  if (IsLaunching(id) && !ApplyWanted()) return target;
  if (Claim(id, way, target)) return HookOf(id, way);
  const bool runtime = Function(id).layer == Layer::kRuntime;
  if (Claim(id, Way::kSecond, target)) {
    if (runtime) NoteTwoRuntimes(targets[static_cast<int>(way)][id].load(std::memory_order_acquire), target);
    return HookOf(id, Way::kSecond);
  }
  NoteThirdTarget(target);
  return target;
}

}  // namespace uvmtrace

extern "C" void* uvmtrace_hook_target(void* address) {
  using namespace uvmtrace;
  for (int way = 0; way < kWays; ++way) {
    for (uint16_t id = 1; id < kFunctionsEnd; ++id) {
      if (HookOf(static_cast<FunctionId>(id), static_cast<Way>(way)) != address || address == nullptr) continue;
      return targets[way][id].load(std::memory_order_acquire);
    }
  }
  return nullptr;
}
