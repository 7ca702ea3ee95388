// What recording costs: the host thread's nanoseconds for an event, and the writer's nanoseconds and bytes.
//
//   record_bench [--benchmark_filter=...]
//
// RecordApiCall is what a host thread pays. It is timed in bursts that fit into the ring, and the writer drains between
// them, untimed, so that a full ring (cheaper than a record) never counts. Writer* is encoding and writing to
// /dev/null.
#include <benchmark/benchmark.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "record/chunk_encoder.h"
#include "record/crc32c.h"
#include "record/recorder.h"

namespace uvmtrace {
namespace {

constexpr int kBurst = 256;

void RecordApiCall(benchmark::State& state) {
  const std::vector<uint64_t> frames(static_cast<size_t>(state.range(0)), 0x7f0000001000);
  Recorder& recorder = Recorder::Get();
  RecorderOptions options = {};
  options.path = "/dev/null";
  options.run_id = 1;
  options.buffer_bytes = 64 << 20;
  if (!recorder.Start(options)) {
    state.SkipWithError("the recorder did not start");
    return;
  }
  ApiCallEvent call;
  call.tid = 1;
  for (auto _ : state) {
    for (int i = 0; i < kBurst; ++i) {
      call.start_ns += 1000;
      call.address += 4096;
      recorder.Record(call, frames);
    }
    state.PauseTiming();
    recorder.Flush(1000);
    state.ResumeTiming();
  }
  recorder.Close(1000);
  state.counters["ns/event"] = benchmark::Counter(static_cast<double>(state.iterations() * kBurst),
                                                  benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}
BENCHMARK(RecordApiCall)->Arg(0)->Arg(12)->Arg(32)->ArgName("frames");

// Events as they come from one GPU: ordered times, addresses that jump between 2 MiB blocks.
template <typename Event>
void FillTimes(Event& event, uint64_t i) {
  event.start_ns = 1'700'000'000'000'000'000 + i * 700 + i * i % 300;
  event.address = 0x7f00'0000'0000 + (i * 7919 % 512) * (2 << 20) + (i % 32) * 65536;
}

template <typename Event, typename Make>
void Encode(benchmark::State& state, EventType type, Make&& make) {
  constexpr size_t kEvents = 10'000;
  std::vector<Event> events(kEvents);
  for (size_t i = 0; i < kEvents; ++i) make(events[i], i);
  auto encoder = std::make_unique<ChunkEncoder>();
  WireBuffer chunk;
  size_t bytes = 0;
  for (auto _ : state) {
    bytes = 0;
    for (size_t i = 0; i < kEvents; ++i) {
      encoder->Add(type, &events[i], sizeof(Event), i % 50 + 1);
      if (encoder->DataBytes() > 248 * 1024 || i + 1 == kEvents) {
        chunk.Clear();
        encoder->AppendAndClear(chunk);
        bytes += chunk.size();
        benchmark::DoNotOptimize(Crc32c(chunk.data(), chunk.size()));
      }
    }
  }
  state.counters["ns/event"] = benchmark::Counter(static_cast<double>(state.iterations() * kEvents),
                                                  benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
  state.counters["bytes/event"] = static_cast<double>(bytes) / kEvents;
}

void WriterGpuFaults(benchmark::State& state) {
  Encode<GpuFaultEvent>(state, EventType::kGpuFault, [](GpuFaultEvent& event, size_t i) {
    FillTimes(event, i);
    event.end_ns = event.start_ns + 20'000 + i % 4096;
    event.groups = static_cast<uint32_t>(1 + i % 8);
    event.access = static_cast<uint8_t>(1 + i % 2);
  });
}
BENCHMARK(WriterGpuFaults);

void WriterMigrations(benchmark::State& state) {
  Encode<MigrationEvent>(state, EventType::kMigration, [](MigrationEvent& event, size_t i) {
    FillTimes(event, i);
    event.end_ns = event.start_ns + 9'000 + i % 2048;
    event.bytes = 65536u << (i % 6);
    event.source_device = static_cast<int16_t>(kCpu);
    event.cause = 2;
  });
}
BENCHMARK(WriterMigrations);

void WriterApiCalls(benchmark::State& state) {
  Encode<ApiCallEvent>(state, EventType::kApiCall, [](ApiCallEvent& event, size_t i) {
    FillTimes(event, i);
    event.duration_ns = 3000 + i % 9000;
    event.bytes = 1 << 20;
    event.tid = static_cast<uint32_t>(12345 + i % 4);
    event.function = static_cast<uint16_t>(1 + i % 20);
    event.door = Door::kRuntimeSymbol;
    event.stream = i % 3;
  });
}
BENCHMARK(WriterApiCalls);

// Ring, encoder, CRC and write(2) together, into a real file: CPU time of the writer thread for each event.
void WriterWhole(benchmark::State& state) {
  std::string folder = std::filesystem::temp_directory_path() / "uvmtrace_bench_XXXXXX";
  if (mkdtemp(folder.data()) == nullptr) {
    state.SkipWithError("cannot create a folder");
    return;
  }
  const std::string path = folder + "/trace.pb";
  RecorderOptions options = {};
  options.path = path.c_str();
  options.run_id = 1;
  options.buffer_bytes = 64 << 20;
  Recorder& recorder = Recorder::Get();
  if (!recorder.Start(options)) {
    state.SkipWithError("the recorder did not start");
    return;
  }
  const uint64_t cpu_before_ns = recorder.WriterCpuNs();
  uint64_t events = 0;
  for (auto _ : state) {
    for (int i = 0; i < 4000; ++i, ++events) {
      MigrationEvent event;
      FillTimes(event, events);
      event.end_ns = event.start_ns + 9'000;
      event.bytes = 65536;
      event.source_device = static_cast<int16_t>(kCpu);
      event.cause = 2;
      recorder.Record(event);
    }
    recorder.Flush(1000);
  }
  const uint64_t cpu_ns = recorder.WriterCpuNs() - cpu_before_ns;
  recorder.Close(1000);
  state.counters["writer_cpu_ns/event"] = static_cast<double>(cpu_ns) / static_cast<double>(events);
  state.counters["file_bytes/event"] =
      static_cast<double>(std::filesystem::file_size(path)) / static_cast<double>(events);
  std::filesystem::remove_all(folder);
}
BENCHMARK(WriterWhole);

void Checksum(benchmark::State& state) {
  const std::string data(256 * 1024, 'x');
  for (auto _ : state) benchmark::DoNotOptimize(Crc32c(data.data(), data.size()));
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * data.size()));
}
BENCHMARK(Checksum);

}  // namespace
}  // namespace uvmtrace

BENCHMARK_MAIN();
