// Events and definitions through Recorder, rings, writer and file, read back by libprotobuf.
#include <dlfcn.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <algorithm>
#include <thread>

#include "record_test_util.h"

namespace uvmtrace {
namespace {

using namespace uvmtrace::testing;  // NOLINT

TEST(RecordEnums, HaveTheValuesOfTheSchema) {
  EXPECT_EQ(int(TimeBase::kMonotonic), pb::TIME_BASE_MONOTONIC);
  EXPECT_EQ(int(TimeBase::kRealtime), pb::TIME_BASE_REALTIME);
  EXPECT_EQ(int(TimeBase::kMonotonicRaw), pb::TIME_BASE_MONOTONIC_RAW);
  EXPECT_EQ(int(TimeBase::kCupti), pb::TIME_BASE_CUPTI);
  EXPECT_EQ(int(EventSource::kUnknown), pb::EVENT_SOURCE_UNKNOWN);
  EXPECT_EQ(int(EventSource::kCupti), pb::EVENT_SOURCE_CUPTI);
  EXPECT_EQ(int(EventSource::kDriverQueue), pb::EVENT_SOURCE_DRIVER_QUEUE);
  EXPECT_EQ(int(Door::kUnknown), pb::DOOR_UNKNOWN);
  EXPECT_EQ(int(Door::kRuntimeSymbol), pb::DOOR_RUNTIME_SYMBOL);
  EXPECT_EQ(int(Door::kDriverSymbol), pb::DOOR_DRIVER_SYMBOL);
  EXPECT_EQ(int(Door::kGetProcAddress), pb::DOOR_GET_PROC_ADDRESS);
  EXPECT_EQ(int(Door::kCupti), pb::DOOR_CUPTI);
  EXPECT_EQ(int(Layer::kUnknown), pb::LAYER_UNKNOWN);
  EXPECT_EQ(int(Layer::kRuntime), pb::LAYER_RUNTIME);
  EXPECT_EQ(int(Layer::kDriver), pb::LAYER_DRIVER);
  EXPECT_EQ(int(Operation::kOther), pb::OPERATION_OTHER);
  EXPECT_EQ(int(Operation::kAllocate), pb::OPERATION_ALLOCATE);
  EXPECT_EQ(int(Operation::kFree), pb::OPERATION_FREE);
  EXPECT_EQ(int(Operation::kCopy), pb::OPERATION_COPY);
  EXPECT_EQ(int(Operation::kSet), pb::OPERATION_SET);
  EXPECT_EQ(int(Operation::kPrefetch), pb::OPERATION_PREFETCH);
  EXPECT_EQ(int(Operation::kAdvise), pb::OPERATION_ADVISE);
  EXPECT_EQ(int(Operation::kRegister), pb::OPERATION_REGISTER);
  EXPECT_EQ(int(Operation::kUnregister), pb::OPERATION_UNREGISTER);
  EXPECT_EQ(int(Operation::kReserve), pb::OPERATION_RESERVE);
  EXPECT_EQ(int(Operation::kUnreserve), pb::OPERATION_UNRESERVE);
  EXPECT_EQ(int(Operation::kCreate), pb::OPERATION_CREATE);
  EXPECT_EQ(int(Operation::kRelease), pb::OPERATION_RELEASE);
  EXPECT_EQ(int(Operation::kMap), pb::OPERATION_MAP);
  EXPECT_EQ(int(Operation::kUnmap), pb::OPERATION_UNMAP);
  EXPECT_EQ(int(Operation::kSetAccess), pb::OPERATION_SET_ACCESS);
  EXPECT_EQ(int(Operation::kInitialize), pb::OPERATION_INITIALIZE);
  EXPECT_EQ(int(Operation::kReset), pb::OPERATION_RESET);
  EXPECT_EQ(int(Operation::kProfilerStart), pb::OPERATION_PROFILER_START);
  EXPECT_EQ(int(Operation::kProfilerStop), pb::OPERATION_PROFILER_STOP);
  EXPECT_EQ(int(Operation::kMake), pb::OPERATION_MAKE);
  EXPECT_EQ(int(Operation::kMake), int(pb::Operation_MAX));
  EXPECT_EQ(int(CopyKind::kHostToDevice), pb::COPY_KIND_HOST_TO_DEVICE);
  EXPECT_EQ(int(CopyKind::kDeviceToHost), pb::COPY_KIND_DEVICE_TO_HOST);
  EXPECT_EQ(int(CopyKind::kDeviceToDevice), pb::COPY_KIND_DEVICE_TO_DEVICE);
  EXPECT_EQ(int(CopyKind::kHostToHost), pb::COPY_KIND_HOST_TO_HOST);
  EXPECT_EQ(int(CopyKind::kPeer), pb::COPY_KIND_PEER);
  EXPECT_EQ(int(CopyKind::kSet), pb::COPY_KIND_SET);
  EXPECT_EQ(int(CopyKind::kSet), int(pb::CopyKind_MAX));
  EXPECT_EQ(int(CopyMemory::kPageable), pb::COPY_MEMORY_PAGEABLE);
  EXPECT_EQ(int(CopyMemory::kPinned), pb::COPY_MEMORY_PINNED);
  EXPECT_EQ(int(CopyMemory::kDevice), pb::COPY_MEMORY_DEVICE);
  EXPECT_EQ(int(CopyMemory::kArray), pb::COPY_MEMORY_ARRAY);
  EXPECT_EQ(int(CopyMemory::kManaged), pb::COPY_MEMORY_MANAGED);
  EXPECT_EQ(int(CopyMemory::kManaged), int(pb::CopyMemory_MAX));
  EXPECT_EQ(int(SynchronizationKind::kEvent), pb::SYNCHRONIZATION_KIND_EVENT);
  EXPECT_EQ(int(SynchronizationKind::kStreamWait), pb::SYNCHRONIZATION_KIND_STREAM_WAIT);
  EXPECT_EQ(int(SynchronizationKind::kStream), pb::SYNCHRONIZATION_KIND_STREAM);
  EXPECT_EQ(int(SynchronizationKind::kContext), pb::SYNCHRONIZATION_KIND_CONTEXT);
  EXPECT_EQ(int(SynchronizationKind::kContext), int(pb::SynchronizationKind_MAX));
  EXPECT_EQ(int(AnnotationKind::kPush), pb::ANNOTATION_KIND_PUSH);
  EXPECT_EQ(int(AnnotationKind::kPop), pb::ANNOTATION_KIND_POP);
  EXPECT_EQ(int(AnnotationKind::kStart), pb::ANNOTATION_KIND_START);
  EXPECT_EQ(int(AnnotationKind::kEnd), pb::ANNOTATION_KIND_END);
  EXPECT_EQ(int(AnnotationKind::kMark), pb::ANNOTATION_KIND_MARK);
  EXPECT_EQ(int(AnnotationKind::kMark), int(pb::AnnotationKind_MAX));
  EXPECT_EQ(int(MemoryKind::kUnknown), pb::MEMORY_KIND_UNKNOWN);
  EXPECT_EQ(int(MemoryKind::kDevice), pb::MEMORY_KIND_DEVICE);
  EXPECT_EQ(int(MemoryKind::kManaged), pb::MEMORY_KIND_MANAGED);
  EXPECT_EQ(int(MemoryKind::kPinned), pb::MEMORY_KIND_PINNED);
  EXPECT_EQ(int(MemoryKind::kRegistered), pb::MEMORY_KIND_REGISTERED);
  EXPECT_EQ(int(MemoryKind::kPool), pb::MEMORY_KIND_POOL);
  EXPECT_EQ(int(MemoryKind::kPhysical), pb::MEMORY_KIND_PHYSICAL);
  EXPECT_EQ(int(MemoryKind::kReserved), pb::MEMORY_KIND_RESERVED);
  EXPECT_EQ(int(MemoryKind::kImported), pb::MEMORY_KIND_IMPORTED);
  EXPECT_EQ(int(MemoryKind::kImported), int(pb::MemoryKind_MAX));
  EXPECT_EQ(int(SourceStateKind::kUnknown), pb::STATE_UNKNOWN);
  EXPECT_EQ(int(SourceStateKind::kActive), pb::STATE_ACTIVE);
  EXPECT_EQ(int(SourceStateKind::kUnavailable), pb::STATE_UNAVAILABLE);
  EXPECT_EQ(int(SourceStateKind::kDisabled), pb::STATE_DISABLED);
  EXPECT_EQ(int(SourceStateKind::kIdle), pb::STATE_IDLE);
  EXPECT_EQ(int(SourceStateKind::kStopped), pb::STATE_STOPPED);
  EXPECT_EQ(int(RegionKind::kUnknown), pb::REGION_EVENT_UNKNOWN);
  EXPECT_EQ(int(RegionKind::kThrashing), pb::REGION_EVENT_THRASHING);
  EXPECT_EQ(int(RegionKind::kThrottling), pb::REGION_EVENT_THROTTLING);
  EXPECT_EQ(int(RegionKind::kRemoteMap), pb::REGION_EVENT_REMOTE_MAP);
  EXPECT_EQ(int(ThreadRole::kUnknown), pb::THREAD_ROLE_UNKNOWN);
  EXPECT_EQ(int(ThreadRole::kBottomHalf), pb::THREAD_ROLE_BOTTOM_HALF);
  EXPECT_EQ(int(ThreadRole::kToolsQueue), pb::THREAD_ROLE_TOOLS_QUEUE);
}

TEST_F(RecorderTest, ApiCallsRoundTripValueByValue) {
  Start();
  const std::vector<ApiCallEvent> events = ApiCallSamples();
  std::vector<std::vector<uint64_t>> stacks = {{}, {1, UINT64_MAX, 0}, {1, UINT64_MAX, 0}};
  for (size_t i = 0; i < events.size(); ++i) Recorder::Get().Record(events[i], stacks[i]);
  ApiCallEvent deep;
  std::vector<uint64_t> deepest(128);
  for (size_t i = 0; i < deepest.size(); ++i) deepest[i] = 0x7f00'0000'0000 + i * 4096;
  Recorder::Get().Record(deep, deepest);
  const pb::Trace trace = Finish();

  std::map<uint32_t, std::vector<uint64_t>> known;
  int seen = 0;
  for (const pb::Chunk& chunk : trace.chunk()) {
    for (const pb::Stack& stack : chunk.stack()) {
      EXPECT_TRUE(known.emplace(stack.id(), std::vector<uint64_t>(stack.pc().begin(), stack.pc().end())).second);
    }
    for (const pb::ApiCalls& calls : chunk.api_calls()) {
      const int rows = calls.start_delta_ns_size();
      ASSERT_EQ(rows, 4);
      const auto start = Undelta(calls.start_delta_ns(), rows);
      const auto address = Undelta(calls.address_delta(), rows);
      const auto other = Undelta(calls.other_address_delta(), rows);
      for (int i = 0; i < rows; ++i, ++seen) {
        const ApiCallEvent& event = i < 3 ? events[i] : deep;
        EXPECT_EQ(start[i], event.start_ns);
        EXPECT_EQ(address[i], event.address);
        EXPECT_EQ(other[i], event.other_address);
        EXPECT_EQ(At(calls.duration_ns(), i), event.duration_ns);
        EXPECT_EQ(At(calls.tid(), i), event.tid);
        EXPECT_EQ(At(calls.function(), i), event.function);
        EXPECT_EQ(At(calls.driver_function(), i), event.driver_function);
        EXPECT_EQ(At(calls.door(), i), uint64_t(event.door));
        EXPECT_EQ(static_cast<int32_t>(At(calls.result(), i)), event.result);
        EXPECT_EQ(At(calls.bytes(), i), event.bytes);
        EXPECT_EQ(At(calls.flags(), i), event.flags);
        EXPECT_EQ(At(calls.stream(), i), event.stream);
        EXPECT_EQ(static_cast<int32_t>(At(calls.location(), i)), event.location);
        EXPECT_EQ(At(calls.memory_kind(), i), uint64_t(event.memory_kind));
        const std::vector<uint64_t>& expected = i < 3 ? stacks[i] : deepest;
        const uint32_t stack = At(calls.stack(), i);
        if (expected.empty()) {
          EXPECT_EQ(stack, 0u);
        } else {
          ASSERT_TRUE(known.contains(stack));
          EXPECT_EQ(known[stack], expected);
        }
      }
      EXPECT_EQ(At(calls.stack(), 1), At(calls.stack(), 2)) << "equal stacks are one stack";
    }
  }
  EXPECT_EQ(seen, 4);
}

TEST_F(RecorderTest, SourceEventsRoundTripGroupedBySourceAndClock) {
  Start();
  Recorder& recorder = Recorder::Get();
  const uint32_t name = recorder.InternString("void saxpy<float>(int)");
  EXPECT_EQ(recorder.InternString("void saxpy<float>(int)"), name);
  std::thread([&] {
    recorder.BecomeSource();
    for (const TimeBase clock :
         {TimeBase::kMonotonic, TimeBase::kRealtime, TimeBase::kMonotonicRaw, TimeBase::kCupti}) {
      for (const EventSource source : {EventSource::kUnknown, EventSource::kCupti, EventSource::kDriverQueue}) {
        const uint64_t base = 100 * uint64_t(clock) + 10 * uint64_t(source);
        GpuFaultEvent fault;
        fault.clock = clock;
        fault.source = source;
        fault.start_ns = base + 1;
        fault.end_ns = base;  // before the start: not known
        fault.address = UINT64_MAX;
        fault.groups = UINT32_MAX;
        fault.device = INT16_MIN;
        fault.access = pb::ACCESS_PREFETCH;
        recorder.Record(fault);
        CpuFaultEvent cpu_fault;
        cpu_fault.clock = clock;
        cpu_fault.source = source;
        cpu_fault.start_ns = base + 2;
        cpu_fault.address = 0x1000;
        cpu_fault.pc = UINT64_MAX;
        cpu_fault.tid = 77;
        cpu_fault.access = pb::ACCESS_WRITE;
        recorder.Record(cpu_fault);
        MigrationEvent migration;
        migration.clock = clock;
        migration.source = source;
        migration.start_ns = base + 3;
        migration.end_ns = base + 33;
        migration.address = 0x20'0000;
        migration.bytes = UINT64_MAX;
        migration.source_device = kCpu;
        migration.destination_device = INT16_MAX;
        migration.cause = pb::MIGRATION_CAUSE_EVICTION;
        recorder.Record(migration);
        RegionEvent region;
        region.clock = clock;
        region.source = source;
        region.start_ns = base + 4;
        region.end_ns = UINT64_MAX;
        region.address = 0x40'0000;
        region.bytes = 65536;
        region.kind = RegionKind::kRemoteMap;
        region.source_device = 3;
        region.destination_device = kUnknownDevice;
        region.cause = 255;
        recorder.Record(region);
        KernelEvent kernel;
        kernel.clock = clock;
        kernel.source = source;
        kernel.start_ns = base + 5;
        kernel.end_ns = base + 6;
        kernel.stream = UINT64_MAX;
        kernel.name = name;
        kernel.device = 7;
        recorder.Record(kernel);
      }
    }
  }).join();
  const pb::Trace trace = Finish();

  std::string name_value;
  int groups = 0;
  for (const pb::Chunk& chunk : trace.chunk()) {
    for (const pb::String& string : chunk.string()) {
      if (string.id() == name) name_value = string.value();
    }
    for (const pb::GpuFaults& faults : chunk.gpu_faults()) {
      ++groups;
      const uint64_t base = 100 * uint64_t(faults.clock()) + 10 * uint64_t(faults.source());
      ASSERT_EQ(faults.start_delta_ns_size(), 1);
      EXPECT_EQ(uint64_t(faults.start_delta_ns(0)), base + 1);
      EXPECT_EQ(faults.duration_ns_size(), 0) << "a column of zeros is left out";
      EXPECT_EQ(uint64_t(faults.address_delta(0)), UINT64_MAX);
      EXPECT_EQ(faults.device(0), INT16_MIN);
      EXPECT_EQ(faults.access(0), pb::ACCESS_PREFETCH);
      EXPECT_EQ(faults.groups(0), UINT32_MAX);
    }
    for (const pb::CpuFaults& faults : chunk.cpu_faults()) {
      ++groups;
      const uint64_t base = 100 * uint64_t(faults.clock()) + 10 * uint64_t(faults.source());
      EXPECT_EQ(uint64_t(faults.start_delta_ns(0)), base + 2);
      EXPECT_EQ(faults.address_delta(0), 0x1000);
      EXPECT_EQ(uint64_t(faults.pc_delta(0)), UINT64_MAX);
      EXPECT_EQ(faults.access(0), pb::ACCESS_WRITE);
      EXPECT_EQ(faults.tid(0), 77u);
    }
    for (const pb::Migrations& migrations : chunk.migrations()) {
      ++groups;
      const uint64_t base = 100 * uint64_t(migrations.clock()) + 10 * uint64_t(migrations.source());
      EXPECT_EQ(uint64_t(migrations.start_delta_ns(0)), base + 3);
      EXPECT_EQ(migrations.duration_ns(0), 30u);
      EXPECT_EQ(migrations.address_delta(0), 0x20'0000);
      EXPECT_EQ(migrations.bytes(0), UINT64_MAX);
      EXPECT_EQ(migrations.source_device(0), -1);
      EXPECT_EQ(migrations.destination_device(0), INT16_MAX);
      EXPECT_EQ(migrations.cause(0), pb::MIGRATION_CAUSE_EVICTION);
    }
    for (const pb::RegionEvents& regions : chunk.region_events()) {
      ++groups;
      const uint64_t base = 100 * uint64_t(regions.clock()) + 10 * uint64_t(regions.source());
      EXPECT_EQ(uint64_t(regions.start_delta_ns(0)), base + 4);
      EXPECT_EQ(regions.duration_ns(0), UINT64_MAX - base - 4);
      EXPECT_EQ(regions.address_delta(0), 0x40'0000);
      EXPECT_EQ(regions.bytes(0), 65536u);
      EXPECT_EQ(regions.kind(0), pb::REGION_EVENT_REMOTE_MAP);
      EXPECT_EQ(regions.source_device(0), 3);
      EXPECT_EQ(regions.destination_device(0), -2);
      EXPECT_EQ(regions.cause(0), 255u);
    }
    for (const pb::Kernels& kernels : chunk.kernels()) {
      ++groups;
      const uint64_t base = 100 * uint64_t(kernels.clock()) + 10 * uint64_t(kernels.source());
      EXPECT_EQ(uint64_t(kernels.start_delta_ns(0)), base + 5);
      EXPECT_EQ(kernels.duration_ns(0), 1u);
      EXPECT_EQ(kernels.device(0), 7);
      EXPECT_EQ(kernels.stream(0), UINT64_MAX);
      EXPECT_EQ(kernels.name(0), name);
    }
  }
  EXPECT_EQ(groups, 5 * 12);
  EXPECT_EQ(name_value, "void saxpy<float>(int)");
  const pb::End& end = trace.chunk(trace.chunk_size() - 1).end();
  EXPECT_EQ(end.gpu_faults(), 12u);
  EXPECT_EQ(end.cpu_faults(), 12u);
  EXPECT_EQ(end.migrations(), 12u);
  EXPECT_EQ(end.region_events(), 12u);
  EXPECT_EQ(end.kernels(), 12u);
}

TEST_F(RecorderTest, SamplesRoundTrip) {
  Start();
  Recorder& recorder = Recorder::Get();
  KernelThreadDefinition definition = {};
  definition.tid = 99;
  definition.start_ticks = UINT64_MAX;
  definition.name = "UVM GPU1 BH";
  definition.role = ThreadRole::kBottomHalf;
  definition.has_device_uuid = true;
  std::fill_n(definition.device_uuid, 16, 0);  // zeros are a value here
  const uint32_t thread = recorder.DefineKernelThread(definition);
  EXPECT_EQ(thread, 1u);
  recorder.Record(ThreadSampleEvent{1000, 2000, UINT64_MAX, thread});
  recorder.Record(ThreadSampleEvent{900, 0, 1, thread});
  recorder.Record(ProcessSampleEvent{10, 20, 30, 40});
  recorder.Record(CounterSampleEvent{10, 1ull << 40, UINT64_MAX, 3, 4});
  recorder.Record(CounterSampleEvent{30, 2ull << 40, 0, 5, 6});
  recorder.Record(ClockSampleEvent{5, 6, 7, 8});
  const pb::Trace trace = Finish();
  bool counter_samples = false;
  bool thread_samples = false;
  bool process_samples = false;
  bool cupti_clock = false;
  bool kernel_thread = false;
  int clock_rows = 0;
  for (const pb::Chunk& chunk : trace.chunk()) {
    for (const pb::KernelThread& k : chunk.kernel_thread()) {
      kernel_thread = true;
      EXPECT_EQ(k.tid(), 99u);
      EXPECT_EQ(k.start_ticks(), UINT64_MAX);
      EXPECT_EQ(k.name(), "UVM GPU1 BH");
      EXPECT_EQ(k.role(), pb::THREAD_ROLE_BOTTOM_HALF);
      EXPECT_EQ(k.device_uuid(), std::string(16, '\0'));
    }
    for (const pb::ThreadSamples& samples : chunk.thread_samples()) {
      thread_samples = true;
      EXPECT_EQ(Undelta(samples.time_delta_ns(), 2), (std::vector<uint64_t>{1000, 900}));
      EXPECT_EQ(samples.cpu_ns(0), 2000u);
      EXPECT_EQ(samples.wait_ns(0), UINT64_MAX);
      EXPECT_EQ(samples.kernel_thread(1), 1u);
    }
    for (const pb::ProcessSamples& samples : chunk.process_samples()) {
      process_samples = true;
      EXPECT_EQ(samples.time_delta_ns(0), 10);
      EXPECT_EQ(samples.user_ns(0), 20u);
      EXPECT_EQ(samples.system_ns(0), 30u);
      EXPECT_EQ(samples.tool_ns(0), 40u);
    }
    for (const pb::CounterSamples& samples : chunk.counter_samples()) {
      counter_samples = true;
      EXPECT_EQ(Undelta(samples.time_delta_ns(), 2), (std::vector<uint64_t>{10, 30}));
      EXPECT_EQ(samples.host_to_device_bytes(0), 1ull << 40);
      EXPECT_EQ(samples.host_to_device_bytes(1), 2ull << 40);
      EXPECT_EQ(samples.device_to_host_bytes(0), UINT64_MAX);
      EXPECT_EQ(samples.device_to_host_bytes(1), 0u);
      EXPECT_EQ(samples.cpu_faults(1), 5u);
      EXPECT_EQ(samples.gpu_faults(1), 6u);
    }
    for (const pb::ClockSamples& samples : chunk.clock_samples()) {
      const int rows = samples.monotonic_delta_ns_size();
      clock_rows += rows;
      const auto monotonic = Undelta(samples.monotonic_delta_ns(), rows);
      const auto cupti = Undelta(samples.cupti_delta_ns(), rows);
      for (int i = 0; i < rows; ++i) cupti_clock |= monotonic[i] == 5 && cupti[i] == 8;
    }
  }
  EXPECT_TRUE(thread_samples);
  EXPECT_TRUE(process_samples);
  EXPECT_TRUE(counter_samples);
  EXPECT_TRUE(cupti_clock);
  EXPECT_TRUE(kernel_thread);
  EXPECT_GE(clock_rows, 3) << "one of ours at the start, one at the end, one from the test";
}

}  // namespace
}  // namespace uvmtrace
