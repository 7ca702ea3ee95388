// What the report makes of annotations, the profiler's switch, copies, the links' counters, failed allocations and the
// names of __managed__ variables.
#include "analyzer/present/text.h"
#include "tests/unit/analyzer_report_reading.h"

namespace uvmtrace::testing {
namespace {

constexpr uint64_t kMs = 1'000'000;

uint32_t String(TraceBuilder* trace, uint32_t id, const std::string& value) {
  auto* string = trace->chunk().add_string();
  string->set_id(id);
  string->set_value(value);
  return id;
}

void Annotate(TraceBuilder* trace, uint64_t time_ns, AnnotationKind kind, uint32_t tid, uint32_t name,
              uint32_t domain = 0, uint64_t range = 0) {
  Annotations* rows = trace->chunk().add_annotations();
  rows->add_time_delta_ns(static_cast<int64_t>(time_ns));
  rows->add_kind(kind);
  rows->add_tid(tid);
  rows->add_name(name);
  rows->add_domain(domain);
  rows->add_range(range);
}

void AddLinkSample(TraceBuilder* trace, uint64_t time_ns, uint64_t received_bytes, uint64_t sent_bytes) {
  LinkSamples* rows = trace->chunk().add_link_samples();
  rows->add_time_delta_ns(static_cast<int64_t>(time_ns));
  rows->add_device(0);
  rows->add_received_bytes(received_bytes);
  rows->add_sent_bytes(sent_bytes);
}

void AddCopy(TraceBuilder* trace, uint64_t start_ns, uint64_t end_ns, uint64_t bytes, CopyKind kind, CopyMemory from,
             CopyMemory to) {
  Copies* rows = trace->chunk().add_copies();
  rows->set_source(EVENT_SOURCE_CUPTI);
  rows->add_start_delta_ns(static_cast<int64_t>(start_ns));
  rows->add_duration_ns(end_ns - start_ns);
  rows->add_bytes(bytes);
  rows->add_kind(kind);
  rows->add_source_memory(from);
  rows->add_destination_memory(to);
  rows->add_device(0);
}

const PhaseRow* PhaseOf(const Report& report, const std::string& name) {
  for (const PhaseRow& row : report.phases()) {
    if (row.name() == name) return &row;
  }
  return nullptr;
}

const TrafficRow* TrafficOf(const Report& report, const std::string& way, const std::string& direction) {
  for (const TrafficRow& row : report.traffic()) {
    if (row.way() == way && row.direction() == direction) return &row;
  }
  return nullptr;
}

// Two threads whose rows stand one after the other, a domain, a range that another thread ends, one that nobody ends.
TraceBuilder RangesTrace() {
  TraceBuilder trace;
  trace.CuptiActive();
  trace.Device(0, kGiB);
  trace.Allocate(MEMORY_KIND_MANAGED, kBase, 8 * kMiB, kStart + kMs);
  String(&trace, 901, "prefill");
  String(&trace, 902, "decode");
  String(&trace, 903, "engine");
  String(&trace, 904, "serve");
  Annotate(&trace, kStart + 10 * kMs, ANNOTATION_KIND_PUSH, 1, 901);
  Annotate(&trace, kStart + 12 * kMs, ANNOTATION_KIND_PUSH, 1, 902, 903);
  Annotate(&trace, kStart + 20 * kMs, ANNOTATION_KIND_POP, 1, 0);
  Annotate(&trace, kStart + 32 * kMs, ANNOTATION_KIND_POP, 1, 0, 903);
  Annotate(&trace, kStart + 15 * kMs, ANNOTATION_KIND_PUSH, 2, 902);
  Annotate(&trace, kStart + 5 * kMs, ANNOTATION_KIND_POP, 2, 0);  // of a range from before the recording
  Annotate(&trace, kStart + 25 * kMs, ANNOTATION_KIND_POP, 2, 0);
  Annotate(&trace, kStart + 40 * kMs, ANNOTATION_KIND_START, 1, 904, 0, 77);
  Annotate(&trace, kStart + 50 * kMs, ANNOTATION_KIND_END, 2, 0, 0, 77);
  Annotate(&trace, kStart + 60 * kMs, ANNOTATION_KIND_PUSH, 1, 901);
  trace.Migrate(kStart + 11 * kMs, kStart + 12 * kMs, kBase, 2 * kMiB, -1, 0);
  trace.Migrate(kStart + 45 * kMs, kStart + 46 * kMs, kBase + 2 * kMiB, 4 * kMiB, -1, 0);
  return trace;
}

TEST(Phases, AreTheRangesThatTheProgramNamed) {
  TraceBuilder trace = RangesTrace();
  const Report report = ReportOf({trace.Finish(kStart + 70 * kMs)});
  const PhaseRow* prefill = PhaseOf(report, "prefill");
  ASSERT_NE(prefill, nullptr);
  EXPECT_EQ(prefill->origin(), "nvtx");
  EXPECT_EQ(prefill->count(), 2u);
  EXPECT_EQ(prefill->duration_ns(), 20 * kMs) << "10 ms, and 10 ms to the end of the trace";
  EXPECT_EQ(prefill->host_to_device_bytes(), 2 * kMiB);
  ASSERT_NE(PhaseOf(report, "decode"), nullptr);
  EXPECT_EQ(PhaseOf(report, "decode")->duration_ns(), 10 * kMs);
  ASSERT_NE(PhaseOf(report, "engine/decode"), nullptr);
  EXPECT_EQ(PhaseOf(report, "engine/decode")->duration_ns(), 20 * kMs);
  ASSERT_NE(PhaseOf(report, "serve"), nullptr);
  EXPECT_EQ(PhaseOf(report, "serve")->duration_ns(), 10 * kMs);
  EXPECT_EQ(PhaseOf(report, "serve")->host_to_device_bytes(), 4 * kMiB);
}

TEST(Phases, CutTheReport) {
  TraceBuilder trace = RangesTrace();
  const TemporaryFile file(trace.Finish(kStart + 70 * kMs));
  analyzer::Run run;
  run.push_back(std::make_unique<analyzer::ProcessModel>());
  analyzer::ReadOptions options;
  options.phase = "serve";
  ASSERT_TRUE(run.back()->ReadTrace(file.path(), options).ok());
  const Report report = analyzer::BuildReport(run, {});
  EXPECT_EQ(report.totals().host_to_device_bytes(), 4 * kMiB);
}

TEST(Phases, AreTheProfilersSpans) {
  TraceBuilder trace;
  trace.CuptiActive();
  trace.Device(0, kGiB);
  const uint32_t start = trace.Function("cudaProfilerStart", OPERATION_PROFILER_START);
  const uint32_t stop = trace.Function("cudaProfilerStop", OPERATION_PROFILER_STOP);
  const auto call = [&trace](uint32_t function, uint64_t time_ns) {
    TraceBuilder::Call row;
    row.function = function;
    row.start_ns = time_ns;
    trace.Add(row);
  };
  call(start, kStart + 10 * kMs);
  call(start, kStart + 11 * kMs);
  call(stop, kStart + 20 * kMs);
  call(stop, kStart + 21 * kMs);
  call(start, kStart + 30 * kMs);
  trace.Kernel("step", kStart + 12 * kMs, kStart + 35 * kMs);
  const Report report = ReportOf({trace.Finish(kStart + 40 * kMs)});
  const PhaseRow* row = PhaseOf(report, "profiler");
  ASSERT_NE(row, nullptr);
  EXPECT_EQ(row->origin(), "profiler");
  EXPECT_EQ(row->count(), 2u);
  EXPECT_EQ(row->duration_ns(), 20 * kMs - 2 * 1000) << "from the end of the start call";
  EXPECT_NE(PhaseOf(report, "load"), nullptr) << "what the data shows stays beside it";
  EXPECT_EQ(report.totals().kernel_busy_ns(), 23 * kMs);
}

// 4 GiB of pinned memory read in place in 100 ms, a pinned copy of 1 GiB and a pageable one of 256 MiB.
TraceBuilder TrafficTrace() {
  TraceBuilder trace;
  trace.CuptiActive();
  trace.Device(0, 80 * kGiB);
  auto* device = trace.chunk().mutable_device(0);
  device->set_link_generation(5);
  device->set_link_width(16);
  trace.Allocate(MEMORY_KIND_PINNED, kBase, kGiB, kStart + kMs);
  AddCopy(&trace, kStart + 200 * kMs, kStart + 220 * kMs, kGiB, COPY_KIND_HOST_TO_DEVICE, COPY_MEMORY_PINNED,
          COPY_MEMORY_DEVICE);
  AddCopy(&trace, kStart + 240 * kMs, kStart + 270 * kMs, 256 * kMiB, COPY_KIND_HOST_TO_DEVICE, COPY_MEMORY_PAGEABLE,
          COPY_MEMORY_DEVICE);
  AddCopy(&trace, kStart + 280 * kMs, kStart + 281 * kMs, kMiB, COPY_KIND_DEVICE_TO_DEVICE, COPY_MEMORY_DEVICE,
          COPY_MEMORY_DEVICE);
  trace.Kernel("gather", kStart + 20 * kMs, kStart + 120 * kMs);
  return trace;
}

uint64_t Packed(uint64_t bytes, double factor) { return static_cast<uint64_t>(static_cast<double>(bytes) * factor); }

TEST(Traffic, TellsWhatWasReadInPlace) {
  TraceBuilder trace = TrafficTrace();
  const uint64_t in_place = Packed(4 * kGiB, 1.156);
  for (int i = 0; i <= 10; ++i)
    AddLinkSample(&trace, kStart + (20 + 10 * i) * kMs, in_place * i / 10, Packed(4 * kGiB, 0.1875) * i / 10);
  const uint64_t copied = Packed(kGiB + 256 * kMiB, 1.078);
  AddLinkSample(&trace, kStart + 190 * kMs, in_place, Packed(4 * kGiB, 0.1875));
  AddLinkSample(&trace, kStart + 300 * kMs, in_place + copied,
                Packed(4 * kGiB, 0.1875) + Packed(kGiB + 256 * kMiB, 0.094));
  const Report report = ReportOf({trace.Finish(kStart + 400 * kMs)});
  const TrafficRow* row = TrafficOf(report, "in_place", "host_to_device");
  ASSERT_NE(row, nullptr);
  EXPECT_NEAR(static_cast<double>(row->bytes()), 4.0 * kGiB, 0.01 * 4.0 * kGiB);
  EXPECT_EQ(row->busy_ns(), 100 * kMs);
  EXPECT_NEAR(row->share_of_link(), 4.0 * kGiB * 1.156 / 0.1 / 63e9, 0.02);
  EXPECT_EQ(row->measured_by(), "link_counters");
  EXPECT_NE(row->note().find("other processes"), std::string::npos);
  EXPECT_EQ(TrafficOf(report, "in_place", "device_to_host"), nullptr) << "requests for reads are not writes";
  ASSERT_NE(TrafficOf(report, "pinned_copy", "host_to_device"), nullptr);
  EXPECT_EQ(TrafficOf(report, "pinned_copy", "host_to_device")->bytes(), kGiB);
  EXPECT_EQ(TrafficOf(report, "pinned_copy", "host_to_device")->busy_ns(), 20 * kMs);
  ASSERT_NE(TrafficOf(report, "pageable_copy", "host_to_device"), nullptr);
  EXPECT_EQ(TrafficOf(report, "pageable_copy", "host_to_device")->bytes(), 256 * kMiB);
  EXPECT_EQ(TrafficOf(report, "pageable_copy", "host_to_device")->measured_by(), "cupti");
  ASSERT_EQ(report.links_size(), 1);
  EXPECT_EQ(report.links(0).generation(), 5u);
  EXPECT_NEAR(report.links(0).capacity_bytes_per_second(), 63e9, 0.1e9);
  EXPECT_EQ(report.links(0).received_bytes(), in_place + copied);
  EXPECT_NE(TextOf(report).find("were read in place"), std::string::npos);
}

TEST(Traffic, NothingIsLeftOfCopiesAlone) {
  TraceBuilder trace = TrafficTrace();
  AddLinkSample(&trace, kStart + 20 * kMs, 0, 0);
  for (const double factor : {1.078, 1.09}) {
    TraceBuilder one = trace;
    AddLinkSample(&one, kStart + 300 * kMs, Packed(kGiB + 256 * kMiB, factor), Packed(kGiB + 256 * kMiB, 0.094));
    const Report report = ReportOf({one.Finish(kStart + 400 * kMs)});
    EXPECT_EQ(TrafficOf(report, "in_place", "host_to_device"), nullptr);
    EXPECT_EQ(TrafficOf(report, "in_place", "device_to_host"), nullptr);
  }
}

// The link is read while something may be read in place over it. What migrates before, in a pause and afterwards is not
// in its counters, and must not be taken from what they hold.
TEST(Traffic, LeavesOutWhatMigratedWhileTheLinkWasNotRead) {
  TraceBuilder trace;
  trace.CuptiActive();
  trace.Device(0, 80 * kGiB);
  trace.Allocate(MEMORY_KIND_PINNED, kBase, kGiB, kStart + kMs);
  trace.Allocate(MEMORY_KIND_MANAGED, kBase + kGiB, kGiB, kStart + kMs);
  const auto migrated = [&trace](uint64_t time_ms, uint64_t bytes) {
    trace.CounterSample(kStart + time_ms * kMs, bytes, 0, 0, 0);
  };
  migrated(10, 0);
  migrated(40, kGiB);
  AddLinkSample(&trace, kStart + 50 * kMs, 0, 0);
  AddLinkSample(&trace, kStart + 75 * kMs, Packed(kGiB, 1.156), 0);
  AddLinkSample(&trace, kStart + 95 * kMs, Packed(kGiB, 1.156) + Packed(kGiB, 1.08), 0);
  migrated(95, 2 * kGiB);
  migrated(150, 3 * kGiB);
  migrated(185, 4 * kGiB);
  AddLinkSample(&trace, kStart + 200 * kMs, Packed(kGiB, 1.156) + Packed(kGiB, 1.08), 0);  // the pause ends
  AddLinkSample(&trace, kStart + 225 * kMs, Packed(2 * kGiB, 1.156) + Packed(kGiB, 1.08), 0);
  migrated(300, 5 * kGiB);
  const Report report = ReportOf({trace.Finish(kStart + 400 * kMs)});
  const TrafficRow* row = TrafficOf(report, "in_place", "host_to_device");
  ASSERT_NE(row, nullptr);
  EXPECT_NEAR(static_cast<double>(row->bytes()), 2.0 * kGiB, 0.01 * 2.0 * kGiB);
}

// Where records of copies were lost, the rest may be copies: it is not called reading in place.
TEST(Traffic, IsNotCalledInPlaceWhereCopiesWereLost) {
  TraceBuilder trace = TrafficTrace();
  trace.Lose("copies", "ring full", 3);
  AddLinkSample(&trace, kStart + 20 * kMs, 0, 0);
  AddLinkSample(&trace, kStart + 300 * kMs, 8 * kGiB, 0);
  const Report report = ReportOf({trace.Finish(kStart + 400 * kMs)});
  EXPECT_EQ(TrafficOf(report, "in_place", "host_to_device"), nullptr);
  const TrafficRow* row = TrafficOf(report, "other", "host_to_device");
  ASSERT_NE(row, nullptr);
  EXPECT_NE(row->note().find("copies were lost"), std::string::npos);
}

TEST(Traffic, CountsCopiesByTheirCallsWithoutCupti) {
  TraceBuilder trace;
  trace.Device(0, 80 * kGiB);
  const uint32_t copy = trace.Function("cudaMemcpy", OPERATION_COPY);
  trace.Allocate(MEMORY_KIND_PINNED, kBase, kMiB, kStart + kMs);
  trace.Allocate(MEMORY_KIND_DEVICE, kBase + kGiB, kMiB, kStart + kMs);
  const auto call = [&](uint64_t time_ns, uint64_t to, uint64_t from, uint64_t bytes) {
    TraceBuilder::Call row;
    row.function = copy;
    row.start_ns = time_ns;
    row.address = to;
    row.other_address = from;
    row.bytes = bytes;
    trace.Add(row);
  };
  call(kStart + 2 * kMs, kBase + kGiB, kBase, 1000);
  call(kStart + 3 * kMs, kBase + kGiB, 0x5000, 2000);
  call(kStart + 4 * kMs, 0x5000, kBase + kGiB, 3000);
  const Report report = ReportOf({trace.Finish(kStart + 10 * kMs)});
  ASSERT_NE(TrafficOf(report, "pinned_copy", "host_to_device"), nullptr);
  EXPECT_EQ(TrafficOf(report, "pinned_copy", "host_to_device")->bytes(), 1000u);
  EXPECT_EQ(TrafficOf(report, "pinned_copy", "host_to_device")->measured_by(), "calls");
  ASSERT_NE(TrafficOf(report, "pageable_copy", "host_to_device"), nullptr);
  EXPECT_EQ(TrafficOf(report, "pageable_copy", "host_to_device")->bytes(), 2000u);
  ASSERT_NE(TrafficOf(report, "pageable_copy", "device_to_host"), nullptr);
  EXPECT_EQ(TrafficOf(report, "pageable_copy", "device_to_host")->bytes(), 3000u);
}

struct Failure {
  uint64_t start_ns;
  uint64_t bytes;
  uint64_t free_bytes;
  uint64_t total_bytes;
  uint64_t pool_reserved_bytes = 0;
  uint64_t pool_used_bytes = 0;
};

void Fail(TraceBuilder* trace, uint32_t function, MemoryKind kind, const Failure& failure) {
  TraceBuilder::Call call;
  call.function = function;
  call.start_ns = failure.start_ns;
  call.result = 2;
  call.bytes = failure.bytes;
  call.kind = kind;
  call.tid = 7;
  trace->Add(call);
  AllocationFailures* rows = trace->chunk().add_allocation_failures();
  rows->add_start_delta_ns(static_cast<int64_t>(failure.start_ns));
  rows->add_tid(7);
  rows->add_function(function);
  rows->add_result(2);
  rows->add_bytes(failure.bytes);
  rows->add_free_bytes(failure.free_bytes);
  rows->add_total_bytes(failure.total_bytes);
  rows->add_pool_reserved_bytes(failure.pool_reserved_bytes);
  rows->add_pool_used_bytes(failure.pool_used_bytes);
  rows->add_host_available_bytes(64 * kGiB);
}

// What was freed before and what was allocated after does not count.
TEST(OutOfMemory, TellsWhoHeldItAtThatMoment) {
  TraceBuilder trace;
  trace.Device(0, 100 * kMiB);
  const uint32_t allocate = trace.Function("cudaMalloc", OPERATION_ALLOCATE);
  trace.Allocate(MEMORY_KIND_DEVICE, kBase, 30 * kMiB, kStart + 1 * kMs);
  trace.Allocate(MEMORY_KIND_DEVICE, kBase + kGiB, 40 * kMiB, kStart + 2 * kMs);
  trace.Free(kBase, kStart + 3 * kMs);
  Fail(&trace, allocate, MEMORY_KIND_DEVICE, {kStart + 5 * kMs, 64 * kMiB, 50 * kMiB, 100 * kMiB});
  Fail(&trace, allocate, MEMORY_KIND_DEVICE, {kStart + 6 * kMs, 64 * kMiB, 50 * kMiB, 100 * kMiB});
  trace.Allocate(MEMORY_KIND_DEVICE, kBase + 2 * kGiB, 8 * kMiB, kStart + 8 * kMs);
  const Report report = ReportOf(trace);
  ASSERT_EQ(report.out_of_memory_size(), 1);
  const OutOfMemoryRow& row = report.out_of_memory(0);
  EXPECT_EQ(row.function(), "cudaMalloc");
  EXPECT_EQ(row.count(), 2u);
  EXPECT_EQ(row.time_ns(), 5 * kMs);
  EXPECT_EQ(row.asked_bytes(), 64 * kMiB);
  EXPECT_EQ(row.free_bytes(), 50 * kMiB);
  ASSERT_EQ(row.holders_size(), 1);
  EXPECT_EQ(row.holders(0).bytes(), 40 * kMiB);
  EXPECT_EQ(row.others_bytes(), 10 * kMiB);
  EXPECT_NE(row.cause().find("14.0 MiB too few"), std::string::npos) << row.cause();
  EXPECT_NE(row.cause().find("At most 50.0 MiB would have fitted"), std::string::npos) << row.cause();
  EXPECT_NE(TextOf(report).find("It did not fit"), std::string::npos);
}

TEST(OutOfMemory, BlamesThePoolsThatKeepWhatTheyDoNotUse) {
  TraceBuilder trace;
  trace.Device(0, 100 * kMiB);
  const uint32_t allocate = trace.Function("cudaMalloc", OPERATION_ALLOCATE);
  trace.Allocate(MEMORY_KIND_POOL, kBase, 10 * kMiB, kStart + 1 * kMs);
  Fail(&trace, allocate, MEMORY_KIND_DEVICE,
       {kStart + 5 * kMs, 64 * kMiB, 10 * kMiB, 100 * kMiB, 80 * kMiB, 10 * kMiB});
  const Report report = ReportOf(trace);
  ASSERT_EQ(report.out_of_memory_size(), 1);
  EXPECT_EQ(report.out_of_memory(0).reserved_unused_bytes(), 70 * kMiB);
  EXPECT_NE(report.out_of_memory(0).cause().find("what they did not use would have been enough"), std::string::npos);
}

TEST(OutOfMemory, BlamesSmallAllocationsThatKeepTheirPieces) {
  TraceBuilder trace;
  trace.Device(0, 64 * kMiB);
  const uint32_t allocate = trace.Function("cudaMalloc", OPERATION_ALLOCATE);
  for (uint64_t i = 0; i < 30; ++i)
    trace.Allocate(MEMORY_KIND_DEVICE, kBase + i * 2 * kMiB, kMiB / 2, kStart + (1 + i) * 10'000);
  Fail(&trace, allocate, MEMORY_KIND_DEVICE, {kStart + 5 * kMs, 16 * kMiB, 4 * kMiB, 64 * kMiB});
  const Report report = ReportOf(trace);
  ASSERT_EQ(report.out_of_memory_size(), 1);
  EXPECT_EQ(report.out_of_memory(0).others_bytes(), 0u);
  EXPECT_NE(report.out_of_memory(0).cause().find("30 allocations below 2.00 MiB"), std::string::npos)
      << report.out_of_memory(0).cause();
}

// Physical memory counts by whoever created it, mapped or not.
TEST(OutOfMemory, CountsPhysicalMemoryThatIsNotMapped) {
  TraceBuilder trace;
  trace.Device(0, 100 * kMiB);
  const uint32_t create = trace.Function("cuMemCreate", OPERATION_CREATE);
  TraceBuilder::Call call;
  call.function = create;
  call.start_ns = kStart + kMs;
  call.address = 0x77;
  call.bytes = 90 * kMiB;
  call.kind = MEMORY_KIND_PHYSICAL;
  trace.Add(call);
  Fail(&trace, create, MEMORY_KIND_PHYSICAL, {kStart + 5 * kMs, 32 * kMiB, 10 * kMiB, 100 * kMiB});
  const Report report = ReportOf(trace);
  ASSERT_EQ(report.out_of_memory_size(), 1);
  ASSERT_EQ(report.out_of_memory(0).holders_size(), 1);
  EXPECT_EQ(report.out_of_memory(0).holders(0).kind(), "physical");
  EXPECT_EQ(report.out_of_memory(0).holders(0).bytes(), 90 * kMiB);
}

TEST(ManagedVariables, HaveTheirNames) {
  TraceBuilder trace;
  trace.CuptiActive();
  trace.Device(0, kGiB);
  const uint32_t function = trace.Function("__managed__ variable", OPERATION_ALLOCATE);
  const auto define = [&](uint64_t address, uint64_t bytes, const std::string& name) {
    auto* variable = trace.chunk().add_managed_variable();
    variable->set_address(address);
    variable->set_bytes(bytes);
    variable->set_name(name);
    TraceBuilder::Call call;
    call.function = function;
    call.start_ns = kStart + kMs;
    call.address = address;
    call.bytes = bytes;
    call.kind = MEMORY_KIND_MANAGED;
    trace.Add(call);
  };
  define(kBase, 32 * kMiB, "g_table");
  define(kBase + 32 * kMiB, 64, "_ZN3app7g_smallE");
  trace.Migrate(kStart + 11 * kMs, kStart + 12 * kMs, kBase, 2 * kMiB, -1, 0);
  trace.CpuFault(kStart + 20 * kMs, kBase + 32 * kMiB);
  const Report report = ReportOf(trace);
  std::map<std::string, const SiteRow*> by_name;
  for (const SiteRow& row : report.sites()) by_name[row.name()] = &row;
  ASSERT_EQ(by_name.count("g_table"), 1u);
  EXPECT_EQ(by_name["g_table"]->site(), "variable g_table");
  EXPECT_EQ(by_name["g_table"]->key(), "managed:variable:g_table");
  EXPECT_EQ(by_name["g_table"]->host_to_device_bytes(), 2 * kMiB);
  ASSERT_EQ(by_name.count("app::g_small"), 1u);
  EXPECT_EQ(by_name["app::g_small"]->cpu_faults(), 1u);
  EXPECT_NE(TextOf(report).find("g_table"), std::string::npos);
  EXPECT_EQ(TextOf(report).find("variable g_table, variable g_table"), std::string::npos);
}

}  // namespace
}  // namespace uvmtrace::testing
