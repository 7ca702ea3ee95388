#include "analyzer/reconstruct/services.h"

#include <algorithm>

namespace uvmtrace::reconstruct {

using uvm_model::kBlockBytes;
using uvm_model::kPageBytes;

namespace {

// Batch numbers repeat after 2^32, and each GPU has its own.
size_t SlotOf(uint64_t base, uint32_t batch, int32_t device) {
  const uint64_t owner = uint64_t{batch} << 8 | static_cast<uint8_t>(device);
  return static_cast<size_t>((base / kBlockBytes ^ owner * 0x9E3779B97F4A7C15u) * 0xFF51AFD7ED558CCDu >> 48);
}

}  // namespace

void ServiceBuilder::ForgetRecent() {
  std::fill(recent_.begin(), recent_.end(), 0);
  recent_count_ = 0;
  // Entries of the batches under way may still come.
  constexpr size_t kKept = kRecentSlots / 4;
  for (size_t i = services_.size() > kKept ? services_.size() - kKept : 0; i < services_.size(); ++i) {
    size_t slot = SlotOf(services_[i].base, services_[i].batch, services_[i].device);
    while (recent_[slot] != 0) slot = (slot + 1) % kRecentSlots;
    recent_[slot] = static_cast<uint32_t>(i + 1);
    ++recent_count_;
  }
}

void ServiceBuilder::Select(const GpuFault& fault, uint64_t base) {
  size_t slot = SlotOf(base, fault.batch, fault.device);
  for (; recent_[slot] != 0; slot = (slot + 1) % kRecentSlots) {
    const Service& found = services_[recent_[slot] - 1];
    if (found.base == base && found.batch == fault.batch && found.device == fault.device) {
      current_ = recent_[slot] - 1;
      return;
    }
  }
  current_ = services_.size();
  Service service;
  service.base = base;
  service.first_ns = service.last_ns = fault.time_ns;
  service.batch = fault.batch;
  service.device = fault.device;
  services_.push_back(service);
  recent_[slot] = static_cast<uint32_t>(services_.size());
  if (++recent_count_ > kRecentSlots / 2) ForgetRecent();
}

std::vector<Service> ServiceBuilder::Take() {
  current_ = 0;
  std::vector<Service> services = std::move(services_);
  services_.clear();
  ForgetRecent();
  for (Service& service : services) service.faults.read -= service.faults.write;
  return services;
}

void Throttles::Add(const RareEvent& event) {
  by_block_[event.address / kBlockBytes].push_back(
      {event.address / kPageBytes, event.time_ns, event.time_ns + event.duration_ns, event.processor});
}

void Throttles::Sort() {
  for (auto& [block, spans] : by_block_) {
    std::stable_sort(spans.begin(), spans.end(), [](const Span& a, const Span& b) { return a.start_ns < b.start_ns; });
  }
}

uvm_model::PageMask Throttles::Waiting(uint64_t base, int32_t device, uint64_t batch_end_ns) const {
  uvm_model::PageMask waiting;
  const auto found = by_block_.find(base / kBlockBytes);
  if (found == by_block_.end()) return waiting;
  for (const Span& span : found->second) {
    if (span.start_ns >= batch_end_ns) break;
    if (span.processor == device && batch_end_ns < span.end_ns) {
      waiting.Set(static_cast<int>(span.page % uvm_model::kPagesPerBlock));
    }
  }
  return waiting;
}

uint64_t Throttles::LastLook(uint64_t base, uint64_t time_ns) const {
  uint64_t last = 0;
  const auto found = by_block_.find(base / kBlockBytes);
  if (found == by_block_.end()) return last;
  for (const Span& span : found->second) {
    if (span.start_ns > time_ns) break;
    if (span.processor == kCpu) continue;
    last = std::max(last, span.end_ns <= time_ns ? span.end_ns : span.start_ns);
  }
  return last;
}

uint64_t Throttles::CpuServed(uint64_t address, uint64_t time_ns) const {
  constexpr uint64_t kSoon = 20'000;  // the event follows the fault
  const auto found = by_block_.find(address / kBlockBytes);
  if (found == by_block_.end()) return time_ns;
  for (const Span& span : found->second) {
    if (span.start_ns >= time_ns + kSoon) break;
    if (span.processor == kCpu && span.page == address / kPageBytes && span.start_ns >= time_ns) return span.end_ns;
  }
  return time_ns;
}

}  // namespace uvmtrace::reconstruct
