// Small programs with managed memory, of the shapes that programs of others have. tests/gpu/reconstruct.py records each
// and holds the migrations that are reconstructed from its faults against those that the driver told.
//
//   uvmtrace_managed_programs gemm|atax|jacobi|gather|streams|advice|split_advice|thrash|late_prefetch|small|two_gpus
//
// Prints one line with a checksum that does not change from run to run, and exits with 1 if it is not what the host has
// computed. Exit code 77: it needs two GPUs. At most 192 MiB of managed memory.
#include <cuda_runtime.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

constexpr size_t kMiB = size_t{1} << 20;

void Check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "managed_programs: %s: %s\n", what, cudaGetErrorString(error));
  std::exit(1);
}

template <typename T>
T* Managed(size_t count, unsigned flags = cudaMemAttachGlobal) {
  void* memory = nullptr;
  Check(cudaMallocManaged(&memory, count * sizeof(T), flags), "cudaMallocManaged");
  return static_cast<T*>(memory);
}

void Wait() { Check(cudaDeviceSynchronize(), "cudaDeviceSynchronize"); }

cudaMemLocation Host() { return {cudaMemLocationTypeHost, 0}; }
cudaMemLocation Device(int device) { return {cudaMemLocationTypeDevice, device}; }

void Prefetch(const void* memory, size_t bytes, cudaMemLocation to, cudaStream_t stream = nullptr) {
  Check(cudaMemPrefetchAsync(memory, bytes, to, 0, stream), "cudaMemPrefetchAsync");
}

void Advise(const void* memory, size_t bytes, cudaMemoryAdvise advice, cudaMemLocation location) {
  Check(cudaMemAdvise(memory, bytes, advice, location), "cudaMemAdvise");
}

int Result(const char* name, uint64_t seen, uint64_t wanted) {
  std::printf("%s %llu %s\n", name, static_cast<unsigned long long>(seen), seen == wanted ? "ok" : "WRONG");
  return seen == wanted ? 0 : 1;
}

__global__ void Multiply(const uint32_t* a, const uint32_t* b, uint32_t* c, int n) {
  const int column = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const int row = static_cast<int>(blockIdx.y * blockDim.y + threadIdx.y);
  uint32_t sum = 0;
  for (int k = 0; k < n; ++k) sum += a[row * n + k] * b[k * n + column];
  c[row * n + column] = sum;
}

// c = a b, with b the unit matrix times 3.
int Gemm() {
  constexpr int kN = 2048;
  auto* const a = Managed<uint32_t>(kN * kN);
  auto* const b = Managed<uint32_t>(kN * kN);
  auto* const c = Managed<uint32_t>(kN * kN);
  uint64_t wanted = 0;
  for (int i = 0; i < kN * kN; ++i) {
    a[i] = static_cast<uint32_t>(i % 251);
    b[i] = i / kN == i % kN ? 3 : 0;
    wanted += 3 * (i % 251);
  }
  Multiply<<<dim3(kN / 32, kN / 8), dim3(32, 8)>>>(a, b, c, kN);
  Wait();
  uint64_t sum = 0;
  for (int i = 0; i < kN * kN; ++i) sum += c[i];
  for (uint32_t* memory : {a, b, c}) Check(cudaFree(memory), "cudaFree");
  return Result("gemm", sum, wanted);
}

__global__ void RowsTimesVector(const uint32_t* a, const uint32_t* x, uint32_t* y, int n) {
  const int row = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (row >= n) return;
  uint32_t sum = 0;
  for (int k = 0; k < n; ++k) sum += a[static_cast<size_t>(row) * n + k] * x[k];
  y[row] = sum;
}
__global__ void ColumnsTimesVector(const uint32_t* a, const uint32_t* x, uint32_t* y, int n) {
  const int column = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (column >= n) return;
  uint32_t sum = 0;
  for (int k = 0; k < n; ++k) sum += a[static_cast<size_t>(k) * n + column] * x[k];
  y[column] = sum;
}

// y = A'(A x): a thread walks a row, so that faults are strided; then a column.
int Atax() {
  constexpr int kN = 4096;
  auto* const a = Managed<uint32_t>(size_t{kN} * kN);
  auto* const x = Managed<uint32_t>(kN);
  auto* const middle = Managed<uint32_t>(kN);
  auto* const y = Managed<uint32_t>(kN);
  for (size_t i = 0; i < size_t{kN} * kN; ++i) a[i] = 1;
  for (int i = 0; i < kN; ++i) x[i] = static_cast<uint32_t>(i % 5);
  uint64_t row = 0;
  for (int i = 0; i < kN; ++i) row += i % 5;
  RowsTimesVector<<<kN / 128, 128>>>(a, x, middle, kN);
  ColumnsTimesVector<<<kN / 128, 128>>>(a, middle, y, kN);
  Wait();
  uint64_t sum = 0;
  for (int i = 0; i < kN; ++i) sum += y[i];
  for (uint32_t* memory : {a, x, middle, y}) Check(cudaFree(memory), "cudaFree");
  return Result("atax", sum, static_cast<uint64_t>(kN) * static_cast<uint32_t>(row * kN));
}

