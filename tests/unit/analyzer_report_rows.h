// Rows of a Report, written by hand: what the findings, the headline and the verdict are tested with. No trace, no
// model.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "analyzer/explain/explain.h"
#include "analyzer/present/text.h"
#include "proto/report.pb.h"

namespace uvmtrace::testing {

inline constexpr uint64_t kMs = 1'000'000;
inline constexpr uint64_t kKiB = uint64_t{1} << 10;
inline constexpr uint64_t kMiB = uint64_t{1} << 20;
inline constexpr uint64_t kGiB = uint64_t{1} << 30;

// A run of 1 s on one GPU of 80 GiB, with 100 ms of kernels, everything recorded, nothing lost, nothing slow.
class ReportRows {
 public:
  ReportRows() {
    report.mutable_capture()->set_duration_ns(1000 * kMs);
    report.mutable_capture()->set_clean_end(true);
    report.mutable_capture()->set_detail("full");
    report.mutable_capture()->add_command_line("/opt/bin/program");
    DeviceRow* device = report.add_devices();
    device->set_name("NVIDIA H100 80GB HBM3");
    device->set_uuid("GPU-0");
    device->set_ordinal(0);
    device->set_total_memory_bytes(80 * kGiB);
    Totals* totals = report.mutable_totals();
    totals->set_kernel_busy_ns(100 * kMs);
    totals->set_gpu_fault_entries(0);
    totals->set_cpu_faults(0);
    totals->set_fault_batches(0);
    totals->set_fault_service_ns(0);
    totals->set_host_to_device_bytes(0);
    totals->set_device_to_host_bytes(0);
    totals->set_evicted_bytes(0);
  }

  // Memory of one line, allocated `count` times.
  SiteRow* Site(const std::string& key, const std::string& kind, uint64_t bytes, uint64_t count = 1) {
    SiteRow* site = report.add_sites();
    site->set_key(key);
    site->set_kind(kind);
    site->set_site("Make_" + key + "(int) (src/" + key + ".cc:12)");
    site->set_allocations(count);
    site->set_frees(count);
    site->set_total_bytes(bytes * count);
    site->set_peak_bytes(bytes * count);
    MemoryRow* memory = nullptr;
    for (MemoryRow& row : *report.mutable_memory()) {
      if (row.kind() == kind) memory = &row;
    }
    if (memory == nullptr) memory = report.add_memory();
    memory->set_kind(kind);
    memory->set_allocations(memory->allocations() + count);
    memory->set_peak_bytes(memory->peak_bytes() + bytes * count);
    return site;
  }

  // That came to the GPU by faults, which it waited for.
  SiteRow* Faulted(SiteRow* site, uint64_t bytes, uint64_t waited_ns, uint64_t entries = 1000) {
    site->set_host_to_device_bytes(site->host_to_device_bytes() + bytes);
    site->set_device_to_host_bytes(site->device_to_host_bytes());
    site->set_faulted_bytes(site->faulted_bytes() + bytes);
    site->set_gpu_waited_ns(site->gpu_waited_ns() + waited_ns);
    site->set_gpu_fault_entries(site->gpu_fault_entries() + entries);
    site->set_cpu_faults(site->cpu_faults());
    if (site->kernels_size() == 0) site->add_kernels("void Step<float>(float*, int)");
    Totals* totals = report.mutable_totals();
    totals->set_fault_service_ns(totals->fault_service_ns() + waited_ns);
    totals->set_gpu_fault_entries(totals->gpu_fault_entries() + entries);
    totals->set_fault_batches(totals->fault_batches() + entries / 100 + 1);
    totals->set_host_to_device_bytes(totals->host_to_device_bytes() + bytes);
    Migration("host_to_device", "coherence", bytes / 4, waited_ns / 4);
    Migration("host_to_device", "prefetch", bytes - bytes / 4, waited_ns / 4);
    return site;
  }

  MigrationRow* Migration(const std::string& direction, const std::string& cause, uint64_t bytes, uint64_t busy_ns) {
    MigrationRow* row = nullptr;
    for (MigrationRow& one : *report.mutable_migrations()) {
      if (one.direction() == direction && one.cause() == cause) row = &one;
    }
    if (row == nullptr) row = report.add_migrations();
    row->set_direction(direction);
    row->set_cause(cause);
    row->set_bytes(row->bytes() + bytes);
    row->set_count(row->count() + 1);
    row->set_busy_ns(row->busy_ns() + busy_ns);
    if (row->busy_ns() > 0) {
      row->set_bytes_per_second(static_cast<double>(row->bytes()) * 1e9 / static_cast<double>(row->busy_ns()));
    }
    return row;
  }

  CallSiteRow* Call(const std::string& key, const std::string& operation, const SiteRow* target, uint64_t count,
                    uint64_t bytes, uint64_t total_ns) {
    CallSiteRow* call = report.add_call_sites();
    call->set_key(key);
    call->set_operation(operation);
    call->set_function(operation == "prefetch" ? "cudaMemPrefetchAsync"
                       : operation == "advise" ? "cudaMemAdvise"
                                               : "cudaMemcpy");
    call->set_site("Call_" + key + "() (src/" + key + ".cc:34)");
    if (target != nullptr) {
      call->set_target(target->key());
      call->set_target_site(target->site());
    }
    if (operation == "copy") call->set_other_end("");
    call->set_count(count);
    call->set_bytes(bytes);
    call->set_total_ns(total_ns);
    return call;
  }

  BottomHalfRow* Thread(uint64_t cpu_ns, uint64_t wait_ns = 0) {
    BottomHalfRow* thread = report.add_bh_threads();
    thread->set_name("UVM GPU1 BH");
    thread->set_device_uuid("GPU-0");
    thread->set_visible(true);
    thread->set_cpu_ns(cpu_ns);
    thread->set_wait_ns(wait_ns);
    thread->set_span_ns(1000 * kMs);
    return thread;
  }

  // What a person reads, spaces and line ends folded.
  std::string Text(const analyzer::TextOptions& options = {}) {
    Explained();
    const std::string text = analyzer::RenderText(report, options);
    std::string line;
    for (const char c : text) {
      const bool space = c == ' ' || c == '\n';
      if (!space || line.empty() || line.back() != ' ') line += space ? ' ' : c;
    }
    return line;
  }

  const Report& Explained() {
    if (!explained_) analyzer::Explain(&report);
    explained_ = true;
    return report;
  }

  std::string Verdict() {
    std::string text;
    for (const std::string& sentence : Explained().verdict()) text += sentence + "\n";
    return text;
  }

  // The finding with this id; nullptr: none.
  const FindingRow* Finding(const std::string& id) {
    for (const FindingRow& row : Explained().findings()) {
      if (row.id() == id) return &row;
    }
    return nullptr;
  }

  std::string Ids() {
    std::string ids;
    for (const FindingRow& row : Explained().findings()) ids += row.id() + " ";
    return ids;
  }

  Report report;

 private:
  bool explained_ = false;
};

}  // namespace uvmtrace::testing
