#include "analyzer/reconstruct/services.h"

#include <algorithm>

namespace uvmtrace::reconstruct {

using uvm_model::kBlockBytes;
using uvm_model::kPageBytes;

void ServiceBuilder::Select(const GpuFault& fault, uint64_t base) {
  // Batch numbers repeat after 2^32, and each GPU has its own; within the services of one batch the base is the key.
  const uint64_t batch = uint64_t{fault.batch} << 8 | static_cast<uint8_t>(fault.device);
  const uint64_t key = base ^ (batch * 0x9E3779B97F4A7C15u);
  constexpr size_t kForgetAfter = 1 << 16;
  if (recent_.size() > kForgetAfter && batch != recent_batch_) recent_.clear();
  recent_batch_ = batch;
  const auto [it, fresh] = recent_.try_emplace(key, services_.size());
  if (!fresh) {
    const Service& found = services_[it->second];
    if (found.base == base && found.batch == fault.batch && found.device == fault.device) {
      current_ = it->second;
      return;
    }
    it->second = services_.size();
  }
  current_ = services_.size();
  Service service;
  service.base = base;
  service.first_ns = service.last_ns = fault.time_ns;
  service.batch = fault.batch;
  service.device = fault.device;
  services_.push_back(service);
}

std::vector<Service> ServiceBuilder::Take() {
  recent_.clear();
  current_ = 0;
  std::vector<Service> services = std::move(services_);
  services_.clear();
  for (Service& service : services) service.faults.read -= service.faults.write;
  std::stable_sort(services.begin(), services.end(),
                   [](const Service& a, const Service& b) { return a.first_ns < b.first_ns; });
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
