// Streams, events, kernels and copies: everything that the device thread executes.
#include <cxxabi.h>
#include <pthread.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "sim/engine/clock.h"
#include "sim/engine/cpu_fault.h"
#include "sim/engine/engine.h"

namespace uvmsim {
namespace {

// What a thread needs to enqueue something, and the GPU to start and end it. Order of magnitude of PCIe systems.
constexpr double kLaunchCallNs = 2'500;
constexpr double kCopyCallNs = 2'000;
constexpr double kKernelNs = 2'000;
constexpr double kCopyNs = 1'000;

// The size of a parameter of this type: pointers and long numbers have 8 bytes. Others count as 4, structs too.
uint32_t BytesOfType(const std::string& type) {
  const bool is_long = type.find("long") != std::string::npos || type == "double";
  return is_long || (!type.empty() && type.back() == '*') ? 8 : 4;
}

// "Add(int*, unsigned long)" has two. -1 if the name tells nothing, as with extern "C".
int ReadArguments(const char* mangled, std::vector<uint32_t>* bytes) {
  int status = 0;
  char* name = abi::__cxa_demangle(mangled, nullptr, nullptr, &status);
  if (name == nullptr) return -1;
  // The parameter list is the last group of parentheses; names before it may hold some as well.
  std::string text = name;
  free(name);
  const size_t close = text.rfind(')');
  if (close == std::string::npos) return -1;
  int depth = 0;
  std::vector<std::string> types{""};  // last one first, each back to front
  for (size_t i = close + 1; i-- > 0;) {
    const char c = text[i];
    if (c == ')' || c == '>' || c == ']') ++depth;
    if (c == '(' || c == '<' || c == '[') --depth;
    if (depth == 0) break;
    if (c == ',' && depth == 1) {
      types.emplace_back();
    } else if (i != close && (c != ' ' || !types.back().empty())) {
      types.back() += c;
    }
  }
  if (types.size() == 1 && types.front().empty()) return 0;
  for (auto type = types.rbegin(); type != types.rend(); ++type) {
    bytes->push_back(BytesOfType({type->rbegin(), type->rend()}));
  }
  return static_cast<int>(types.size());
}

// The values of a launch's arguments, kept until the kernel runs. Their sizes are known to the GPU's code only; but
// they lie on the launching thread's stack, so that a copy of the stack's end keeps them, whatever they are.
class ArgumentCopy {
 public:
  // False if some of them lie elsewhere: the launch must then wait for its kernel.
  bool Take(void** arguments, int count) {
    if (arguments == nullptr || count == 0) return true;
    char* top = StackTop();
    char* bottom = static_cast<char*>(__builtin_frame_address(0));
    if (top == nullptr || top <= bottom) return false;
    const size_t size = std::min<size_t>(static_cast<size_t>(top - bottom), kMostBytes);
    const auto on_stack = [&](const void* p) { return p >= bottom && p < bottom + size; };
    if (!on_stack(arguments)) return false;
    const size_t readable = static_cast<size_t>(bottom + size - reinterpret_cast<char*>(arguments)) / sizeof(void*);
    // If the number is not known: all that look like arguments. What follows the last one is never used.
    const size_t slots = std::min(readable, count < 0 ? size_t{64} : static_cast<size_t>(count));
    if (count > 0 && slots < static_cast<size_t>(count)) return false;
    stack_.assign(bottom, bottom + size);
    for (size_t i = 0; i < slots; ++i) {
      void* argument = arguments[i];
      const bool here = on_stack(argument);
      if (!here && (count > 0 || i == 0)) return false;
      pointers_.push_back(here ? stack_.data() + (static_cast<char*>(argument) - bottom) : argument);
    }
    return true;
  }
  void** pointers() { return pointers_.data(); }

 private:
  static constexpr size_t kMostBytes = size_t{64} * 1024;

  static char* StackTop() {
    static thread_local char* top = [] {
      pthread_attr_t attributes;
      void* address = nullptr;
      size_t size = 0;
      if (pthread_getattr_np(pthread_self(), &attributes) != 0) return static_cast<char*>(nullptr);
      pthread_attr_getstack(&attributes, &address, &size);
      pthread_attr_destroy(&attributes);
      return static_cast<char*>(address) + size;
    }();
    return top;
  }

