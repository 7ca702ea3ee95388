// See bh_profiler_stacks.h.
#include "driver/bh_profiler_stacks.h"

#include <algorithm>

#include "driver/bh_profiler_ring.h"
#include "record/recorder.h"

namespace uvmtrace {

uint32_t KernelStacks::Find(std::span<const uint64_t> addresses) {
  if (!loaded_) {
    access_ = symbols_.Load(symbols_path_, &error_);
    loaded_ = true;
  }
  if (symbols_missing()) return 0;
  uint64_t hash = addresses.size() + 1;
  for (const uint64_t address : addresses) hash = MixHash(hash, address);
  Recent& recent = recent_[hash % kRecentStacks];
  if (recent.id != 0 && recent.hash == hash) return static_cast<uint32_t>(recent.id);
  const uint32_t id = Name(addresses);
  if (id != 0) recent = {hash, id};
  return id;
}

uint32_t KernelStacks::Name(std::span<const uint64_t> addresses) {
  Recorder& recorder = Recorder::Get();
  uint64_t names[kMaxKernelFrames];
  uint32_t frames[kMaxKernelFrames];
  const size_t depth = std::min(addresses.size(), kMaxKernelFrames);
  for (size_t i = 0; i < depth; ++i) {
    // The innermost is where the thread was; the others are return addresses, and a call may be the last instruction of
    // its function.
    char buffer[KernelSymbols::kMaxDescriptionBytes];
    const std::string_view name = symbols_.Describe(i == 0 ? addresses[i] : addresses[i] - 1, buffer);
    frames[i] = recorder.InternString(name.empty() ? "[unknown]" : name);
    if (frames[i] == 0) return 0;
    names[i] = frames[i];
  }
  if (depth == 0) {
    frames[0] = recorder.InternString("[unknown]");
    names[0] = frames[0];
  }
  const size_t named_depth = std::max<size_t>(depth, 1);
  if (!ids_.Reserve(1)) return 0;
  const uint32_t number = named_.Intern({names, named_depth});
  if (number == 0) return 0;
  if (number > ids_.size()) ids_.Append(recorder.DefineKernelStack({frames, named_depth}));
  return ids_[number - 1];
}

void KernelStacks::FreeSymbols() {
  symbols_.Free();
  loaded_ = false;
}

}  // namespace uvmtrace
