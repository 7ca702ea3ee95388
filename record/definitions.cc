// See definitions.h.
#include "record/definitions.h"

#include "record/chunk_format.h"

namespace uvmtrace {
namespace {

// Appends one message to the log, or nothing at all.
template <typename Encode>
bool AppendMessage(WireBuffer& log, uint32_t field, Encode&& encode) {
  const size_t start = log.size();
  const size_t body = log.BeginMessage(field);
  encode(log);
  log.EndMessage(body);
  if (!log.failed()) return true;
  log.Truncate(start);
  return false;
}

template <size_t N>
uint16_t CopyText(char (&out)[N], std::string_view text) {
  const size_t bytes = text.size() < N ? text.size() : N;
  if (bytes != 0) memcpy(out, text.data(), bytes);
  return static_cast<uint16_t>(bytes);
}

// As much of the text as CopyText would keep.
template <size_t N>
std::string_view Fitting(const char (&)[N], std::string_view text) {
  return {text.data(), text.size() < N ? text.size() : N};
}

}  // namespace

bool Definitions::DefineFunctions(std::span<const FunctionDefinition> functions) {
  ShortLockGuard guard(lock_);
  if (!guard) return false;
  for (const FunctionDefinition& function : functions) {
    const bool fits = AppendMessage(log_, chunk_field::kFunction, [&](WireBuffer& out) {
      out.Unsigned(1, function.id);
      out.String(2, function.name);
      out.Unsigned(3, static_cast<uint64_t>(function.layer));
      out.Unsigned(4, static_cast<uint64_t>(function.operation));
    });
    if (!fits) return false;
  }
  return true;
}

bool Definitions::DefineDevice(const DeviceDefinition& device) {
  ShortLockGuard guard(lock_);
  if (!guard) return false;
  return AppendMessage(log_, chunk_field::kDevice, [&](WireBuffer& out) {
    out.Unsigned(1, device.ordinal);
    out.String(2, device.name);
    out.Bytes(3, device.uuid, sizeof(device.uuid));
    out.Unsigned(4, device.total_memory_bytes);
    out.Unsigned(5, device.compute_capability);
    out.Unsigned(6, device.concurrent_managed_access);
    out.Unsigned(7, device.pageable_memory_access);
    out.String(8, device.pci_bus_id);
    if (device.has_host_numa_node) out.UnsignedAlways(9, ZigZag(device.host_numa_node));
    out.Unsigned(10, device.link_generation);
    out.Unsigned(11, device.link_width);
    out.Unsigned(12, device.link_generation_max);
    out.Unsigned(13, device.link_width_max);
    out.Unsigned(14, device.integrated);
    out.Unsigned(15, device.host_page_tables);
  });
}

bool Definitions::DefineParameter(std::string_view name, std::string_view value) {
  ShortLockGuard guard(lock_);
  if (!guard) return false;
  return AppendMessage(log_, chunk_field::kParameter, [&](WireBuffer& out) {
    out.String(1, name);
    out.String(2, value);
  });
}

bool Definitions::DefineMemoryArea(const MemoryAreaDefinition& area) {
  ShortLockGuard guard(lock_);
  return AppendMessage(log_, chunk_field::kMemoryArea, [&](WireBuffer& out) {
    out.Unsigned(1, area.start);
    out.Unsigned(2, area.end);
    out.Unsigned(3, static_cast<uint64_t>(area.kind));
    out.String(4, area.name);
    out.Unsigned(5, area.seen_ns);
    if (area.nodes.empty()) return;
    size_t packed = out.BeginMessage(6);
    for (const NodeBytes& one : area.nodes) out.AppendVarint(one.node);
    out.EndMessage(packed);
    packed = out.BeginMessage(7);
    for (const NodeBytes& one : area.nodes) out.AppendVarint(one.bytes);
    out.EndMessage(packed);
  });
}

bool Definitions::DefineManagedVariable(std::string_view name, uint64_t address, uint64_t bytes) {
  ShortLockGuard guard(lock_);
  return AppendMessage(log_, chunk_field::kManagedVariable, [&](WireBuffer& out) {
    out.Unsigned(1, address);
    out.Unsigned(2, bytes);
    out.String(3, name);
  });
}

bool Definitions::DefineAuditCount(std::string_view function, uint64_t happened, uint64_t seen) {
  ShortLockGuard guard(lock_);
  if (!guard) return false;
  return AppendMessage(log_, chunk_field::kAuditCount, [&](WireBuffer& out) {
    out.String(1, function);
    out.Unsigned(2, happened);
    out.Unsigned(3, seen);
  });
}

uint32_t Definitions::DefineKernelThread(const KernelThreadDefinition& thread) {
  ShortLockGuard guard(lock_);
  if (!guard) return 0;
  const uint32_t id = kernel_threads_ + 1;
  const bool fits = AppendMessage(log_, chunk_field::kKernelThread, [&](WireBuffer& out) {
    out.Unsigned(1, id);
    out.Unsigned(2, thread.tid);
    out.Unsigned(3, thread.start_ticks);
    out.String(4, thread.name);
    out.Unsigned(5, static_cast<uint64_t>(thread.role));
    if (thread.has_device_uuid) out.Bytes(6, thread.device_uuid, sizeof(thread.device_uuid));
  });
  if (!fits) return 0;
  kernel_threads_ = id;
  return id;
}

uint32_t Definitions::DefineKernelStack(std::span<const uint32_t> frames) {
  ShortLockGuard guard(lock_);
  if (!guard) return 0;
  const uint32_t id = kernel_stacks_ + 1;
  const bool fits = AppendMessage(log_, chunk_field::kKernelStack, [&](WireBuffer& out) {
    out.Unsigned(1, id);
    const size_t ids = out.BeginMessage(2);
    for (const uint32_t frame : frames) out.AppendVarint(frame);
    out.EndMessage(ids);
  });
  if (!fits) return 0;
  kernel_stacks_ = id;
  return id;
}

uint32_t Definitions::DefineCode(uint32_t file, uint32_t function) {
  const uint64_t value = uint64_t{file} << 32 | function;
  const uint64_t hash = MixHash(0, value);
  ShortLockGuard guard(lock_);
  if (!guard) return 0;
  const uint32_t known = code_index_.Find(hash, [&](uint32_t id) { return codes_[id - 1] == value; });
  if (known != 0) return known;
  const uint32_t id = static_cast<uint32_t>(codes_.size()) + 1;
  if (!codes_.Reserve(1)) return 0;
  const bool fits = AppendMessage(log_, chunk_field::kCode, [&](WireBuffer& out) {
    out.Unsigned(1, id);
    out.Unsigned(2, file);
    out.Unsigned(3, function);
  });
  // A definition that is never used does no harm.
  if (!fits || !code_index_.Insert(hash, id)) return 0;
  codes_.Append(value);
  return id;
}

bool Definitions::DefineDetailChange(std::string_view detail, std::string_view reason, uint64_t now_ns) {
  ShortLockGuard guard(lock_);
  if (!guard) return false;
  return AppendMessage(log_, chunk_field::kDetailChange, [&](WireBuffer& out) {
    out.Unsigned(1, now_ns);
    out.String(2, detail);
    out.String(3, reason);
  });
}

bool Definitions::SetSourceState(std::string_view name, SourceStateKind state, std::string_view reason,
                                 uint64_t now_ns) {
  ShortLockGuard guard(lock_);
  if (!guard) return false;
  int i = 0;
  for (; i < source_states_; ++i) {
    const SourceStateEntry& entry = source_state_[i];
    if (std::string_view(entry.name, entry.name_bytes) == Fitting(entry.name, name)) break;
  }
  if (i == kSourceStateLimit) return false;
  SourceStateEntry& entry = source_state_[i];
  if (i == source_states_) {
    entry.name_bytes = CopyText(entry.name, name);
    ++source_states_;
  } else if (entry.state == state &&
             std::string_view(entry.reason, entry.reason_bytes) == Fitting(entry.reason, reason)) {
    return true;
  }
  entry.reason_bytes = CopyText(entry.reason, reason);
  entry.state = state;
  entry.time_ns = now_ns;
  entry.is_new = true;
  return true;
}

bool Definitions::SetProcess(const ProcessDefinition& process) {
  ShortLockGuard guard(lock_);
  if (!guard) return false;
  process_set_.Clear();
  process_set_.String(9, process.detail);
  process_set_.Unsigned(10, process.simulated);
  process_set_.Unsigned(15, process.cuda_driver_version);
  process_set_.Unsigned(16, process.cuda_runtime_version);
  process_set_.Unsigned(17, process.cupti_version);
  process_set_.String(18, process.kernel_driver_version);
  process_is_new_ = true;
  if (!process_set_.failed()) return true;
  process_set_.Clear();
  return false;
}

bool Definitions::HasNew() {
  ShortLockGuard guard(lock_);
  if (!guard) return false;
  if (process_is_new_ || appended_bytes_ != log_.size()) return true;
  for (int i = 0; i < source_states_; ++i) {
    if (source_state_[i].is_new) return true;
  }
  return false;
}

bool Definitions::Append(WireBuffer& out, bool everything) {
  ShortLockGuard guard(lock_);
  if (!guard) return false;
  if (everything || process_is_new_) {
    // A field that stands in both takes its last value: SetProcess's.
    const size_t body = out.BeginMessage(chunk_field::kProcess);
    out.AppendRaw(process_body_.data(), process_body_.size());
    out.AppendRaw(process_set_.data(), process_set_.size());
    out.EndMessage(body);
    process_is_new_ = false;
  }
  const size_t start = everything ? 0 : appended_bytes_;
  out.AppendRaw(log_.data() + start, log_.size() - start);
  appended_bytes_ = log_.size();
  for (int i = 0; i < source_states_; ++i) {
    SourceStateEntry& entry = source_state_[i];
    if (!everything && !entry.is_new) continue;
    entry.is_new = false;
    const size_t body = out.BeginMessage(chunk_field::kSourceState);
    out.String(1, {entry.name, entry.name_bytes});
    out.Unsigned(2, static_cast<uint64_t>(entry.state));
    out.String(3, {entry.reason, entry.reason_bytes});
    out.Unsigned(4, entry.time_ns);
    out.EndMessage(body);
  }
  return true;
}

}  // namespace uvmtrace