  std::vector<char> stack_;
  std::vector<void*> pointers_;
};

}  // namespace

Function* Engine::CreateFunction(const char* name, UvmsimKernelModel model) {
  Lock lock(&work_mutex_);
  Function& function = functions_.emplace_back();
  function.name = name;
  function.model = model;
  function.arguments = ReadArguments(name, &function.argument_bytes);
  return &function;
}

CUresult Engine::Launch(Function* function, UvmsimDim grid, UvmsimDim block, void** arguments, Stream* stream) {
  if (Error() != CUDA_SUCCESS) return Error();
  if (function->model == nullptr) {
    int status = 0;
    char* name = abi::__cxa_demangle(function->name.c_str(), nullptr, nullptr, &status);
    fprintf(stderr,
            "uvmsim: kernel %s has no model, and the simulator cannot run GPU code: register one with UVMSIM_REGISTER "
            "(sim/include/uvmsim.h).\n",
            name != nullptr ? name : function->name.c_str());
    free(name);
    return CUDA_ERROR_NOT_SUPPORTED;
  }
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || threads == 0 || threads > 1024) return CUDA_ERROR_INVALID_VALUE;
  EnsureCpuFaultHandler();
  auto copy = std::make_shared<ArgumentCopy>();
  const bool kept = copy->Take(arguments, function->arguments);
  UvmsimLaunch launch = {};
  launch.arguments = kept ? copy->pointers() : arguments;
  launch.grid = grid;
  launch.block = block;
  launch.device = stream->lane->device();
  launch.engine = this;
  auto record = std::make_shared<CuptiKernelRecord>();
  {
    Lock lock(&work_mutex_);
    record->correlation = next_correlation_++;
  }
  record->device = static_cast<uint32_t>(launch.device);
  record->stream = stream == &gpu(launch.device).default_stream ? 7 : stream->id;
  const auto ticket = Submit(
      stream, [this, function, launch, copy, record] { RunKernel(function, launch, record.get()); },
      [this, record] { ReportKernel(record.get()); });
  clock_.HostWorked(kLaunchCallNs);
  if (!kept) queue_.Wait(stream->lane, ticket);
  return CUDA_SUCCESS;
}

void Engine::RunKernel(Function* function, UvmsimLaunch launch, CuptiKernelRecord* record) {
  if (Error() != CUDA_SUCCESS) return;
  record->start_ns = RealtimeNs();
  demand_.memory_ns += kKernelNs;
  function->model(&launch);
  record->name = function->name.c_str();
  record->grid = launch.grid;
  record->block = launch.block;
}

void Engine::ReportKernel(CuptiKernelRecord* record) {
  if (record->name == nullptr || !kernel_records_enabled_) return;
  record->end_ns = std::max(RealtimeNs(), record->start_ns + 1);
  Lock lock(&work_mutex_);
  kernel_records_.push_back(*record);
}

void* Engine::KernelAccess(const void* address, uint64_t bytes, int usage) {
  const Access access = (usage & UVMSIM_WRITE) != 0 ? Access::kWrite : Access::kRead;
  const GpuClient client = access == Access::kRead      ? GpuClient::kKernelReads
                           : (usage & UVMSIM_READ) != 0 ? GpuClient::kKernelReadsAndWrites
                                                        : GpuClient::kKernelWrites;
  void* view = GpuAccess(reinterpret_cast<uint64_t>(address), bytes, access, client);
  if (view == nullptr) {
    ReportFatalFault(reinterpret_cast<uint64_t>(address), access);
    SetError(CUDA_ERROR_ILLEGAL_ADDRESS);
  }
  return view;
}

size_t Engine::ReadKernelRecords(CuptiKernelRecord* records, size_t capacity) {
  Lock lock(&work_mutex_);
  const size_t count = std::min(capacity, kernel_records_.size());
  std::copy_n(kernel_records_.begin(), count, records);
  kernel_records_.erase(kernel_records_.begin(), kernel_records_.begin() + static_cast<ptrdiff_t>(count));
  return count;
}

bool Engine::CopyRow(uint64_t destination, uint64_t source, uint64_t bytes) {
  while (bytes > 0) {
    // One block at a time on both sides: what is touched together faults together.
    const uint64_t to_end = std::min(kBlockBytes - destination % kBlockBytes, kBlockBytes - source % kBlockBytes);
    const uint64_t piece = std::min(bytes, to_end);
    const void* from = GpuAccess(source, piece, Access::kRead, GpuClient::kCopyEngine);
    void* to = GpuAccess(destination, piece, Access::kWrite, GpuClient::kCopyEngine);
    if (from == nullptr || to == nullptr) return false;
    memmove(to, from, piece);
    destination += piece;
    source += piece;
    bytes -= piece;
  }
  return true;
}

