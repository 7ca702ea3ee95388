// A recording from its first chunk to its last: definitions, mappings, threads, restarts, and what it leaves alone.
#include <dlfcn.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <algorithm>
#include <thread>

#include "record/loader_work.h"
#include "record_test_util.h"

namespace uvmtrace {
namespace {

using namespace uvmtrace::testing;  // NOLINT

TEST_F(RecorderTest, TheFirstChunkIsThereWhenStartReturns) {
  const FunctionDefinition functions[] = {{1, "cudaMalloc", Layer::kRuntime, Operation::kAllocate},
                                          {65535, "cuMemFree_v2", Layer::kDriver, Operation::kFree}};
  RecorderOptions options = Options(path_);
  options.functions = functions;
  Start(options);
  const pb::Trace trace = ReadTrace(path_);
  ASSERT_EQ(trace.chunk_size(), 1);
  const pb::Chunk& chunk = trace.chunk(0);
  EXPECT_EQ(chunk.run_id(), options.run_id);
  EXPECT_TRUE(chunk.definitions_restart());
  ASSERT_EQ(chunk.function_size(), 2);
  EXPECT_EQ(chunk.function(1).id(), 65535u);
  EXPECT_EQ(chunk.function(1).name(), "cuMemFree_v2");
  EXPECT_EQ(chunk.function(1).layer(), pb::LAYER_DRIVER);
  EXPECT_EQ(chunk.function(1).operation(), pb::OPERATION_FREE);
  EXPECT_EQ(chunk.process().pid(), static_cast<uint32_t>(getpid()));
  EXPECT_EQ(chunk.process().parent_pid(), static_cast<uint32_t>(getppid()));
  EXPECT_EQ(chunk.process().detail(), "full");
  EXPECT_EQ(chunk.process().page_bytes(), 4096u);
  EXPECT_GT(chunk.process().memory_total_bytes(), chunk.process().memory_available_bytes());
  EXPECT_GT(chunk.process().memory_available_bytes(), 0u);
  EXPECT_GT(chunk.process().cpus(), 0u);
  EXPECT_FALSE(chunk.process().host().empty());
  EXPECT_FALSE(chunk.process().uvmtrace_version().empty());
  EXPECT_EQ(chunk.process().executable(), std::filesystem::read_symlink("/proc/self/exe").string());
  ASSERT_GE(chunk.process().command_line_size(), 1);
  EXPECT_EQ(chunk.process().command_line(0), std::string(ReadFile("/proc/self/cmdline").c_str()));
  EXPECT_GT(chunk.process().started_realtime_ns(), 1'600'000'000'000'000'000u);
  // This very function lies in one of the mappings.
  const uint64_t here = reinterpret_cast<uint64_t>(&ApiCallSamples);
  Dl_info info;
  ASSERT_NE(dladdr(reinterpret_cast<void*>(here), &info), 0);
  bool found = false;
  for (const pb::Mapping& mapping : chunk.mapping()) {
    EXPECT_FALSE(mapping.path().empty());
    EXPECT_EQ(mapping.path()[0], '/') << mapping.path();
    EXPECT_EQ(mapping.path().find("vdso"), std::string::npos);
    if (here < mapping.start() || here >= mapping.end()) continue;
    found = true;
    EXPECT_EQ(mapping.path(), chunk.process().executable());
    EXPECT_EQ(mapping.load_bias(), reinterpret_cast<uint64_t>(info.dli_fbase));
  }
  EXPECT_TRUE(found);
  EXPECT_STREQ(Recorder::Get().path(), path_.c_str());
}

TEST_F(RecorderTest, BuildIdsAreThoseThatReadelfPrints) {
  Start();
  const pb::Trace trace = ReadTrace(path_);
  int checked = 0;
  for (const pb::Mapping& mapping : trace.chunk(0).mapping()) {
    FILE* pipe = popen(("readelf -n '" + mapping.path() + "' 2>/dev/null").c_str(), "r");
    ASSERT_NE(pipe, nullptr);
    std::string output;
    char block[4096];
    for (size_t got; (got = fread(block, 1, sizeof(block), pipe)) != 0;) output.append(block, got);
    pclose(pipe);
    const size_t at = output.find("Build ID: ");
    if (at == std::string::npos) continue;
    const std::string expected = output.substr(at + 10, output.find('\n', at) - at - 10);
    std::string actual;
    for (const char c : mapping.build_id()) {
      char hex[3];
      snprintf(hex, sizeof(hex), "%02x", static_cast<unsigned char>(c));
      actual += hex;
    }
    EXPECT_EQ(actual, expected) << mapping.path();
    ++checked;
  }
  EXPECT_GT(checked, 2);
}

TEST_F(RecorderTest, ALibraryOpenedLaterIsMappedBeforeTheChunkOfItsStacksEnds) {
  Start();
  // Small libraries of glibc that hardly anything links.
  const char* name = nullptr;
  for (const char* candidate : {"libBrokenLocale.so.1", "libanl.so.1"}) {
    if (dlopen(candidate, RTLD_NOW | RTLD_NOLOAD) == nullptr) name = candidate;
  }
  ASSERT_NE(name, nullptr);
  void* library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  ASSERT_NE(library, nullptr) << dlerror();
  const uint64_t pc[] = {1};
  Recorder::Get().Record(ApiCallEvent(), pc);
  const pb::Trace trace = Finish();
  int found = 0;
  bool used = false;
  for (const pb::Chunk& chunk : trace.chunk()) {
    for (const pb::Mapping& mapping : chunk.mapping()) {
      EXPECT_FALSE(used) << "a mapping stands before, or in the chunk of, the stacks that need it";
      found += mapping.path().ends_with(name);
    }
    used |= chunk.api_calls_size() != 0;
  }
  EXPECT_GE(found, 1);
  dlclose(library);
}

// A program that ran out of memory is killed right after the flush: its call stacks must have their libraries by then.
TEST_F(RecorderTest, AFlushWaitsForTheLoaderSoThatStacksHaveTheirLibraries) {
  AcquireLoader(0);
  Start();
  const uint64_t here = reinterpret_cast<uint64_t>(&ApiCallSamples);
  Recorder::Get().Record(ApiCallEvent(), std::span<const uint64_t>(&here, 1));
  std::thread other([] { EXPECT_TRUE(Recorder::Get().Flush(5000)); });
  usleep(20'000);
  ReleaseLoader();
  other.join();
  const pb::Trace trace = ReadTrace(path_);
  bool found = false;
  for (const pb::Chunk& chunk : trace.chunk()) {
    for (const pb::Mapping& mapping : chunk.mapping()) found |= mapping.start() <= here && here < mapping.end();
  }
  EXPECT_TRUE(found);
}

TEST_F(RecorderTest, DefinitionsAndStatesArriveOnce) {
  Start();
  Recorder& recorder = Recorder::Get();
  DeviceDefinition device = {};
  device.ordinal = 1;
  device.name = "NVIDIA H200";
  device.uuid[15] = 0xff;
  device.total_memory_bytes = 150'000'000'000;
  device.compute_capability = 90;
  device.concurrent_managed_access = true;
  device.pci_bus_id = "0000:01:00.0";
  recorder.DefineDevice(device);
  recorder.DefineParameter("uvm_perf_prefetch_enable", "1");
  ProcessDefinition process = {};
  process.detail = "calls";
  process.simulated = true;
  process.cuda_driver_version = 13000;
  process.kernel_driver_version = "580.65.06";
  recorder.SetProcess(process);
  recorder.SetSourceState("cupti", SourceStateKind::kActive);
  ASSERT_TRUE(recorder.Flush(10'000));
  recorder.SetSourceState("cupti", SourceStateKind::kActive);
  ASSERT_TRUE(recorder.Flush(10'000));
  recorder.SetSourceState("cupti", SourceStateKind::kStopped, "the program re-registered the callbacks");
  const pb::Trace trace = Finish();
  int devices = 0;
  int parameters = 0;
  std::vector<std::pair<int, std::string>> states;
  pb::Process last;
  for (const pb::Chunk& chunk : trace.chunk()) {
    for (const pb::Device& d : chunk.device()) {
      ++devices;
      EXPECT_EQ(d.ordinal(), 1u);
      EXPECT_EQ(d.name(), "NVIDIA H200");
      EXPECT_EQ(d.uuid(), std::string(15, '\0') + '\xff');
      EXPECT_EQ(d.total_memory_bytes(), 150'000'000'000u);
      EXPECT_EQ(d.compute_capability(), 90u);
      EXPECT_TRUE(d.concurrent_managed_access());
      EXPECT_FALSE(d.pageable_memory_access());
      EXPECT_EQ(d.pci_bus_id(), "0000:01:00.0");
    }
    parameters += chunk.parameter_size();
    for (const pb::SourceState& state : chunk.source_state()) states.emplace_back(state.state(), state.reason());
    if (chunk.has_process()) last = chunk.process();
  }
  EXPECT_EQ(devices, 1);
  EXPECT_EQ(parameters, 1);
  ASSERT_EQ(states.size(), 2u);
  EXPECT_EQ(states[0].first, pb::STATE_ACTIVE);
  EXPECT_EQ(states[1].first, pb::STATE_STOPPED);
  EXPECT_EQ(states[1].second, "the program re-registered the callbacks");
  EXPECT_EQ(last.detail(), "calls");
  EXPECT_TRUE(last.simulated());
  EXPECT_EQ(last.cuda_driver_version(), 13000u);
  EXPECT_EQ(last.kernel_driver_version(), "580.65.06");
  EXPECT_EQ(last.pid(), static_cast<uint32_t>(getpid())) << "the recorder's own fields stay";
}

TEST_F(RecorderTest, BytesThatAreNotUtf8DoNotMakeTheTraceUnreadable) {
  Start();
  const uint32_t id = Recorder::Get().InternString("k\xff\xc3\xa4\xed\xa0\x80");
  Recorder::Get().SetSourceState("x\x80", SourceStateKind::kActive, "\xf5");
  std::thread([] {
    prctl(PR_SET_NAME, "t\xe4");
    Recorder::Get().Record(ApiCallEvent());
  }).join();
  const pb::Trace trace = Finish();
  std::string value;
  for (const pb::Chunk& chunk : trace.chunk()) {
    for (const pb::String& string : chunk.string()) {
      if (string.id() == id) value = string.value();
    }
  }
  EXPECT_EQ(value, "k?\xc3\xa4???");
}

TEST_F(RecorderTest, ProtocDecodesTheFile) {
  Start();
  for (const ApiCallEvent& event : ApiCallSamples()) Recorder::Get().Record(event);
  Finish();
  const std::string command = std::string(UVMTRACE_PROTOC) + " --decode=uvmtrace.Trace -I '" + UVMTRACE_PROTO_FOLDER +
                              "' uvmtrace.proto < '" + path_ + "' > '" + path_ + ".txt'";
  EXPECT_EQ(system(command.c_str()), 0);
  const std::string text = ReadFile(path_ + ".txt");
  EXPECT_NE(text.find("api_calls {"), std::string::npos);
  EXPECT_NE(text.find("clean: true"), std::string::npos);
}

TEST_F(RecorderTest, EventsOfAThreadThatEndedAreInTheFileAndItsRingServesTheNext) {
  // Room for four rings: forty threads, one after another, need them again.
  Start(Options(path_, 1, 4 * 256 * 1024));
  for (int i = 0; i < 40; ++i) {
    std::thread([] {
      for (int k = 0; k < 100; ++k) Recorder::Get().Record(ApiCallEvent());
    }).join();
    if (i % 3 == 2) {
      ASSERT_TRUE(Recorder::Get().Flush(10'000));
    }
  }
  const Totals totals = Count(Finish());
  EXPECT_EQ(totals.api_calls, 4000u);
  EXPECT_TRUE(totals.lost.empty());
}

TEST_F(RecorderTest, RecordingInTheThreadsOwnDestructorsIsSafeAndCounts) {
  Start();
#ifdef __SANITIZE_THREAD__
  constexpr int kRounds = 3;  // ThreadSanitizer takes its own data away in the last round
#else
  constexpr int kRounds = 4;
#endif
  static pthread_key_t key;
  static int rounds;
  rounds = 0;
  ASSERT_EQ(pthread_key_create(&key,
                               [](void* value) {
                                 Recorder::Get().Record(ApiCallEvent());
                                 // Again in every round that the C library offers: some come after the recorder's own.
                                 if (++rounds < kRounds) pthread_setspecific(key, value);
                               }),
            0);
  std::thread([] {
    pthread_setspecific(key, &rounds);
    Recorder::Get().Record(ApiCallEvent());
  }).join();
  EXPECT_EQ(rounds, kRounds);
  const Totals totals = Count(Finish());
  EXPECT_EQ(totals.api_calls, 1u + kRounds);
  pthread_key_delete(key);
}

TEST_F(RecorderTest, SixteenThreadsEveryEventIsInTheFileOrInALoss) {
  Start();
  constexpr int kThreads = 16;
  constexpr int kEvents = 100'000;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([t] {
      if (t % 4 == 0) Recorder::Get().BecomeSource();
      ApiCallEvent event;
      event.tid = static_cast<uint32_t>(syscall(SYS_gettid));
      uint64_t pcs[12];
      for (int i = 0; i < kEvents; ++i) {
        event.start_ns = static_cast<uint64_t>(i);
        event.address = static_cast<uint64_t>(t);
        for (uint64_t& pc : pcs) pc = 0x4000u + i % 7;
        Recorder::Get().Record(event, {pcs, static_cast<size_t>(i % 13)});
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const pb::Trace trace = Finish();
  Totals totals = Count(trace);
  EXPECT_EQ(totals.api_calls + totals.lost["api_calls"], uint64_t{kThreads} * kEvents);
  EXPECT_EQ(totals.api_calls, trace.chunk(trace.chunk_size() - 1).end().api_calls());
  EXPECT_GT(totals.api_calls, 0u);
  // Each thread's events are in the order in which it recorded them.
  std::map<uint64_t, uint64_t> last;
  for (const pb::Chunk& chunk : trace.chunk()) {
    EXPECT_LT(chunk.ByteSizeLong(), 2 * kTargetChunkBytes);
    for (const pb::ApiCalls& calls : chunk.api_calls()) {
      const int rows = calls.start_delta_ns_size();
      const auto start = Undelta(calls.start_delta_ns(), rows);
      for (int i = 0; i < rows; ++i) {
        const uint64_t tid = At(calls.tid(), i);
        const auto known = last.find(tid);
        if (known != last.end()) {
          ASSERT_GT(start[i], known->second);
        }
        last[tid] = start[i];
      }
    }
  }
  EXPECT_EQ(last.size(), size_t{kThreads});
}

TEST_F(RecorderTest, AnAllocationStandsBeforeTheFaultsOnIt) {
  Start();
  // The host thread publishes each allocation before the source may report a fault on it, as CUDA does.
  std::atomic<uint64_t> allocated{0};
  std::atomic<bool> done{false};
  std::thread source([&] {
    Recorder::Get().BecomeSource();
    uint64_t faulted = 0;
    while (!done.load() || faulted < allocated.load()) {
      if (faulted == allocated.load()) {
        std::this_thread::yield();
        continue;
      }
      GpuFaultEvent fault;
      fault.address = ++faulted;
      Recorder::Get().Record(fault);
    }
  });
  std::vector<std::thread> hosts;
  for (uint64_t i = 1; i <= 3000; ++i) {
    // A fresh thread now and then: its ring appears while the writer walks the list.
    const auto allocate = [&, i] {
      ApiCallEvent call;
      call.address = i;
      Recorder::Get().Record(call);
      allocated.store(i);
    };
    if (i % 50 == 0) {
      std::thread(allocate).join();
    } else {
      allocate();
    }
    if (i % 500 == 0) Recorder::Get().Flush(10'000);
  }
  done.store(true);
  source.join();
  const pb::Trace trace = Finish();
  // Threads interleave, so what stands in the file is a set, not a sequence.
  std::vector<bool> known(3001, false);
  uint64_t faults = 0;
  for (const pb::Chunk& chunk : trace.chunk()) {
    for (const pb::ApiCalls& calls : chunk.api_calls()) {
      for (const uint64_t address : Undelta(calls.address_delta(), calls.start_delta_ns_size())) known[address] = true;
    }
    for (const pb::GpuFaults& rows : chunk.gpu_faults()) {
      for (const uint64_t address : Undelta(rows.address_delta(), rows.start_delta_ns_size())) {
        ++faults;
        EXPECT_TRUE(known[address]) << address;
      }
    }
  }
  EXPECT_EQ(faults, 3000u);
}

TEST_F(RecorderTest, ARestartRepeatsEveryDefinitionInForce) {
  const FunctionDefinition functions[] = {{1, "cudaMalloc", Layer::kRuntime, Operation::kAllocate}};
  RecorderOptions options = Options(path_);
  options.functions = functions;
  Start(options);
  const uint32_t name = Recorder::Get().InternString("kernel");
  Recorder::Get().SetSourceState("calls", SourceStateKind::kActive);
  const uint64_t pcs[] = {0x1234, 0x5678};
  ApiCallEvent call;
  call.tid = static_cast<uint32_t>(syscall(SYS_gettid));
  Recorder::Get().Record(call, pcs);
  // Values that do not compress: about 90 bytes a row.
  uint64_t random = 1;
  uint64_t bytes = 0;
  for (int i = 0; bytes < kDefinitionsRestartBytes + (8 << 20); ++i) {
    const auto next = [&] { return random = random * 6364136223846793005u + 1442695040888963407u; };
    call.start_ns = next();
    call.duration_ns = next();
    call.address = next();
    call.bytes = next();
    call.other_address = next();
    call.flags = next();
    call.stream = next();
    Recorder::Get().Record(call);
    if (i % 1000 == 0) {
      Recorder::Get().Flush(10'000);
      bytes = std::filesystem::file_size(path_);
    }
  }
  const pb::Trace trace = Finish();
  int restarts = 0;
  for (int i = 1; i < trace.chunk_size(); ++i) {
    const pb::Chunk& chunk = trace.chunk(i);
    if (!chunk.definitions_restart()) continue;
    ++restarts;
    EXPECT_EQ(chunk.process().pid(), static_cast<uint32_t>(getpid()));
    EXPECT_EQ(chunk.function_size(), 1);
    ASSERT_EQ(chunk.string_size(), 1);
    EXPECT_EQ(chunk.string(0).id(), name);
    ASSERT_EQ(chunk.stack_size(), 1);
    EXPECT_EQ(chunk.stack(0).pc(1), 0x5678u);
    EXPECT_EQ(chunk.source_state_size(), 1);
    EXPECT_GT(chunk.mapping_size(), 0);
    EXPECT_GE(chunk.thread_size(), 1);
  }
  EXPECT_EQ(restarts, 1);
}

TEST_F(RecorderTest, ThreadNamesComeWithTheThread) {
  Start();
  uint32_t tid = 0;
  std::thread([&] {
    prctl(PR_SET_NAME, "dataloader 0");
    tid = static_cast<uint32_t>(syscall(SYS_gettid));
    ApiCallEvent call;
    call.tid = tid;
    Recorder::Get().Record(call);
  }).join();  // it has ended before the writer looks
  const pb::Trace trace = Finish();
  std::string name;
  for (const pb::Chunk& chunk : trace.chunk()) {
    for (const pb::Thread& thread : chunk.thread()) {
      if (thread.tid() == tid) name = thread.name();
    }
  }
  EXPECT_EQ(name, "dataloader 0");
}

TEST_F(RecorderTest, NothingIsWrittenAfterClose) {
  Start();
  Finish();
  Recorder::Get().Record(ApiCallEvent());
  EXPECT_EQ(Recorder::Get().InternString("late"), 0u);
  EXPECT_FALSE(Recorder::Get().Flush(100));
  EXPECT_FALSE(Recorder::Get().Close(100));
  const pb::Trace trace = ReadTrace(path_);
  EXPECT_TRUE(trace.chunk(trace.chunk_size() - 1).end().clean());
  EXPECT_EQ(trace.chunk(trace.chunk_size() - 1).end().chunks(), uint64_t(trace.chunk_size() - 1));
  EXPECT_EQ(Count(trace).api_calls, 0u);
  EXPECT_GT(Recorder::Get().WriterCpuNs(), 0u);
}

TEST_F(RecorderTest, ErrnoIsTheHosts) {
  errno = 4711;
  Start();
  EXPECT_EQ(errno, 4711);
  for (int i = 0; i < 10'000; ++i) Recorder::Get().Record(ApiCallEvent());
  EXPECT_EQ(errno, 4711);
  EXPECT_TRUE(Recorder::Get().Flush(10'000));
  EXPECT_EQ(errno, 4711);
  std::thread([] {
    errno = 4711;
    Recorder::Get().Record(ApiCallEvent());
    EXPECT_EQ(errno, 4711);
  }).join();
}

TEST_F(RecorderTest, AnIdleRecorderDoesNotGrowTheFile) {
  Start();
  ASSERT_TRUE(Recorder::Get().Flush(10'000));
  const auto size = std::filesystem::file_size(path_);
  usleep(300'000);
  EXPECT_EQ(std::filesystem::file_size(path_), size);
}

}  // namespace
}  // namespace uvmtrace
