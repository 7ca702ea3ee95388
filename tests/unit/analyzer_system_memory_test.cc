// Memory that CUDA did not allocate and GPUs reach all the same: faults and migrations belong to the mapping that they
// hit.
#include "tests/unit/analyzer_report_reading.h"

namespace uvmtrace::testing {
namespace {

constexpr uint64_t kMs = 1'000'000;

void Define(TraceBuilder* trace, uint64_t start, uint64_t end, MemoryAreaKind kind, const std::string& name,
            uint64_t seen_ns) {
  auto* area = trace->chunk().add_memory_area();
  area->set_start(start);
  area->set_end(end);
  area->set_kind(kind);
  area->set_name(name);
  area->set_seen_ns(seen_ns);
  area->add_node(0);
  area->add_node_bytes(4096);
}

TraceBuilder SystemTrace() {
  TraceBuilder trace;
  trace.CuptiActive();
  trace.Device(0, kGiB);
  trace.chunk().mutable_device(0)->set_pageable_memory_access(true);
  return trace;
}

void Arrive(TraceBuilder* trace, uint64_t time_ns, uint64_t address) {
  trace->Migrate(time_ns, time_ns + kMs, address, 2 * kMiB, -1, 0);
}

uint64_t BytesOf(const Report& report, const std::string& key) {
  for (const SiteRow& row : report.sites()) {
    if (row.key() == key) return row.host_to_device_bytes();
  }
  ADD_FAILURE() << "no row " << key;
  return 0;
}

bool Has(const Report& report, const std::string& key) {
  return std::any_of(report.sites().begin(), report.sites().end(),
                     [&key](const SiteRow& row) { return row.key() == key; });
}

TEST(SystemMemory, EventsBelongToTheMappingThatWasSeenAfterThem) {
  TraceBuilder trace = SystemTrace();
  Arrive(&trace, kStart + 10 * kMs, kBase);
  Arrive(&trace, kStart + 20 * kMs, kBase + kGiB);
  trace.GpuFault(kStart + 9 * kMs, kStart + 10 * kMs, kBase);
  Define(&trace, kBase, kBase + 64 * kMiB, MEMORY_AREA_KIND_HEAP, "[heap]", kStart + 200 * kMs);
  Define(&trace, kBase + kGiB, kBase + kGiB + 8 * kMiB, MEMORY_AREA_KIND_FILE, "/data/weights.bin", kStart + 200 * kMs);
  const Report report = ReportOf(trace);
  EXPECT_EQ(BytesOf(report, "system:system memory, [heap]"), 2 * kMiB);
  EXPECT_EQ(BytesOf(report, "system:system memory, /data/weights.bin"), 2 * kMiB);
  EXPECT_FALSE(Has(report, "unattributed"));
  for (const SiteRow& row : report.sites()) EXPECT_EQ(row.kind(), "system");
  ASSERT_GE(report.allocations_size(), 2);
  EXPECT_EQ(report.allocations(0).kind(), "system");
  const std::string text = TextOf(report);
  EXPECT_NE(text.find("system memory, [heap]"), std::string::npos);
  EXPECT_EQ(text.find("none of it is managed"), std::string::npos);
}

TEST(SystemMemory, AMappingThatGrewIsOneArea) {
  TraceBuilder trace = SystemTrace();
  Define(&trace, kBase, kBase + 2 * kMiB, MEMORY_AREA_KIND_HEAP, "[heap]", kStart + 100 * kMs);
  Arrive(&trace, kStart + 110 * kMs, kBase + 8 * kMiB);
  trace.EndChunk();
  Define(&trace, kBase, kBase + 64 * kMiB, MEMORY_AREA_KIND_HEAP, "[heap]", kStart + 400 * kMs);
  Define(&trace, kBase, kBase + 2 * kMiB, MEMORY_AREA_KIND_HEAP, "[heap]", kStart + 100 * kMs);  // after a restart
  Arrive(&trace, kStart + 500 * kMs, kBase + 32 * kMiB);
  const Report report = ReportOf(trace);
  EXPECT_EQ(BytesOf(report, "system:system memory, [heap]"), 4 * kMiB);
  EXPECT_FALSE(Has(report, "unattributed"));
}

TEST(SystemMemory, AnAddressBelongsToWhatWasMappedThereThen) {
  TraceBuilder trace = SystemTrace();
  Arrive(&trace, kStart + 10 * kMs, kBase);
  Define(&trace, kBase, kBase + 8 * kMiB, MEMORY_AREA_KIND_FILE, "/first", kStart + 200 * kMs);
  Arrive(&trace, kStart + 900 * kMs, kBase);
  Arrive(&trace, kStart + 910 * kMs, kBase + 2 * kMiB);
  Define(&trace, kBase, kBase + 8 * kMiB, MEMORY_AREA_KIND_ANONYMOUS, "", kStart + 1000 * kMs);
  const Report report = ReportOf(trace);
  EXPECT_EQ(BytesOf(report, "system:system memory, /first"), 2 * kMiB);
  EXPECT_EQ(BytesOf(report, "system:system memory, anonymous (malloc, mmap)"), 4 * kMiB);
}

// Registered or managed memory inside of a mapping is the program's call's.
TEST(SystemMemory, AnAllocationInsideOfAMappingHasItsOwnEvents) {
  TraceBuilder trace = SystemTrace();
  trace.Allocate(MEMORY_KIND_REGISTERED, kBase + 16 * kMiB, 4 * kMiB, kStart + kMs);
  Arrive(&trace, kStart + 10 * kMs, kBase + 16 * kMiB);
  Arrive(&trace, kStart + 20 * kMs, kBase + 32 * kMiB);
  Define(&trace, kBase, kBase + 64 * kMiB, MEMORY_AREA_KIND_ANONYMOUS, "", kStart + 200 * kMs);
  const Report report = ReportOf(trace);
  EXPECT_EQ(BytesOf(report, "registered:unknown"), 2 * kMiB);
  EXPECT_EQ(BytesOf(report, "system:system memory, anonymous (malloc, mmap)"), 2 * kMiB);
}

}  // namespace
}  // namespace uvmtrace::testing