// What a copy needs beside the faults of managed memory. Pageable memory goes through a staging buffer, which the CPU
// fills or empties.
void Engine::DemandCopy(uint64_t destination, uint64_t source, uint64_t bytes) {
  Allocation to;
  Allocation from;
  const bool to_known = Find(destination, &to);
  const bool from_known = Find(source, &from);
  const auto on_gpu = [](bool known, const Allocation& allocation) {
    return known && allocation.kind != AllocationKind::kPinned && allocation.kind != AllocationKind::kRegistered;
  };
  const bool to_gpu = on_gpu(to_known, to);
  const bool from_gpu = on_gpu(from_known, from);
  const LinkModel& link = profile_.link;
  const auto size = static_cast<double>(bytes);
  demand_.transfer_ns += kCopyNs;
  const auto device_of = [&](const Allocation& allocation) {
    return allocation.kind == AllocationKind::kDevice ? allocation.device : device_;
  };
  if (to_gpu && from_gpu && device_of(to) != device_of(from)) {
    demand_.peer_ns += size / link.peer;
  } else if (to_gpu && from_gpu) {
    DemandDeviceMemory(2 * bytes);
  } else if (!to_gpu && !from_gpu) {
    demand_.transfer_ns += size / link.host_memory;
  } else {
    const bool pageable = !to_known || !from_known;
    double& on_link = to_gpu ? demand_.to_device_ns : demand_.to_host_ns;
    CountLink(to_gpu, bytes, false);
    on_link += size / (to_gpu ? link.pinned_to_device : link.pinned_to_host);
    if (pageable) demand_.transfer_ns += size / (to_gpu ? link.pageable_to_device : link.pageable_to_host);
  }
}

void Engine::RunCopy(uint64_t destination, uint64_t source, const CopyShape& shape) {
  if (Error() != CUDA_SUCCESS) return;
  for (uint64_t row = 0; row < shape.height; ++row) {
    if (!CopyRow(destination + row * shape.destination_pitch, source + row * shape.source_pitch, shape.width)) {
      SetError(CUDA_ERROR_ILLEGAL_ADDRESS);
      return;
    }
  }
  DemandCopy(destination, source, shape.width * shape.height);
}

CUresult Engine::Copy(uint64_t destination, uint64_t source, const CopyShape& shape, Stream* stream, bool wait) {
  if (Error() != CUDA_SUCCESS) return Error();
  if (shape.width == 0 || shape.height == 0) return CUDA_SUCCESS;
  if (destination == 0 || source == 0) return CUDA_ERROR_INVALID_VALUE;
  Allocation known;
  // Pageable memory may be reused when the call returns.
  const bool staged = !Find(destination, &known) || !Find(source, &known);
  const auto ticket = Submit(stream, [this, destination, source, shape] { RunCopy(destination, source, shape); });
  clock_.HostWorked(kCopyCallNs);
  if (!wait && !staged) return CUDA_SUCCESS;
  queue_.Wait(stream->lane, ticket);
  return Error();
}

CUresult Engine::Fill(uint64_t destination, uint32_t value, int value_bytes, uint64_t count, Stream* stream,
                      bool wait) {
  if (Error() != CUDA_SUCCESS) return Error();
  const uint64_t bytes = count * static_cast<uint64_t>(value_bytes);
  if (bytes == 0) return CUDA_SUCCESS;
  Allocation known;
  if (!Find(destination, &known) || destination % static_cast<uint64_t>(value_bytes) != 0 ||
      bytes > known.address + known.bytes - destination) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const auto ticket = Submit(stream, [this, destination, value, value_bytes, bytes] {
    for (uint64_t done = 0; done < bytes && Error() == CUDA_SUCCESS;) {
      const uint64_t piece = std::min(bytes - done, kBlockBytes - (destination + done) % kBlockBytes);
      auto* view = static_cast<char*>(GpuAccess(destination + done, piece, Access::kWrite, GpuClient::kKernelWrites));
      if (view == nullptr) {
        SetError(CUDA_ERROR_ILLEGAL_ADDRESS);
        return;
      }
      if (value_bytes == 1) {
        memset(view, static_cast<int>(value), piece);
      } else {
        for (uint64_t i = 0; i < piece; i += static_cast<uint64_t>(value_bytes))
          memcpy(view + i, &value, static_cast<size_t>(value_bytes));
      }
      done += piece;
    }
  });
  clock_.HostWorked(kCopyCallNs);
  if (!wait) return CUDA_SUCCESS;
  queue_.Wait(stream->lane, ticket);
  return Error();
}

}  // namespace uvmsim
