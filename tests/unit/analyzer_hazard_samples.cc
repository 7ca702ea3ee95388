// A trace with one of every hazard, for the golden reports and the fuzzer.
#include "tests/unit/analyzer_trace_builder.h"

namespace uvmtrace::testing {
namespace {

constexpr uint64_t kStart = 1'000'000'000;
constexpr uint64_t kBase = 0x7f0000000000;
constexpr uint64_t kMappedBase = kBase + 64 * kGiB;

uint64_t At(uint64_t time_ms) { return kStart + time_ms * 1'000'000; }

}  // namespace

TraceBuilder HazardSampleTrace() {
  TraceBuilder trace;
  trace.CuptiActive();
  trace.Device(0, 8 * kGiB);
  const uint32_t allocate = trace.Function("cudaMalloc", OPERATION_ALLOCATE);
  const uint32_t free_device = trace.Function("cudaFree", OPERATION_FREE);
  const uint32_t copy = trace.Function("cudaMemcpy", OPERATION_COPY);
  const uint32_t prefetch = trace.Function("cudaMemPrefetchAsync", OPERATION_PREFETCH);
  const uint32_t create = trace.Function("cuMemCreate", OPERATION_CREATE);
  const uint32_t import = trace.Function("cuMemImportFromShareableHandle", OPERATION_CREATE);
  const uint32_t map = trace.Function("cuMemMap", OPERATION_MAP);
  const uint32_t set_access = trace.Function("cuMemSetAccess", OPERATION_SET_ACCESS);
  const uint32_t unmap = trace.Function("cuMemUnmap", OPERATION_UNMAP);
  const uint32_t reset = trace.Function("cudaDeviceReset", OPERATION_RESET);
  const auto call = [&trace](uint32_t function, uint64_t time_ms, uint64_t address, uint64_t bytes,
                             int32_t result = 0) -> TraceBuilder::Call {
    TraceBuilder::Call made;
    made.function = function;
    made.start_ns = At(time_ms);
    made.address = address;
    made.bytes = bytes;
    made.result = result;
    made.door = DOOR_RUNTIME_SYMBOL;
    return made;
  };
  const auto device_memory = [&](uint64_t time_ms, uint64_t address) {
    TraceBuilder::Call made = call(allocate, time_ms, address, 2 * kMiB);
    made.kind = MEMORY_KIND_DEVICE;
    trace.Add(made);
  };

  // A double free, a free of an interior pointer, a use after a free, a hint for what cannot migrate.
  device_memory(10, kBase);
  trace.Add(call(free_device, 11, kBase + kMiB, 0, 1));
  trace.Add(call(prefetch, 12, kBase, 2 * kMiB, 1));
  trace.Add(call(free_device, 13, kBase, 0));
  trace.Add(call(free_device, 14, kBase, 0, 1));
  trace.Add(call(copy, 15, kBase + 4096, 4096));

  // Freed beneath a kernel.
  device_memory(20, kBase + kGiB);
  TraceBuilder::Call waiting = call(free_device, 30, kBase + kGiB, 0);
  waiting.duration_ns = 20'000'000;
  trace.Add(waiting);
  trace.EndChunk();
  trace.Kernel("train(float*)", At(25), At(50) - 10'000);

  // Prefetched for nothing.
  trace.Allocate(MEMORY_KIND_MANAGED, kBase + 2 * kGiB, 8 * kMiB, At(60));
  trace.Add(call(prefetch, 61, kBase + 2 * kGiB, 8 * kMiB));
  trace.Migrate(At(62), At(63), kBase + 2 * kGiB, 8 * kMiB, -1, 0, MIGRATION_CAUSE_USER);
  trace.Free(kBase + 2 * kGiB, At(70));

  // Unmapped beneath a kernel; of two mappings, one is imported.
  TraceBuilder::Call created = call(create, 80, 7, 2 * kMiB);
  created.kind = MEMORY_KIND_PHYSICAL;
  trace.Add(created);
  created = call(import, 80, 8, 0);
  created.kind = MEMORY_KIND_IMPORTED;
  trace.Add(created);
  for (uint64_t piece = 0; piece < 2; ++piece) {
    TraceBuilder::Call mapped = call(map, 81, kMappedBase + piece * 2 * kMiB, 2 * kMiB);
    mapped.other_address = 7 + piece;
    trace.Add(mapped);
  }
  TraceBuilder::Call access = call(set_access, 82, kMappedBase, 4 * kMiB);
  access.flags = 3;
  trace.Add(access);
  trace.Add(call(unmap, 90, kMappedBase, 4 * kMiB));
  trace.EndChunk();
  trace.Kernel("serve(float*)", At(85), At(95));

  device_memory(100, kBase + 3 * kGiB);
  trace.Add(call(reset, 110, 0, 0));
  trace.Audit("cudaMalloc", 4, 3);
  trace.Audit("cuMemAlloc_v2", 0, 3);
  trace.EndChunk(At(120));
  return trace;
}

}  // namespace uvmtrace::testing