__global__ void Smooth(const uint32_t* from, uint32_t* to, int n) {
  const int x = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const int y = static_cast<int>(blockIdx.y * blockDim.y + threadIdx.y);
  if (x < 1 || y < 1 || x >= n - 1 || y >= n - 1) return;
  to[y * n + x] = (from[(y - 1) * n + x] + from[(y + 1) * n + x] + from[y * n + x - 1] + from[y * n + x + 1]) / 4;
}

// A stencil over two grids in turns; the host looks at one row of it every few turns.
int Jacobi() {
  constexpr int kN = 4000;  // the grids end within a block
  auto* from = Managed<uint32_t>(size_t{kN} * kN);
  auto* to = Managed<uint32_t>(size_t{kN} * kN);
  for (size_t i = 0; i < size_t{kN} * kN; ++i) from[i] = to[i] = 8;
  uint64_t seen = 0;
  for (int turn = 0; turn < 12; ++turn) {
    Smooth<<<dim3(kN / 32, kN / 8), dim3(32, 8)>>>(from, to, kN);
    std::swap(from, to);
    if (turn % 4 != 3) continue;
    Wait();
    for (int x = 0; x < kN; ++x) seen += from[size_t{kN / 2} * kN + x];
  }
  Wait();
  Check(cudaFree(from), "cudaFree");
  Check(cudaFree(to), "cudaFree");
  return Result("jacobi", seen, uint64_t{3} * 8 * kN);
}

__global__ void Gather(const uint32_t* values, uint32_t* sums, size_t count, int reads) {
  uint32_t at = blockIdx.x * blockDim.x + threadIdx.x;
  uint32_t sum = 0;
  uint32_t place = at * 2654435761u;
  for (int i = 0; i < reads; ++i) {
    place = place * 1664525u + 1013904223u;
    sum += values[place % count];
  }
  sums[at] = sum;
}

// Random reads, then the host writes a part and they are read again.
int GatherAll() {
  constexpr size_t kCount = 96 * kMiB / 4;
  constexpr int kThreads = 4096;
  auto* const values = Managed<uint32_t>(kCount);
  auto* const sums = Managed<uint32_t>(kThreads);
  for (size_t i = 0; i < kCount; ++i) values[i] = 1;
  uint64_t seen = 0;
  for (int turn = 0; turn < 2; ++turn) {
    Gather<<<kThreads / 128, 128>>>(values, sums, kCount, 64);
    Wait();
    for (int i = 0; i < kThreads; ++i) seen += sums[i];
    for (size_t i = 0; i < kCount / 4; ++i) values[i] = 1;
  }
  Check(cudaFree(values), "cudaFree");
  Check(cudaFree(sums), "cudaFree");
  return Result("gather", seen, uint64_t{2} * kThreads * 64);
}

__global__ void AddOne(uint32_t* values, size_t count) {
  const size_t step = static_cast<size_t>(gridDim.x) * blockDim.x;
  for (size_t i = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step) values[i] += 1;
}

uint64_t SumOnHost(const uint32_t* values, size_t count) {
  uint64_t sum = 0;
  for (size_t i = 0; i < count; ++i) sum += values[i];
  return sum;
}

// Four streams at once, two by faults and two by prefetch.
int Streams() {
  constexpr size_t kCount = 24 * kMiB / 4;
  cudaStream_t streams[4];
  uint32_t* values[4];
  for (int i = 0; i < 4; ++i) {
    Check(cudaStreamCreateWithFlags(&streams[i], cudaStreamNonBlocking), "cudaStreamCreate");
    values[i] = Managed<uint32_t>(kCount);
    std::memset(values[i], 0, kCount * 4);
  }
  uint64_t seen = 0;
  for (int turn = 0; turn < 3; ++turn) {
    for (int i = 0; i < 4; ++i) {
      if (i >= 2) Prefetch(values[i], kCount * 4, Device(0), streams[i]);
      AddOne<<<64, 256, 0, streams[i]>>>(values[i], kCount);
      if (i == 3) Prefetch(values[i], kCount * 4, Host(), streams[i]);
    }
    Wait();
    for (int i = 0; i < 4; ++i) seen += SumOnHost(values[i], kCount);
  }
  for (int i = 0; i < 4; ++i) {
    Check(cudaFree(values[i]), "cudaFree");
    Check(cudaStreamDestroy(streams[i]), "cudaStreamDestroy");
  }
  return Result("streams", seen, 4 * kCount * (1 + 2 + 3));
}

