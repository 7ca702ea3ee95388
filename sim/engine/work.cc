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

// "Add(int*, unsigned long)" has two. -1 if the name tells nothing, as with extern "C".
int CountArguments(const char* mangled) {
  int status = 0;
  char* name = abi::__cxa_demangle(mangled, nullptr, nullptr, &status);
  if (name == nullptr) return -1;
  // The parameter list is the last group of parentheses; names before it may hold some as well.
  std::string text = name;
  free(name);
  const size_t close = text.rfind(')');
  if (close == std::string::npos) return -1;
  int depth = 0;
  int commas = 0;
  size_t open = close;
  for (size_t i = close + 1; i-- > 0;) {
    const char c = text[i];
    if (c == ')' || c == '>' || c == ']') ++depth;
    if (c == '(' || c == '<' || c == '[') --depth;
    if (c == ',' && depth == 1) ++commas;
    if (depth == 0) {
      open = i;
      break;
    }
  }
  return open + 1 == close ? 0 : commas + 1;
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

Stream* Engine::ResolveStream(CUstream handle) {
  if (handle == nullptr || handle == CU_STREAM_LEGACY || handle == CU_STREAM_PER_THREAD) return &default_stream_;
  auto* stream = reinterpret_cast<Stream*>(handle);
  Lock lock(&work_mutex_);
  return streams_.count(stream) != 0 ? stream : nullptr;
}

Stream* Engine::CreateStream(unsigned flags, int priority) {
  auto* stream = new Stream;
  stream->flags = flags;
  stream->priority = priority;
  Lock lock(&work_mutex_);
  stream->id = next_stream_++;
  streams_.insert(stream);
  return stream;
}

bool Engine::DestroyStream(Stream* stream) {
  {
    Lock lock(&work_mutex_);
    if (streams_.erase(stream) == 0) return false;
  }
  // Its work goes on without it; nothing that was submitted refers to it.
  delete stream;
  return true;
}

GpuEvent* Engine::CreateEvent(unsigned flags) {
  auto* event = new GpuEvent;
  event->flags = flags;
  Lock lock(&work_mutex_);
  events_.insert(event);
  return event;
}

bool Engine::IsEvent(GpuEvent* event) {
  Lock lock(&work_mutex_);
  return events_.count(event) != 0;
}

bool Engine::DestroyEvent(GpuEvent* event) {
  DeviceQueue::Ticket ticket = 0;
  {
    Lock lock(&work_mutex_);
    if (events_.erase(event) == 0) return false;
    ticket = event->ticket;
  }
  // The device thread may still have to write its time. It is deleted behind that.
  if (queue_.IsComplete(ticket)) {
    delete event;
  } else {
    queue_.Submit([event] { delete event; });
  }
  return true;
}

DeviceQueue::Ticket Engine::Submit(Stream* stream, std::function<void()> work) {
  const DeviceQueue::Ticket ticket = queue_.Submit(std::move(work));
  stream->last = ticket;
  return ticket;
}

CUresult Engine::Synchronize(DeviceQueue::Ticket ticket) {
  queue_.Wait(ticket);
  return Error();
}

CUresult Engine::RecordEvent(GpuEvent* event, Stream* stream) {
  event->ticket = Submit(stream, [event] { event->time_ns = ReadClockNs(CLOCK_MONOTONIC); });
  return Error();
}

Function* Engine::CreateFunction(const char* name, UvmsimKernelModel model) {
  Lock lock(&work_mutex_);
  functions_.push_back({name, model, CountArguments(name)});
  return &functions_.back();
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
  launch.engine = this;
  uint32_t correlation = 0;
  {
    Lock lock(&work_mutex_);
    correlation = next_correlation_++;
  }
  const uint32_t stream_id = stream == &default_stream_ ? 7 : stream->id;
  const auto ticket = Submit(stream, [this, function, launch, copy, stream_id, correlation] {
    RunKernel(function, launch, stream_id, correlation);
  });
  if (!kept) queue_.Wait(ticket);
  return CUDA_SUCCESS;
}

void Engine::RunKernel(Function* function, UvmsimLaunch launch, uint32_t stream, uint32_t correlation) {
  if (Error() != CUDA_SUCCESS) return;
  CuptiKernelRecord record = {};
  record.start_ns = RealtimeNs();
  function->model(&launch);
  record.end_ns = std::max(RealtimeNs(), record.start_ns + 1);
  if (!kernel_records_enabled_) return;
  record.name = function->name.c_str();
  record.stream = stream;
  record.grid = launch.grid;
  record.block = launch.block;
  record.correlation = correlation;
  Lock lock(&work_mutex_);
  kernel_records_.push_back(record);
}

void* Engine::KernelAccess(const void* address, uint64_t bytes, Access access) {
  void* view = GpuAccess(reinterpret_cast<uint64_t>(address), bytes, access, false);
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
    const void* from = GpuAccess(source, piece, Access::kRead, true);
    void* to = GpuAccess(destination, piece, Access::kWrite, true);
    if (from == nullptr || to == nullptr) return false;
    memmove(to, from, piece);
    destination += piece;
    source += piece;
    bytes -= piece;
  }
  return true;
}

