// Writes a trace of as many events as asked for, in the shares that recorded traces have.
//
//   uvmtrace_make_trace FILE EVENTS [ALLOCATIONS [POOL_CALLS]]
//
// Calibrated on tests/golden/h200_queue_oversub_uvm.pb: of 62,284 events 73.2 % are entries of the fault buffer, 25.7 %
// migrations of 29 KiB, 0.6 % CPU faults, 0.5 % replays; 162 entries in a batch, 145 ns apart, in the order of address.
// ALLOCATIONS managed ranges are allocated and freed beside them, and POOL_CALLS times memory of a pool.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "bench/analyzer/trace_writer.h"

namespace uvmtrace::analyzer_bench {
namespace {

constexpr uint64_t kStart = 1'000'000'000'000;
constexpr uint64_t kArena = 0x7f0000000000;
constexpr uint64_t kArenaBytes = uint64_t{4} << 30;
constexpr size_t kChunkRows = 16384;

// One column message: `coding` has a letter for each column, D(elta), Z(igzag) or P(lain).
class Columns {
 public:
  Columns(uint32_t field, uint32_t first, const char* coding, uint32_t source)
      : field_(field),
        first_(first),
        coding_(coding),
        source_(source),
        packed_(std::strlen(coding)),
        last_(packed_.size()) {}

  void Add(std::initializer_list<uint64_t> row) {
    size_t column = 0;
    for (const uint64_t value : row) {
      switch (coding_[column]) {
        case 'D':
          Varint(&packed_[column], ZigZag(static_cast<int64_t>(value - last_[column])));
          last_[column] = value;
          break;
        case 'Z':
          Varint(&packed_[column], ZigZag(static_cast<int64_t>(value)));
          break;
        default:
          Varint(&packed_[column], value);
      }
      ++column;
    }
    ++rows_;
  }
  size_t rows() const { return rows_; }
  void Flush(std::string* chunk) {
    if (rows_ == 0) return;
    std::string message;
    if (first_ == 3) {
      Number(&message, 1, source_ == 2 ? 2 : 1);  // the queue has MONOTONIC_RAW, CUPTI REALTIME
      Number(&message, 2, source_);
    }
    for (size_t i = 0; i < packed_.size(); ++i) Blob(&message, first_ + static_cast<uint32_t>(i), packed_[i]);
    Blob(chunk, field_, message);
    for (auto& column : packed_) column.clear();
    last_.assign(packed_.size(), 0);
    rows_ = 0;
  }