// Three allocations under one advice each.
int AdviceOfWholeAllocations() {
  constexpr size_t kCount = 32 * kMiB / 4;
  uint32_t* const read_mostly = Managed<uint32_t>(kCount);
  uint32_t* const at_home = Managed<uint32_t>(kCount);
  uint32_t* const on_gpu = Managed<uint32_t>(kCount);
  uint32_t* const sums = Managed<uint32_t>(1024);
  for (uint32_t* memory : {read_mostly, at_home, on_gpu}) {
    for (size_t i = 0; i < kCount; ++i) memory[i] = 1;
  }
  Advise(read_mostly, kCount * 4, cudaMemAdviseSetReadMostly, Device(0));
  Advise(at_home, kCount * 4, cudaMemAdviseSetPreferredLocation, Host());
  Advise(at_home, kCount * 4, cudaMemAdviseSetAccessedBy, Device(0));
  Advise(on_gpu, kCount * 4, cudaMemAdviseSetPreferredLocation, Device(0));
  uint64_t seen = 0;
  for (int turn = 0; turn < 2; ++turn) {
    Gather<<<8, 128>>>(read_mostly, sums, kCount, 64);
    AddOne<<<64, 256>>>(at_home, kCount);
    AddOne<<<64, 256>>>(on_gpu, kCount);
    Wait();
    seen += SumOnHost(read_mostly, kCount / 2) + SumOnHost(at_home, kCount) + SumOnHost(on_gpu, kCount / 4);
  }
  read_mostly[0] = 2;
  for (uint32_t* memory : {read_mostly, at_home, on_gpu, sums}) Check(cudaFree(memory), "cudaFree");
  return Result("advice", seen, kCount / 2 * 2 + kCount * (2 + 3) + kCount / 4 * (2 + 3));
}

// Advice to parts, whose ends lie within blocks.
int SplitAdvice() {
  constexpr size_t kCount = 64 * kMiB / 4;
  uint32_t* const values = Managed<uint32_t>(kCount);
  for (size_t i = 0; i < kCount; ++i) values[i] = 1;
  char* const bytes = reinterpret_cast<char*>(values);
  Advise(bytes + 5 * kMiB + 4096, 9 * kMiB, cudaMemAdviseSetReadMostly, Device(0));
  Advise(bytes + 21 * kMiB, 5 * kMiB + 8192, cudaMemAdviseSetPreferredLocation, Host());
  Advise(bytes + 40 * kMiB + 65536, 7 * kMiB, cudaMemAdviseSetPreferredLocation, Device(0));
  uint64_t seen = 0;
  for (int turn = 0; turn < 2; ++turn) {
    AddOne<<<64, 256>>>(values, kCount);
    Wait();
    seen += SumOnHost(values, kCount);
  }
  Check(cudaFree(values), "cudaFree");
  return Result("split_advice", seen, kCount * (2 + 3));
}

__global__ void AddAtomically(uint32_t* values, size_t count, int turns) {
  for (int turn = 0; turn < turns; ++turn) {
    for (size_t i = threadIdx.x; i < count; i += blockDim.x) atomicAdd_system(&values[i], 1);
  }
}

// GPU and host write the same pages at once: they thrash.
int Thrash() {
  constexpr size_t kCount = 2 * kMiB / 4;
  constexpr int kTurns = 200;
  uint32_t* const values = Managed<uint32_t>(kCount);
  std::memset(values, 0, kCount * 4);
  AddAtomically<<<1, 256>>>(values, 16384, kTurns);
  uint64_t mine = 0;
  for (int turn = 0; turn < 4 * kTurns; ++turn) {
    for (size_t i = 0; i < 16384; i += 1024) {
      __atomic_fetch_add(&values[i], 1, __ATOMIC_SEQ_CST);
      ++mine;
    }
  }
  Wait();
  const uint64_t seen = SumOnHost(values, kCount);
  Check(cudaFree(values), "cudaFree");
  return Result("thrash", seen, mine + uint64_t{16384} * kTurns);
}

