// What the modes separate, each by one difference:
//   cost of reading the table   lookup-identity - direct      the same addresses, with and without a table
//   cost of scattered blocks    lookup - lookup-identity      the same table reads, blocks in random places
//   cost of the data            direct - no-offset            the same work, all blocks the same one
//   cost of managed memory      managed - device              the same kernel, resident managed memory
// "lookup-vllm" is what the log measured: random entries, with repeats, among 1024 blocks, whatever the sequences need,
// and values fetched min(8, block size) at a time. Its working set and its load width differ from those of "direct".
#include "examples/paged_attention/experiment.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>

#include "examples/common/host_memory.h"
#include "examples/common/managed_memory.h"
#include "examples/common/phase.h"
#include "examples/common/program.h"
#include "examples/paged_attention/reference.h"

namespace paged {
namespace {

using examples::Check;

constexpr uint64_t kUvmBlockBytes = 2ull << 20;
constexpr uint64_t kMostManagedBytes = 8ull << 30;
constexpr uint64_t kMostPinnedBytes = 4ull << 30;
constexpr int kVllmBlocks = 1024;
constexpr double kTolerance = 1e-3;

// One pool, keys or values.
class Pool {
 public:
  Pool(const std::string& memory, uint64_t bytes) : bytes_(bytes), managed_(memory.rfind("managed", 0) == 0) {
    void* address = nullptr;
    if (memory == "pinned") {
      Check(cudaHostAlloc(&address, bytes, cudaHostAllocMapped), "cudaHostAlloc of a pool");
      pinned_.reset(address);
      Check(cudaHostGetDevicePointer(&address, address, 0), "cudaHostGetDevicePointer");
    } else if (managed_) {
      Check(cudaMallocManaged(&address, bytes, cudaMemAttachGlobal), "cudaMallocManaged of a pool");
      device_.reset(address);
    } else {
      Check(cudaMalloc(&address, bytes), "cudaMalloc of a pool");
      device_.reset(address);
    }
    elements_ = static_cast<__half*>(address);
  }

  void SendToHost(cudaStream_t stream) const { examples::Prefetch(elements_, bytes_, examples::kHost, stream); }
  __half* elements() const { return elements_; }

