// The cases of sim_program that are about time: what overlaps, what does not, what each path costs, and how virtual
// time and the real clock go together. Sizes are small, so that what is measured are rates and orders.
#include <cupti.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <functional>
#include <thread>

#include "sim/include/uvmsim.h"
#include "tests/unit/sim_check.h"
#include "tests/unit/sim_program.h"

namespace uvmsim::tests {
namespace {

__global__ void Compute(double) {}
void ComputeOnHost(const UvmsimLaunch* launch) { uvmsim_compute(launch, UvmsimArgument<double>(launch, 0)); }
UVMSIM_REGISTER(Compute, ComputeOnHost);

__global__ void Read(const char* data, size_t bytes) {}
void ReadOnHost(const UvmsimLaunch* launch) {
  const char* data = UvmsimArgument<const char*>(launch, 0);
  UvmsimForEachSpan(launch, data, UvmsimArgument<size_t>(launch, 1), UVMSIM_READ, [](const char*, size_t, size_t) {});
}
UVMSIM_REGISTER(Read, ReadOnHost);

constexpr double kMs = 1e6;
constexpr size_t kBytes = 16 * kMiB;

struct Streams {
  cudaStream_t a = nullptr, b = nullptr;
  cudaEvent_t start = nullptr, end = nullptr, b_done = nullptr;
  Streams() {
    CUDA(cudaStreamCreateWithFlags(&a, cudaStreamNonBlocking));
    CUDA(cudaStreamCreateWithFlags(&b, cudaStreamNonBlocking));
    for (cudaEvent_t* event : {&start, &end, &b_done}) CUDA(cudaEventCreate(event));
  }
};

// Milliseconds from the start of both to the end of both.
double Together(Streams& s, const std::function<void(cudaStream_t)>& on_a,
                const std::function<void(cudaStream_t)>& on_b) {
  CUDA(cudaDeviceSynchronize());
  CUDA(cudaEventRecord(s.start, s.a));
  CUDA(cudaStreamWaitEvent(s.b, s.start, 0));
  on_a(s.a);
  on_b(s.b);
  CUDA(cudaEventRecord(s.b_done, s.b));
  CUDA(cudaStreamWaitEvent(s.a, s.b_done, 0));
  CUDA(cudaEventRecord(s.end, s.a));
  CUDA(cudaEventSynchronize(s.end));
  float milliseconds = 0;
  CUDA(cudaEventElapsedTime(&milliseconds, s.start, s.end));
  return milliseconds;
}
double Alone(Streams& s, const std::function<void(cudaStream_t)>& work) {
  return Together(s, work, [](cudaStream_t) {});
}
#define CHECK_NEAR(a, b, relative) CHECK((a) > (b) * (1 - (relative)) && (a) < (b) * (1 + (relative)))

void ClockOverlap() {
  Streams s;
  char *device = nullptr, *other = nullptr, *host = nullptr, *pinned = nullptr;
  CUDA(cudaMalloc(&device, kBytes));
  CUDA(cudaMalloc(&other, kBytes));
  CUDA(cudaMallocHost(&host, kBytes));
  CUDA(cudaMallocHost(&pinned, kBytes));
  const auto in = [&](cudaStream_t stream) {
    CUDA(cudaMemcpyAsync(device, host, kBytes, cudaMemcpyHostToDevice, stream));
  };
  const auto in_too = [&](cudaStream_t stream) {
    CUDA(cudaMemcpyAsync(other, host, kBytes, cudaMemcpyHostToDevice, stream));
  };
  const auto out = [&](cudaStream_t stream) {
    CUDA(cudaMemcpyAsync(pinned, other, kBytes, cudaMemcpyDeviceToHost, stream));
  };
  const auto compute = [](cudaStream_t stream) { Compute<<<1, 1, 0, stream>>>(2 * kMs); };
  const double copy = Alone(s, in);
  printf("one copy %.3f ms, both ways %.3f, twice the same way %.3f\n", copy, Together(s, in, out),
         Together(s, in, in_too));
  CHECK_NEAR(copy, kBytes / 55.3 / kMs, 0.05);
  CHECK_NEAR(Together(s, in, out), copy, 0.1);
  CHECK_NEAR(Together(s, in, in_too), 2 * copy, 0.1);
  CHECK_NEAR(Alone(s, compute), 2.0, 0.05);
  CHECK_NEAR(Together(s, compute, in), 2.0, 0.05);
  CHECK_NEAR(Together(s, compute, compute), 2.0, 0.05);
  // A kernel that reads in place and a copy to the GPU share the link.
  const auto read = [&](cudaStream_t stream) { Read<<<1, 1, 0, stream>>>(pinned, kBytes); };
  CHECK_NEAR(Together(s, read, in), Alone(s, read) + copy, 0.1);
  // Prefetch of the next piece beside a kernel on this one.
  char* managed = Managed<char>(kBytes);
  memset(managed, 1, kBytes);
  cudaMemLocation gpu = {};
  gpu.type = cudaMemLocationTypeDevice;
  const auto prefetch = [&](cudaStream_t stream) { CUDA(cudaMemPrefetchAsync(managed, kBytes, gpu, 0, stream)); };
  CHECK_NEAR(Together(s, compute, prefetch), 2.0, 0.05);
}

// A prefetch is done inside of the call if its stream is idle, and later if it is not.
void ClockPrefetchCalls() {
  Streams s;
  char* managed = Managed<char>(2 * kBytes);
  memset(managed, 1, 2 * kBytes);
  cudaMemLocation gpu = {};
  gpu.type = cudaMemLocationTypeDevice;
  const auto call_ms = [&](char* from) {
    const double start_ns = uvmsim_now_ns();
    CUDA(cudaMemPrefetchAsync(from, kBytes, gpu, 0, s.a));
    return (uvmsim_now_ns() - start_ns) / kMs;
  };
  CHECK_NEAR(call_ms(managed), kBytes / 55.3 / kMs, 0.05);
  CUDA(cudaDeviceSynchronize());
  Compute<<<1, 1, 0, s.a>>>(2 * kMs);
  CHECK_NEAR(call_ms(managed + kBytes), 0.008, 0.001);
  CUDA(cudaDeviceSynchronize());
}

// The default stream waits for the streams that do not decline it, and they for it.
void ClockDefaultStream() {
  cudaStream_t blocking = nullptr;
  CUDA(cudaStreamCreate(&blocking));
  cudaEvent_t start = nullptr, end = nullptr;
  CUDA(cudaEventCreate(&start));
  CUDA(cudaEventCreate(&end));
  CUDA(cudaEventRecord(start, blocking));
  Compute<<<1, 1, 0, blocking>>>(1 * kMs);
  Compute<<<1, 1>>>(1 * kMs);
  Compute<<<1, 1, 0, blocking>>>(1 * kMs);
  CUDA(cudaEventRecord(end, blocking));
  CUDA(cudaEventSynchronize(end));
  float milliseconds = 0;
  CUDA(cudaEventElapsedTime(&milliseconds, start, end));
  CHECK_NEAR(milliseconds, 3.0, 0.05);
}

double Copy(Streams& s, void* to, const void* from) {
  return Alone(s, [&](cudaStream_t stream) { CUDA(cudaMemcpyAsync(to, from, kBytes, cudaMemcpyDefault, stream)); });
}

// The order that an H200 showed: docs/measurements.
void ClockPaths() {
  Streams s;
  const auto read = [&](const char* data) {
    return Alone(s, [&](cudaStream_t stream) { Read<<<1, 1, 0, stream>>>(data, kBytes); });
  };
  char *device = nullptr, *pinned = nullptr;
  CUDA(cudaMalloc(&device, kBytes));
  CUDA(cudaMallocHost(&pinned, kBytes));
  char* pageable = static_cast<char*>(calloc(1, kBytes));
  const double pinned_copy = Copy(s, device, pinned);
  const double pageable_copy = Copy(s, device, pageable);
  const double back = Copy(s, pageable, device);

  char* managed = Managed<char>(kBytes);
  memset(managed, 1, kBytes);
  const double faults = read(managed);
  const double resident = read(managed);
  char* mapped = Managed<char>(kBytes);
  cudaMemLocation cpu = {};
  cpu.type = cudaMemLocationTypeHost;
  cudaMemLocation gpu = {};
  gpu.type = cudaMemLocationTypeDevice;
  CUDA(cudaMemAdvise(mapped, kBytes, cudaMemAdviseSetPreferredLocation, cpu));
  CUDA(cudaMemAdvise(mapped, kBytes, cudaMemAdviseSetAccessedBy, gpu));
  memset(mapped, 1, kBytes);
  const double in_place = read(mapped);
  const double zero_copy = read(pinned);
  printf(
      "copies: pinned %.3f pageable %.3f and back %.3f; reads: faults %.3f resident %.3f mapped %.3f pinned %.3f ms\n",
      pinned_copy, pageable_copy, back, faults, resident, in_place, zero_copy);
  CHECK(pageable_copy > 3 * pinned_copy);
  CHECK(back > 2 * pinned_copy && back < pageable_copy);
  CHECK_NEAR(zero_copy, kBytes / 51.4 / kMs, 0.05);
  CHECK_NEAR(in_place, zero_copy, 0.05);
  CHECK(faults > 3 * in_place);
  CHECK(resident < in_place / 10);
}

double RealMs() {
  timespec time = {};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) * 1e3 + static_cast<double>(time.tv_nsec) / 1e6;
}

// With a scale the real clock shows modelled time, and never less than that.
void ClockScale() {
  Streams s;
  const char* scale_text = getenv("UVMTRACE_SIM_TIME_SCALE");
  const double scale = scale_text == nullptr ? 1 : atof(scale_text);
  const double before_ns = uvmsim_now_ns();
  const double before = RealMs();
  const double events = Alone(s, [](cudaStream_t stream) {
    Compute<<<1, 1, 0, stream>>>(30 * kMs);
    Compute<<<1, 1, 0, stream>>>(30 * kMs);
  });
  const double real = RealMs() - before;
  const double host = (uvmsim_now_ns() - before_ns) / kMs;
  printf("events %.3f ms, host %.3f, real %.3f\n", events, host, real);
  CHECK(events >= 60.0);          // with a scale, what the host needs between its calls is in it
  CHECK(host >= events - 0.001);  // events are floats
  CHECK(real >= events * scale);
  if (scale > 0) CHECK(real >= host * scale * 0.999);
  if (scale == 0) CHECK(host < 60.1);
}

// Virtual time never goes back for a thread that reads it while the simulator is late, nor faster than the real clock.
void ClockMonotonic() {
  char* managed = Managed<char>(32 * kMiB);
  memset(managed, 1, 32 * kMiB);
  CUDA(cudaDeviceSynchronize());
  std::atomic<bool> started{false}, stop{false};
  double backwards = 0, too_fast = 0;
  std::thread reader([&] {
    const double real_first = RealMs();
    const double first = uvmsim_now_ns();  // the device is idle: the clock is where the real one says
    started = true;
    for (double last = first; !stop;) {
      const double now = uvmsim_now_ns();
      backwards = std::max(backwards, last - now);
      too_fast = std::max(too_fast, (now - first) / kMs - (RealMs() - real_first));
      last = now;
    }
  });
  Streams s;
  while (!started) {
  }
  for (int round = 0; round < 5; ++round) {
    Launch(reinterpret_cast<int*>(managed), 8 * kMiB, 1, s.a);
    Compute<<<1, 1, 0, s.b>>>(3 * kMs);
    CUDA(cudaStreamSynchronize(s.a));
    CUDA(cudaStreamSynchronize(s.b));
  }
  stop = true;
  reader.join();
  printf("back by %.0f ns, ahead by %.6f ms\n", backwards, too_fast);
  CHECK(backwards <= 0 && too_fast <= 0);
}

unsigned long long g_kernels = 0, g_first_start = 0, g_last_end = 0, g_bad = 0;
void CUPTIAPI Request(uint8_t** buffer, size_t* size, size_t* most) {
  *size = 64 * 1024;
  *most = 0;
  *buffer = static_cast<uint8_t*>(aligned_alloc(8, *size));
}
void CUPTIAPI Complete(CUcontext, uint32_t, uint8_t* buffer, size_t, size_t valid) {
  uint64_t now = 0;
  cuptiGetTimestamp(&now);
  CUpti_Activity* record = nullptr;
  while (cuptiActivityGetNextRecord(buffer, valid, &record) == CUPTI_SUCCESS) {
    if (record->kind != CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) continue;
    const auto* kernel = reinterpret_cast<const CUpti_ActivityKernel10*>(record);
    if (g_kernels++ == 0) g_first_start = kernel->start;
    g_bad += kernel->start < g_last_end || kernel->end > now;
    g_last_end = kernel->end;
  }
  free(buffer);
}

// Kernel records lie between the launch and the end of the wait, one after the other, none in the future; from the
// first launch to the last end is no less than all of them take.
void ClockRecords() {
  CUDA(cudaFree(nullptr));
  CHECK_EQ(cuptiActivityRegisterCallbacks(Request, Complete), CUPTI_SUCCESS);
  CHECK_EQ(cuptiActivityEnable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL), CUPTI_SUCCESS);
  uint64_t before = 0, after = 0;
  CHECK_EQ(cuptiGetTimestamp(&before), CUPTI_SUCCESS);
  for (int i = 0; i < 5; ++i) Compute<<<1, 1>>>(4 * kMs);
  CHECK_EQ(cuptiActivityFlushAll(0), CUPTI_SUCCESS);  // while they run
  CUDA(cudaDeviceSynchronize());
  CHECK_EQ(cuptiGetTimestamp(&after), CUPTI_SUCCESS);
  CHECK_EQ(cuptiActivityFlushAll(0), CUPTI_SUCCESS);
  CHECK_EQ(g_kernels, 5u);
  CHECK_EQ(g_bad, 0u);
  CHECK(g_first_start >= before && g_last_end <= after);
  CHECK(static_cast<double>(g_last_end - before) >= 20 * kMs);
}

