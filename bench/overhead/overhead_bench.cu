// One workload of the overhead measurement, timed from inside: what it costs to be traced, without the start of CUDA
// and of the tracer. overhead.py runs it under every variant and compares.
//
//   uvmtrace_overhead_bench WORKLOAD [--bytes 1GiB] [--pages 16384] [--repeat 20]
//
// WORKLOAD  gpu_stream    a kernel touches every 64 bytes of memory that is on the CPU, --repeat times; in between, and
//                         not in the timed region, cudaMemPrefetchAsync takes the memory back
//           random_pages  a kernel touches one byte of each of --pages pages of such memory, in random order
//           cpu_touch     the CPU touches every page of memory that is on the GPU
//           prefetch      memory goes from the GPU to the CPU and back by cudaMemPrefetchAsync
//           ping_pong     kernel and CPU touch the same memory in turns, --repeat times
//           alternate     a kernel touches the memory and cudaMemPrefetchAsync takes it back, --repeat times: seconds
//           of
//                         what an oversubscribed program does, with migrations of three causes
//
// Prints one line of JSON: the time of the timed region, the CPU time that the process and the driver's thread "UVM
// GPU1 BH" had in it, and the bytes that the whole process must have moved each way, where they are known. Memory that
// is prepared on the GPU is prefetched before it has any contents, so that preparing it moves nothing.
#include <cuda_runtime.h>
#include <dirent.h>
#include <dlfcn.h>
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <fstream>
#include <numeric>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "examples/common/host_memory.h"
#include "examples/common/machine.h"
#include "examples/common/managed_memory.h"
#include "examples/common/program.h"
#include "sim/include/uvmsim.h"
#include "sim/include/uvmsim_host.h"

namespace {

using examples::Check;

constexpr size_t kPage = 4096;
constexpr size_t kBlock = 2 << 20;
constexpr size_t kStride = 64;

__global__ void TouchAll(char* bytes, size_t count) {
  const size_t step = static_cast<size_t>(gridDim.x) * blockDim.x * kStride;
  for (size_t i = (static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x) * kStride; i < count; i += step) {
    bytes[i] += 1;
  }
}
void TouchAllOnHost(const UvmsimLaunch* launch) {
  UvmsimForEachSpan(launch, UvmsimArgument<char*>(launch, 0), UvmsimArgument<size_t>(launch, 1), UVMSIM_READ_WRITE,
                    [](char* span, size_t count, size_t) {
                      for (size_t i = 0; i < count; i += kStride) span[i] += 1;
                    });
}
UVMSIM_REGISTER(TouchAll, TouchAllOnHost);

__global__ void TouchPages(char* bytes, const unsigned* pages, size_t count) {
  const size_t i = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < count) bytes[pages[i] * kPage] += 1;
}
void TouchPagesOnHost(const UvmsimLaunch* launch) {
  char* const bytes = UvmsimArgument<char*>(launch, 0);
  const size_t count = UvmsimArgument<size_t>(launch, 2);
  const auto* pages = static_cast<const unsigned*>(
      uvmsim_access(launch, UvmsimArgument<const unsigned*>(launch, 1), count * sizeof(unsigned), UVMSIM_READ));
  if (pages == nullptr) return;
  const std::vector<unsigned> copy(pages, pages + count);  // the view is good until the next access
  for (const unsigned page : copy) {
    auto* byte = static_cast<char*>(uvmsim_access(launch, bytes + page * kPage, 1, UVMSIM_READ_WRITE));
    if (byte == nullptr) return;
    *byte += 1;
  }
}
UVMSIM_REGISTER(TouchPages, TouchPagesOnHost);

// The schedstat of the first BH thread; the simulator has its own /proc.
class BottomHalf {
 public:
  BottomHalf() {
    std::string root;
    if (void* driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD)) {
      const auto* host = static_cast<const UvmsimHost*>(dlsym(driver, "uvmsim_host"));
      if (host != nullptr) root = host->root;
    }
    DIR* folder = opendir((root + "/proc").c_str());
    if (folder == nullptr) return;
    while (const dirent* entry = readdir(folder)) {
      const std::string thread = root + "/proc/" + entry->d_name;
      std::string name;
      std::ifstream comm(thread + "/comm");
      if (std::getline(comm, name) && name == "UVM GPU1 BH") path_ = thread + "/schedstat";
    }
    closedir(folder);
  }
  std::optional<uint64_t> CpuNs() const {
    uint64_t run_ns = 0;
    if (std::ifstream(path_) >> run_ns) return run_ns;
    return std::nullopt;
  }

 private:
  std::string path_;
};