// Not inside of the GPU or the host. `pageable`: one end is memory that CUDA does not know.
bool Engine::CopyCrossesLink(uint64_t destination, uint64_t source, bool* to_gpu, bool* pageable) {
  Allocation to;
  Allocation from;
  const bool to_known = Find(destination, &to);
  const bool from_known = Find(source, &from);
  const auto on_gpu = [](bool known, const Allocation& allocation) {
    return known && allocation.kind != AllocationKind::kPinned && allocation.kind != AllocationKind::kRegistered;
  };
  *to_gpu = on_gpu(to_known, to);
  *pageable = !to_known || !from_known;
  return *to_gpu != on_gpu(from_known, from);
}

// The time of a copy over the link, or 0. Pageable memory goes through a staging buffer.
double Engine::CopyTimeNs(uint64_t destination, uint64_t source, uint64_t bytes) {
  bool to_gpu = false;
  bool pageable = false;
  if (!CopyCrossesLink(destination, source, &to_gpu, &pageable)) return 0;
  constexpr double kPageableSlowdown = 3;  // 19 against 57-122 ms/GiB, measured on an H200
  const double bandwidth =
      to_gpu ? profile_.cost.host_to_device_bytes_per_ns : profile_.cost.device_to_host_bytes_per_ns;
  return static_cast<double>(bytes) / bandwidth * (pageable ? kPageableSlowdown : 1);
}

void Engine::RunCopy(uint64_t destination, uint64_t source, const CopyShape& shape) {
  if (Error() != CUDA_SUCCESS) return;
  const uint64_t start = ReadClockNs(CLOCK_MONOTONIC);
  for (uint64_t row = 0; row < shape.height; ++row) {
    if (!CopyRow(destination + row * shape.destination_pitch, source + row * shape.source_pitch, shape.width)) {
      SetError(CUDA_ERROR_ILLEGAL_ADDRESS);
      return;
    }
  }
  bool to_gpu = false;
  bool pageable = false;
  if (CopyCrossesLink(destination, source, &to_gpu, &pageable)) CountLink(to_gpu, shape.width * shape.height, false);
  const double spent = static_cast<double>(ReadClockNs(CLOCK_MONOTONIC) - start);
  SleepNs(Scaled(CopyTimeNs(destination, source, shape.width * shape.height)) - spent);
}

CUresult Engine::Copy(uint64_t destination, uint64_t source, const CopyShape& shape, Stream* stream, bool wait) {
  if (Error() != CUDA_SUCCESS) return Error();
  if (shape.width == 0 || shape.height == 0) return CUDA_SUCCESS;
  if (destination == 0 || source == 0) return CUDA_ERROR_INVALID_VALUE;
  Allocation known;
  // Pageable memory may be reused when the call returns.
  const bool staged = !Find(destination, &known) || !Find(source, &known);
  const auto ticket = Submit(stream, [this, destination, source, shape] { RunCopy(destination, source, shape); });
  return wait || staged ? Synchronize(ticket) : CUDA_SUCCESS;
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
      auto* view = static_cast<char*>(GpuAccess(destination + done, piece, Access::kWrite, false));
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
  return wait ? Synchronize(ticket) : CUDA_SUCCESS;
}

}  // namespace uvmsim