// Prefetches queued behind a kernel, so that a thread of libcuda does them later, while the host touches the memory.
int LatePrefetch() {
  constexpr size_t kCount = 24 * kMiB / 4;
  uint32_t* const values = Managed<uint32_t>(kCount);
  uint32_t* const other = Managed<uint32_t>(kCount);
  std::memset(values, 0, kCount * 4);
  std::memset(other, 0, kCount * 4);
  volatile uint32_t beside_the_kernel = 0;
  uint64_t seen = 0;
  for (int turn = 0; turn < 6; ++turn) {
    AddOne<<<64, 256>>>(values, kCount);
    for (size_t part = 0; part < 6; ++part) Prefetch(values + part * kCount / 6, kCount / 6 * 4, Host());
    AddOne<<<64, 256>>>(other, kCount);
    Prefetch(other, kCount * 4 / 2, Host());
    beside_the_kernel = other[turn * 4096 + kCount - 65536];  // written or not
    Wait();
    seen += SumOnHost(values, kCount / 2) + SumOnHost(other, kCount / 2);
  }
  Check(cudaFree(values), "cudaFree");
  Check(cudaFree(other), "cudaFree");
  return Result("late_prefetch", seen, kCount * (1 + 2 + 3 + 4 + 5 + 6));
}

// Many allocations of 6 KiB to 1.5 MiB, freed and made anew among each other.
int Small() {
  std::vector<uint32_t*> live;
  std::vector<size_t> counts;
  uint64_t seen = 0;
  uint64_t wanted = 0;
  for (int i = 0; i < 120; ++i) {
    const size_t count = (size_t{4096} << (i % 9)) / 4 * 3 / 2 + static_cast<size_t>(i % 3) * 1000;
    live.push_back(Managed<uint32_t>(count));
    counts.push_back(count);
    std::memset(live.back(), 0, count * 4);
    AddOne<<<8, 128>>>(live.back(), count);
    Wait();
    if (i % 2 == 0) seen += SumOnHost(live.back(), count);
    if (i % 2 == 0) wanted += count;
    if (i % 5 == 4) {
      const size_t victim = static_cast<size_t>(i * 7) % live.size();
      Check(cudaFree(live[victim]), "cudaFree");
      live.erase(live.begin() + static_cast<std::ptrdiff_t>(victim));
      counts.erase(counts.begin() + static_cast<std::ptrdiff_t>(victim));
    }
  }
  for (uint32_t* memory : live) Check(cudaFree(memory), "cudaFree");
  return Result("small", seen, wanted);
}

// Memory that goes from one GPU to the other and back.
int TwoGpus() {
  int devices = 0;
  Check(cudaGetDeviceCount(&devices), "cudaGetDeviceCount");
  if (devices < 2) {
    std::fprintf(stderr, "managed_programs: two_gpus needs two GPUs\n");
    return 77;
  }
  constexpr size_t kCount = 64 * kMiB / 4;
  uint32_t* const shared = Managed<uint32_t>(kCount);
  uint32_t* const halves = Managed<uint32_t>(kCount);
  std::memset(shared, 0, kCount * 4);
  std::memset(halves, 0, kCount * 4);
  uint64_t seen = 0;
  for (int turn = 0; turn < 2; ++turn) {
    for (int device = 0; device < 2; ++device) {
      Check(cudaSetDevice(device), "cudaSetDevice");
      AddOne<<<64, 256>>>(shared, kCount);
      Wait();
    }
    for (int device = 0; device < 2; ++device) {
      Check(cudaSetDevice(device), "cudaSetDevice");
      Prefetch(halves + device * (kCount / 2), kCount * 2, Device(device));
      AddOne<<<64, 256>>>(halves + device * (kCount / 2), kCount / 2);
    }
    for (int device = 0; device < 2; ++device) {
      Check(cudaSetDevice(device), "cudaSetDevice");
      Wait();
    }
    seen += SumOnHost(shared, kCount / 2) + SumOnHost(halves, kCount);
  }
  Check(cudaFree(shared), "cudaFree");
  Check(cudaFree(halves), "cudaFree");
  return Result("two_gpus", seen, kCount / 2 * (2 + 4) + kCount * (1 + 2));
}

}  // namespace

int main(int argc, char** argv) {
  const struct {
    const char* name;
    int (*run)();
  } programs[] = {{"gemm", Gemm},
                  {"atax", Atax},
                  {"jacobi", Jacobi},
                  {"gather", GatherAll},
                  {"streams", Streams},
                  {"advice", AdviceOfWholeAllocations},
                  {"split_advice", SplitAdvice},
                  {"thrash", Thrash},
                  {"late_prefetch", LatePrefetch},
                  {"small", Small},
                  {"two_gpus", TwoGpus}};
  for (const auto& program : programs) {
    if (argc == 2 && std::strcmp(argv[1], program.name) == 0) return program.run();
  }
  std::fprintf(stderr, "usage: uvmtrace_managed_programs NAME, one of:");
  for (const auto& program : programs) std::fprintf(stderr, " %s", program.name);
  std::fprintf(stderr, "\n");
  return 2;
}
