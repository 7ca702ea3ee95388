#include "preload/doors/targets.h"

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