 private:
  const uint64_t bytes_;
  const bool managed_;
  __half* elements_ = nullptr;
  examples::DeviceMemory device_;
  examples::PinnedMemory pinned_;
};

void* AllocateDevice(uint64_t bytes, std::vector<examples::DeviceMemory>* owners) {
  void* address = nullptr;
  Check(cudaMalloc(&address, bytes), "cudaMalloc of " + examples::FormatBytes(bytes));
  owners->emplace_back(address);
  return address;
}

std::vector<int> MakeTable(const std::string& mode, int entries, uint64_t seed) {
  std::vector<int> table(entries);
  std::mt19937_64 random(seed);
  if (mode == "lookup-vllm") {
    for (int& entry : table) entry = static_cast<int>(random() % kVllmBlocks);
  } else {
    std::iota(table.begin(), table.end(), 0);
    if (mode == "lookup") std::shuffle(table.begin(), table.end(), random);
  }
  return table;
}

std::string WhySkipped(const Variant& variant, uint64_t pool_bytes, const examples::CommonOptions& options,
                       const examples::Machine& machine) {
  const uint64_t bytes = 2 * pool_bytes;
  const uint64_t capacity = options.capacity_bytes == 0 ? machine.free_bytes : options.capacity_bytes;
  const bool managed = variant.memory.rfind("managed", 0) == 0;
  if (managed && options.allow_oversubscription) return "";
  if (bytes > capacity - capacity / 16) return "the KV cache is " + examples::FormatBytes(bytes);
  if (managed && bytes > kMostManagedBytes) {
    return "managed memory stays at 8 GiB, the KV cache is " + examples::FormatBytes(bytes);
  }
  if (variant.memory == "pinned" && bytes > kMostPinnedBytes) {
    return "pinned memory stays at 4 GiB, the KV cache is " + examples::FormatBytes(bytes);
  }
  return "";
}

// Seconds of one launch. With faulting memory the cache goes to the host before each, outside of the timer.
double Measure(const Attention& attention, int load_bytes, const Variant& variant, const Shape& shape, const Pool& keys,
               const Pool& values, cudaStream_t stream) {
  const bool faulting = variant.memory == "managed-faulting";
  const examples::PhaseRange range(variant.memory + " " + variant.mode + " block " +
                                   std::to_string(variant.block_tokens));
  examples::Stopwatch stopwatch(stream);
  if (faulting) {
    double seconds = 0;
    for (int i = 0; i < shape.iterations; ++i) {
      keys.SendToHost(stream);
      values.SendToHost(stream);
      Check(cudaStreamSynchronize(stream), "sending the cache to the host");
      stopwatch.Start();
      EnqueueAttention(attention, load_bytes, stream);
      seconds += stopwatch.Stop();
    }
    return seconds / shape.iterations;
  }
  for (int i = 0; i < shape.warmups; ++i) EnqueueAttention(attention, load_bytes, stream);
  stopwatch.Start();
  for (int i = 0; i < shape.iterations; ++i) EnqueueAttention(attention, load_bytes, stream);
  return stopwatch.Stop() / shape.iterations;
}

double WorstError(const Attention& attention, const Data& data, const std::vector<int>& table, cudaStream_t stream) {
  const int rows = attention.sequences * attention.kv_heads;
  std::vector<__half> output(static_cast<size_t>(rows) * kGroup * kHeadSize);
  Check(
      cudaMemcpyAsync(output.data(), attention.output, output.size() * sizeof(__half), cudaMemcpyDeviceToHost, stream),
      "reading the output");
  Check(cudaStreamSynchronize(stream), "reading the output");
  constexpr int kSamples = 12;  // of rows, spread over all; each with another of its heads
  double worst = 0;
  for (int i = 0; i < std::min(rows, kSamples); ++i) {
    const int row = static_cast<int>(static_cast<int64_t>(i) * (rows - 1) / std::max(std::min(rows, kSamples) - 1, 1));
    const int head = i % kGroup;
    const auto expected = ReferenceRow(attention, data, table, row, head);
    const double error =
        RelativeError(expected, output.data() + (static_cast<size_t>(row) * kGroup + head) * kHeadSize);
    if (!(error <= worst)) worst = error;
  }
  return worst;
}

}  // namespace

std::vector<std::string> MemoryNames() { return {"device", "managed", "managed-faulting", "pinned"}; }
std::vector<std::string> ModeNames() { return {"lookup", "lookup-identity", "direct", "no-offset", "lookup-vllm"}; }

double MeasureBandwidth(bool simulated) {
  const examples::PhaseRange range("bandwidth of the device memory");
  const uint64_t bytes = simulated ? 4ull << 20 : 2ull << 30;
  std::vector<examples::DeviceMemory> owners;
  void* const memory = AllocateDevice(bytes, &owners);
  auto* const sink = static_cast<unsigned*>(AllocateDevice(sizeof(unsigned), &owners));
  examples::Stream stream;
  Check(cudaMemsetAsync(memory, 1, bytes, stream.get()), "cudaMemsetAsync");
  examples::Stopwatch stopwatch(stream.get());
  double best = INFINITY;
  for (int i = 0; i < 6; ++i) {
    stopwatch.Start();
    EnqueueRead(memory, bytes, sink, stream.get());
    best = std::min(best, stopwatch.Stop());
  }
  return static_cast<double>(bytes) / best;
}

examples::Row RunVariant(const Variant& variant, const Shape& shape, const examples::CommonOptions& options,
                         const examples::Machine& machine, double bandwidth) {
  Attention attention{};
  attention.sequences = shape.batch;
  attention.kv_heads = shape.kv_heads;
  attention.tokens = shape.tokens;
  attention.block_tokens = variant.block_tokens;
  attention.lookup = variant.mode == "direct"      ? Lookup::kDirect
                     : variant.mode == "no-offset" ? Lookup::kNoOffset
                                                   : Lookup::kTable;
  const bool as_vllm = variant.mode == "lookup-vllm";
  const int entries = shape.batch * attention.blocks_per_sequence();
  const uint64_t block_elements = static_cast<uint64_t>(variant.block_tokens) * shape.kv_heads * kHeadSize;
  const uint64_t elements = block_elements * (as_vllm ? kVllmBlocks : entries);
  const uint64_t pool_bytes = elements * sizeof(__half);
  const uint64_t read_bytes = 2ull * entries * block_elements * sizeof(__half);

  examples::Row row;
  row.Set("memory", variant.memory).Set("mode", variant.mode);
  row.Set("block", static_cast<uint64_t>(variant.block_tokens)).Set("batch", static_cast<uint64_t>(shape.batch));
  row.Set("seq", static_cast<uint64_t>(shape.tokens));
  const std::string skipped = WhySkipped(variant, pool_bytes, options, machine);
  if (!skipped.empty()) return row.Set("skipped", skipped);
  if (variant.memory != "device") {
    examples::RequireHostMemory(2 * pool_bytes * (machine.simulated ? 2 : 1), "a KV cache that can be on the host");
  }

  const examples::Stream stream;
  const Pool keys(variant.memory, pool_bytes);
  const Pool values(variant.memory, pool_bytes);
  const Data data{options.seed, options.seed + 0x1000000000ull, options.seed + 0x2000000000ull, 4.0f};
  EnqueueFill(keys.elements(), elements, data.key_seed, 1, stream.get());
  EnqueueFill(values.elements(), elements, data.value_seed, 1, stream.get());

  std::vector<examples::DeviceMemory> owners;
  const uint64_t heads = static_cast<uint64_t>(shape.batch) * shape.kv_heads * kGroup;
  auto* const query = static_cast<__half*>(AllocateDevice(heads * kHeadSize * sizeof(__half), &owners));
  EnqueueFill(query, heads * kHeadSize, data.query_seed, data.query_factor, stream.get());
  const std::vector<int> table = MakeTable(variant.mode, entries, options.seed);
  auto* const device_table = static_cast<int*>(AllocateDevice(table.size() * sizeof(int), &owners));
  Check(cudaMemcpy(device_table, table.data(), table.size() * sizeof(int), cudaMemcpyHostToDevice), "the block table");
  Check(cudaDeviceSynchronize(), "preparing the data");  // the kernels' stream would not wait for the table
  attention.keys = keys.elements();
  attention.values = values.elements();
  attention.query = query;
  attention.table = device_table;
  const uint64_t partials = heads * attention.partitions();
  attention.partial = static_cast<float*>(AllocateDevice(partials * kHeadSize * sizeof(float), &owners));
  attention.partial_weights = static_cast<float2*>(AllocateDevice(partials * sizeof(float2), &owners));
  attention.output = static_cast<__half*>(AllocateDevice(heads * kHeadSize * sizeof(__half), &owners));

  const int load_bytes = as_vllm ? std::min(16, 2 * variant.block_tokens) : 16;
  const double seconds = Measure(attention, load_bytes, variant, shape, keys, values, stream.get());
  const double error = WorstError(attention, data, table, stream.get());
  if (!(error <= kTolerance)) {
    throw examples::WrongData(variant.memory + " " + variant.mode + ", block " + std::to_string(variant.block_tokens) +
                              ": the output is " + std::to_string(error) + " off the reference, relative");
  }
  row.Set("us", seconds * 1e6).Set("GB/s", static_cast<double>(read_bytes) / seconds / 1e9);
  row.Set("of device bandwidth", static_cast<double>(read_bytes) / seconds / bandwidth);
  row.Set("read bytes", read_bytes).Set("working set bytes", variant.mode == "no-offset" ? 0 : 2 * pool_bytes);
  row.Set("load bytes", static_cast<uint64_t>(load_bytes)).Set("relative error", error);
  if (variant.memory == "managed-faulting" && !as_vllm && variant.mode != "no-offset" &&
      pool_bytes % kUvmBlockBytes == 0) {
    row.Set("host_to_device_bytes", 2 * pool_bytes * shape.iterations);
    row.Set("device_to_host_bytes", 2 * pool_bytes * shape.iterations);
  } else if (variant.memory == "managed") {
    row.Set("host_to_device_bytes", uint64_t{0}).Set("device_to_host_bytes", uint64_t{0});
  }
  return row;
}

}  // namespace paged
