// Start, fork and end of the simulated GPU.
#include "sim/engine/engine.h"

#include <sys/random.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "sim/engine/clock.h"
#include "sim/include/uvmsim_host.h"

namespace uvmsim {
namespace {

std::atomic<Engine*> g_engine{nullptr};
std::atomic<bool> g_forked{false};  // a forked child of a process that had a GPU
Mutex g_initialize_mutex;

// What uvmsim_host shows; filled in when the engine starts.
char g_root[512];
char g_profile[32] = "tiny";

ModelOptions OptionsFor(const Profile& profile) {
  ModelOptions options;
  options.device_count = profile.gpus;
  options.device_bytes = profile.memory_bytes;
  options.cost = profile.cost;
  return options;
}

// The GPUs of a profile are always the same.
std::string MakeUuid(int device) { return "GPU-75766d73-696d-4000-8000-00000000000" + std::to_string(device + 1); }

}  // namespace

Engine* Engine::Get() { return g_engine.load(std::memory_order_acquire); }

Engine::Engine()
    : profile_(LoadProfile()),
      model_(OptionsFor(profile_)),
      tools_(profile_.tools_queue_entries,
             [](int tid) {
               if (Engine* engine = Get()) engine->root_.AddThread(tid);
             }),
      clock_(profile_.time_scale),
      queue_(&clock_) {
  for (int device = 0; device < profile_.gpus; ++device) {
    gpus_.push_back(std::make_unique<Gpu>());
    gpus_.back()->uuid = MakeUuid(device);
    gpus_.back()->default_stream.lane = std::make_shared<DeviceQueue::Lane>(device, true, true);
  }
  for (int i = 0; i < 16; ++i) {
    outcomes_.push_back(std::make_unique<Outcome>());
    outcomes_.back()->Reserve();
    free_outcomes_.push_back(outcomes_.back().get());
  }
}

bool Engine::Start() {
  if (!window_.Create()) {
    perror("uvmsim: cannot map the simulated GPU's memory (memfd_create, mmap)");
    return false;
  }
  std::vector<std::string> uuids;
  for (const auto& gpu : gpus_) uuids.push_back(gpu->uuid);
  root_.Create(uuids, profile_.gpu_name, model_.options());
  snprintf(g_root, sizeof g_root, "%s", root_.path().c_str());
  snprintf(g_profile, sizeof g_profile, "%s", profile_.name);
  bool started = queue_.Start();
  for (int device = 0; device < gpu_count() && started; ++device) {
    started = gpu(device).bottom_half.Start(device + 1);
    if (started) root_.AddThread(gpu(device).bottom_half.tid());
  }
  if (!started) {
    perror("uvmsim: cannot start a thread");
    return false;
  }
  totals_.bottom_half_tid = gpu(0).bottom_half.tid();
  driver_tools_.AddVaSpace(uuids, [](int tid) {
    if (Engine* engine = Get()) engine->root_.AddThread(tid);
  });
  return true;
}

CUresult Engine::Initialize() {
  if (g_forked) return CUDA_ERROR_NOT_INITIALIZED;
  if (Get() != nullptr) return CUDA_SUCCESS;
  Lock lock(&g_initialize_mutex);
  if (Get() != nullptr) return CUDA_SUCCESS;
  auto* engine = new Engine;
  if (!engine->Start()) return CUDA_ERROR_OPERATING_SYSTEM;  // the engine is leaked: its threads may run
  g_engine.store(engine, std::memory_order_release);
  pthread_atfork(nullptr, nullptr, &Engine::ForgetAfterFork);
  // Before the destructors of the host's own statics: kernel models must not run on what those have destroyed.
  atexit([] {
    if (Engine* live = Get()) live->queue_.Freeze();
  });
  return CUDA_SUCCESS;
}

// The threads and the mappings are gone; locks may be held by threads that are no more. Nothing is touched but the
// flags.
void Engine::ForgetAfterFork() {
  g_engine.store(nullptr, std::memory_order_release);
  g_forked = true;
  DriverTools::Get().Forget();
}

void Engine::Shutdown() {
  queue_.Freeze();
  root_.Remove();
}

void Engine::CountLink(bool to_gpu, uint64_t bytes, bool in_place) {
  // Measured on an H100: 7.8 % of headers for copies, 15.6 % for reads in place.
  const uint64_t with_headers = bytes + bytes * (in_place ? 156 : 78) / 1000;
  Lock lock(&totals_mutex_);
  (to_gpu ? totals_.link_received_bytes : totals_.link_sent_bytes) += with_headers;
}

void Engine::Totals(EngineTotals* totals) {
  uint64_t free_bytes = 0;
  uint64_t total_bytes = 0;
  MemoryInfo(0, &free_bytes, &total_bytes);
  Lock lock(&totals_mutex_);
  *totals = totals_;
  totals->memory_bytes = total_bytes;
  totals->memory_used_bytes = total_bytes - free_bytes;
}

void Engine::SetError(CUresult error) {
  int none = CUDA_SUCCESS;
  error_.compare_exchange_strong(none, error);
}

namespace {

// Runs when the process ends, behind the host's atexit functions.
__attribute__((destructor)) void ShutdownAtUnload() {
  if (Engine* engine = Engine::Get()) engine->Shutdown();
}

}  // namespace
}  // namespace uvmsim

namespace {

const UvmsimTools kTools = {
    [] { return uvmsim::DriverTools::Get().OpenDevice(); },
    [](int* descriptors, size_t capacity) { return uvmsim::DriverTools::Get().FindVaSpaces(descriptors, capacity); },
    [](int descriptor, unsigned long number, void* data) {
      return uvmsim::DriverTools::Get().Control(descriptor, number, data);
    },
};

}  // namespace

extern "C" __attribute__((visibility("default")))
const UvmsimHost uvmsim_host = {2, uvmsim::g_profile, uvmsim::g_root, &kTools};