// Without a scale the same calls take the same virtual time, whatever else the machine does.
void ClockRepeatable() {
  Streams s;
  char* managed = Managed<char>(2 * 40 * kMiB);
  memset(managed, 1, 2 * 40 * kMiB);
  for (int round = 0; round < 3; ++round) {
    Read<<<1, 1, 0, s.a>>>(managed, 40 * kMiB);
    Read<<<1, 1, 0, s.b>>>(managed + 40 * kMiB, 40 * kMiB);
    CUDA(cudaStreamSynchronize(s.a));
    CUDA(cudaStreamSynchronize(s.b));
    for (size_t i = 0; i < 40 * kMiB; i += 4096) managed[i] = 2;
  }
  CUDA(cudaDeviceSynchronize());
  printf("%.0f ns\n", uvmsim_now_ns());
}

}  // namespace

Cases ClockCases() {
  return {
      {"clock-overlap", ClockOverlap},       {"clock-default-stream", ClockDefaultStream},
      {"clock-paths", ClockPaths},           {"clock-scale", ClockScale},
      {"clock-monotonic", ClockMonotonic},   {"clock-records", ClockRecords},
      {"clock-repeatable", ClockRepeatable}, {"clock-prefetch-calls", ClockPrefetchCalls},
  };
}

}  // namespace uvmsim::tests