 private:
  uint32_t field_, first_;
  const char* coding_;
  uint32_t source_;
  std::vector<std::string> packed_;
  std::vector<uint64_t> last_;
  size_t rows_ = 0;
};

uint64_t Random() {
  static uint64_t state = 88172645463325252u;
  state ^= state << 13;
  state ^= state >> 7;
  return state ^= state << 17;
}

std::string Definitions() {
  std::string chunk;
  std::string process;
  Number(&process, 1, 100);
  Number(&process, 6, kStart);
  Number(&process, 7, kStart);
  Blob(&process, 9, "full");
  Blob(&chunk, 8, process);
  const char* functions[] = {"cudaMallocManaged", "cudaFree", "cudaMallocAsync", "cudaFreeAsync"};
  for (uint64_t i = 0; i < 4; ++i) {
    std::string function;
    Number(&function, 1, i + 1);
    Blob(&function, 2, functions[i]);
    Number(&function, 3, 1);
    Number(&function, 4, i % 2 + 1);
    Blob(&chunk, 10, function);
  }
  for (uint64_t i = 1; i <= 4; ++i) {
    std::string name;
    Number(&name, 1, i);
    Blob(&name, 2, "kernel_" + std::to_string(i));
    Blob(&chunk, 9, name);
    std::string stack;
    Number(&stack, 1, i);
    Blob(&stack, 2, "\x80\x01");
    Blob(&chunk, 12, stack);
  }
  std::string device;
  Blob(&device, 2, "GPU");
  Blob(&device, 3, std::string(16, '\x11'));
  Number(&device, 4, uint64_t{80} << 30);
  Blob(&chunk, 14, device);
  for (const char* name : {"driver_queue", "cupti.kernels"}) {
    std::string source;
    Blob(&source, 1, name);
    Number(&source, 2, 1);
    Blob(&chunk, 17, source);
  }
  return chunk;
}

int Main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: uvmtrace_make_trace FILE EVENTS [ALLOCATIONS [POOL_CALLS]]\n");
    return 2;
  }
  std::FILE* const file = std::fopen(argv[1], "wb");
  if (file == nullptr) {
    std::perror(argv[1]);
    return 1;
  }
  const uint64_t events = std::strtoull(argv[2], nullptr, 10);
  const uint64_t allocations = argc > 3 ? std::strtoull(argv[3], nullptr, 10) : 0;
  const uint64_t pool_calls = argc > 4 ? std::strtoull(argv[4], nullptr, 10) : 0;
  Columns clocks(31, 1, "DDDD", 0), calls(32, 1, "DPPPPPZDPDPPZPP", 0), faults(33, 3, "DPDZPPPPPPP", 2);
  Columns cpu(34, 3, "DDDPP", 2), moved(35, 3, "DPDPZZP", 2), kernels(37, 3, "DPZPP", 1), replays(41, 3, "DZPP", 2);
  Writer writer(file);
  std::string chunk = Definitions();
  uint64_t now = kStart + 1'000'000, batch = 8, in_batch = 0, done = 0, address = kArena, kernel_end = 0;
  uint64_t allocated = 0, pooled = 0;
  const auto call = [&](uint64_t function, uint64_t at, uint64_t bytes, uint64_t kind, uint64_t stack) {
    calls.Add({now, 2000, 100, function, 0, 1, 0, at, bytes, 0, 0, 0, 0, kind, stack});
  };
  for (uint64_t i = 0; i < 8; ++i) call(1, kArena + i * (kArenaBytes / 8), kArenaBytes / 8, 2, 1 + i % 2);
  const auto flush = [&] {
    clocks.Add({now, now, now - 500'000'000'000, now});
    Number(&chunk, 5, now);
    for (Columns* columns : {&clocks, &calls, &faults, &cpu, &moved, &kernels, &replays}) columns->Flush(&chunk);
    writer.Chunk(chunk);
    chunk.clear();
  };
  while (done < events || allocated < allocations || pooled < pool_calls) {
    now += 145;
    if (now > kernel_end) {
      kernels.Add({now, 9'000'000, 0, 7, 1 + Random() % 4});
      kernel_end = now + 10'000'000;
    }
    if (allocated < allocations) {
      // Address space is not used again, as libcuda does it for a while.
      const uint64_t at = kArena + kArenaBytes + (allocated << 21);
      call(1, at, uint64_t{1} << 20, 2, 3);
      now += 3000;
      call(2, at, 0, 0, 0);
      ++allocated;
    }
    if (pooled < pool_calls) {
      const uint64_t at = 0x300000000 + (pooled % 64 << 21);
      call(3, at, uint64_t{1} << 20, 5, 4);
      now += 2500;
      call(4, at, 0, 0, 0);
      ++pooled;
    }
    if (done < events) {
      const uint64_t raw = now - 500'000'000'000, kind = Random() % 1000;
      ++done;
      if (kind < 732) {
        if (++in_batch > 162) {
          replays.Add({raw, 0, batch, 1});
          ++done;
          ++batch;
          in_batch = 0;
          address = kArena + (Random() % (kArenaBytes / 4096)) * 4096;
        }
        address = kArena + (address - kArena + (Random() % 3) * 4096 * (Random() % 4)) % kArenaBytes;
        faults.Add({raw, 0, address, 0, 1 + Random() % 2, 0, batch, 2, 1, Random() % 8, Random() % 32});
      } else if (kind < 992) {
        // To the GPU what was touched, to the host something else.
        const bool in = Random() % 4 != 0;
        const uint64_t page = in ? address & ~uint64_t{0xffff} : kArena + (Random() % (kArenaBytes >> 16) << 16);
        const uint64_t none = ~uint64_t{0};
        moved.Add({raw, 2000 + Random() % 4000, page, uint64_t{4096} << Random() % 5, in ? none : 0, in ? 0 : none,
                   in ? 2 + Random() % 2 : 2});
      } else {
        cpu.Add({raw, kArena + Random() % kArenaBytes, 0x401000 + 16 * (Random() % 8), 2, 100});
      }
    }
    if (faults.rows() + moved.rows() + calls.rows() >= kChunkRows) flush();
  }
  flush();
  std::string end;
  Number(&end, 1, 1);
  Number(&end, 2, writer.sequence());
  Blob(&chunk, 7, end);
  writer.Chunk(chunk);
  return std::fclose(file) == 0 ? 0 : 1;
}

}  // namespace
}  // namespace uvmtrace::analyzer_bench

int main(int argc, char** argv) { return uvmtrace::analyzer_bench::Main(argc, argv); }