uint64_t NowNs() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

uint64_t ProcessCpuNs() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto ns = [](const timeval& time) {
    return static_cast<uint64_t>(time.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(time.tv_usec) * 1000;
  };
  return ns(usage.ru_utime) + ns(usage.ru_stime);
}

struct Arguments {
  std::string workload;
  uint64_t bytes = uint64_t{1} << 30;
  uint64_t pages = 16384;
  int repeat = 20;
};

struct Known {
  std::optional<uint64_t> host_to_device;
  std::optional<uint64_t> device_to_host;
};

void Wait() {
  Check(cudaGetLastError(), "launching a kernel");
  Check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
}

void TouchOnGpu(char* data, size_t bytes) {
  TouchAll<<<1056, 256>>>(data, bytes);
  Wait();
}

void TouchOnCpu(char* data, size_t bytes) {
  auto* const touched = static_cast<volatile char*>(data);
  for (size_t i = 0; i < bytes; i += kPage) touched[i] = static_cast<char>(touched[i] + 1);
}

void ToGpu(const char* data, size_t bytes) {
  examples::Prefetch(data, bytes, 0, nullptr);
  Wait();
}

// Adds up the time of one region or several.
class Meter {
 public:
  void Start() {
    bottom_half_before_ = bottom_half_.CpuNs();
    process_before_ns_ = ProcessCpuNs();
    start_ns_ = NowNs();
  }

  void Stop() {
    regions_ns_.push_back(NowNs() - start_ns_);
    process_ns_ += ProcessCpuNs() - process_before_ns_;
    const std::optional<uint64_t> bottom_half_after = bottom_half_.CpuNs();
    if (bottom_half_before_ && bottom_half_after) {
      bottom_half_ns_ = bottom_half_ns_.value_or(0) + (*bottom_half_after - *bottom_half_before_);
    }
  }

  void Print(const Arguments& arguments, Known known) const {
    const auto number = [](std::optional<uint64_t> value) {
      return value ? std::to_string(*value) : std::string("null");
    };
    std::string regions;
    for (const uint64_t region_ns : regions_ns_) regions += (regions.empty() ? "" : ", ") + std::to_string(region_ns);
    std::printf("{\"workload\": \"%s\", \"wall_ns\": %" PRIu64 ", \"process_cpu_ns\": %" PRIu64
                ", \"bottom_half_cpu_ns\": %s, \"host_to_device_bytes\": %s, \"device_to_host_bytes\": %s, "
                "\"regions_ns\": [%s]}\n",
                arguments.workload.c_str(), std::accumulate(regions_ns_.begin(), regions_ns_.end(), uint64_t{0}),
                process_ns_, number(bottom_half_ns_).c_str(), number(known.host_to_device).c_str(),
                number(known.device_to_host).c_str(), regions.c_str());
  }

 private:
  const BottomHalf bottom_half_;
  std::optional<uint64_t> bottom_half_before_;
  uint64_t process_before_ns_ = 0;
  uint64_t start_ns_ = 0;
  std::vector<uint64_t> regions_ns_;
  uint64_t process_ns_ = 0;
  std::optional<uint64_t> bottom_half_ns_;
};

template <typename Region>
void Measure(const Arguments& arguments, Known known, Region region) {
  Meter meter;
  meter.Start();
  region();
  meter.Stop();
  meter.Print(arguments, known);
}

void GpuStream(const Arguments& arguments, char* data) {
  std::memset(data, 1, arguments.bytes);
  Meter meter;
  for (int i = 0; i < arguments.repeat; ++i) {
    if (i > 0) {
      examples::Prefetch(data, arguments.bytes, examples::kHost, nullptr);
      Wait();
    }
    meter.Start();
    TouchOnGpu(data, arguments.bytes);
    meter.Stop();
  }
  const auto times = static_cast<uint64_t>(arguments.repeat);
  meter.Print(arguments, {times * arguments.bytes, (times - 1) * arguments.bytes});
}

void RandomPages(const Arguments& arguments, char* data) {
  std::vector<unsigned> pages(arguments.bytes / kPage);
  std::iota(pages.begin(), pages.end(), 0u);
  std::shuffle(pages.begin(), pages.end(), std::mt19937(1));  // the same pages in every run
  pages.resize(std::min<size_t>(pages.size(), arguments.pages));
  unsigned* on_gpu = nullptr;
  Check(cudaMalloc(&on_gpu, pages.size() * sizeof(unsigned)), "cudaMalloc");
  const examples::DeviceMemory owner(on_gpu);
  Check(cudaMemcpy(on_gpu, pages.data(), pages.size() * sizeof(unsigned), cudaMemcpyHostToDevice), "cudaMemcpy");
  std::memset(data, 1, arguments.bytes);
  // The driver's prefetcher decides how many bytes come along.
  Measure(arguments, {std::nullopt, 0}, [&] {
    TouchPages<<<static_cast<unsigned>((pages.size() + 255) / 256), 256>>>(data, on_gpu, pages.size());
    Wait();
  });
}

void CpuTouch(const Arguments& arguments, char* data) {
  ToGpu(data, arguments.bytes);
  Measure(arguments, {0, arguments.bytes}, [&] { TouchOnCpu(data, arguments.bytes); });
}

void PrefetchBothWays(const Arguments& arguments, char* data) {
  ToGpu(data, arguments.bytes);
  Measure(arguments, {arguments.bytes, arguments.bytes}, [&] {
    examples::Prefetch(data, arguments.bytes, examples::kHost, nullptr);
    Wait();
    ToGpu(data, arguments.bytes);
  });
}

void PingPong(const Arguments& arguments, char* data) {
  std::memset(data, 1, arguments.bytes);
  // The driver may pin a page that goes to and fro.
  Measure(arguments, {std::nullopt, std::nullopt}, [&] {
    for (int i = 0; i < arguments.repeat; ++i) {
      TouchOnGpu(data, arguments.bytes);
      TouchOnCpu(data, arguments.bytes);
    }
  });
}

constexpr struct {
  const char* name;
  void (*run)(const Arguments& arguments, char* data);
} kWorkloads[] = {
    {"gpu_stream", GpuStream},      {"random_pages", RandomPages}, {"cpu_touch", CpuTouch},
    {"prefetch", PrefetchBothWays}, {"ping_pong", PingPong},
};

int Main(int argc, char** argv) {
  CLI::App app("One workload of the overhead measurement; see overhead.py.");
  Arguments arguments;
  app.add_option("workload", arguments.workload, "gpu_stream, random_pages, cpu_touch, prefetch, or ping_pong")
      ->required();
  app.add_option("--bytes", arguments.bytes, "Managed memory, rounded down to 2 MiB, at most 4 GiB")
      ->transform(CLI::AsSizeValue(/*kb_is_1000=*/false));
  app.add_option("--pages", arguments.pages, "random_pages: how many")->check(CLI::Range(1, 1 << 20));
  app.add_option("--repeat", arguments.repeat, "gpu_stream, ping_pong: how often")->check(CLI::Range(1, 10000));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? examples::kExitOk : examples::kExitRefused;
  }
  const auto* const workload = std::find_if(std::begin(kWorkloads), std::end(kWorkloads),
                                            [&](const auto& each) { return arguments.workload == each.name; });
  if (workload == std::end(kWorkloads)) throw examples::Refused("there is no workload " + arguments.workload);
  arguments.bytes = arguments.bytes / kBlock * kBlock;
  if (arguments.bytes == 0 || arguments.bytes > uint64_t{4} << 30) {
    throw examples::Refused("--bytes must be from 2MiB to 4GiB");
  }
  const examples::Machine machine = examples::ReadMachine();
  if (arguments.bytes > machine.free_bytes / 4) {
    throw examples::Refused(examples::FormatBytes(arguments.bytes) + " are more than a quarter of the " +
                            examples::FormatBytes(machine.free_bytes) +
                            " of free device memory; choose a smaller --bytes: nothing may be evicted here");
  }
  examples::RequireDemandPaging();
  examples::RequireHostMemory(2 * arguments.bytes, "overhead_bench");

  // What a first launch costs is not to be measured.
  char* warm = nullptr;
  Check(cudaMalloc(&warm, kPage), "cudaMalloc");
  const examples::DeviceMemory warm_owner(warm);
  Check(cudaMemset(warm, 0, kPage), "cudaMemset");
  TouchPages<<<1, 1>>>(warm, reinterpret_cast<unsigned*>(warm), 1);
  TouchOnGpu(warm, kPage);

  void* data = nullptr;
  Check(cudaMallocManaged(&data, arguments.bytes, cudaMemAttachGlobal), "cudaMallocManaged");
  const examples::ManagedMemory owner(data);
  workload->run(arguments, static_cast<char*>(data));
  return examples::kExitOk;
}

}  // namespace

int main(int argc, char** argv) { return examples::RunProgram("uvmtrace_overhead_bench", &Main, argc, argv); }
