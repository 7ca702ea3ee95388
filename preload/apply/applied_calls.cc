#include "preload/apply/applied_calls.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>

#include "preload/base/hooked_thread.h"
#include "preload/doors/resolve.h"
#include "record/recorder.h"

namespace uvmtrace {
namespace {

// A function of libcuda, looked up at its first use.
template <typename Signature>
class DriverCall {
 public:
  constexpr explicit DriverCall(const char* name) : name_(name) {}

  // Null: this driver has none.
  Signature* get() {
    uintptr_t known = known_.load(std::memory_order_acquire);
    if (known == 0) {
      known = reinterpret_cast<uintptr_t>(DriverSymbol(name_));
      if (known == 0) known = kNone;
      known_.store(known, std::memory_order_release);
    }
    return known == kNone ? nullptr : reinterpret_cast<Signature*>(known);
  }
  template <typename... Arguments>
  CUresult operator()(Arguments... arguments) {
    Signature* const function = get();
    return function == nullptr ? CUDA_ERROR_NOT_SUPPORTED : function(arguments...);
  }

 private:
  static constexpr uintptr_t kNone = 1;
  const char* const name_;
  std::atomic<uintptr_t> known_{0};
};

// Prefetch and advice by their symbols of the first version, which every driver has: the headers' names mean later
// ones.
constinit DriverCall<CUresult(CUdeviceptr, size_t, CUdevice, CUstream)> prefetch{"cuMemPrefetchAsync"};
constinit DriverCall<CUresult(CUdeviceptr, size_t, CUmem_advise, CUdevice)> advise{"cuMemAdvise"};
constinit DriverCall<CUresult(CUstreamCaptureMode*)> exchange_mode{"cuThreadExchangeStreamCaptureMode"};
constinit DriverCall<CUresult(CUstream, CUstreamCaptureStatus*)> is_capturing{"cuStreamIsCapturing"};
constinit DriverCall<CUresult(CUdevice*)> context_device{"cuCtxGetDevice"};
constinit DriverCall<CUresult(int*, CUdevice_attribute, CUdevice)> device_attribute{"cuDeviceGetAttribute"};
constinit DriverCall<CUresult(size_t*, size_t*)> memory_info{"cuMemGetInfo_v2"};
// A CUfunction, and a CUkernel.
constinit DriverCall<CUresult(void*, size_t, size_t*, size_t*)> function_parameter{"cuFuncGetParamInfo"};
constinit DriverCall<CUresult(void*, size_t, size_t*, size_t*)> kernel_parameter{"cuKernelGetParamInfo"};
constinit DriverCall<CUresult(const char**, void*)> function_name{"cuFuncGetName"};
constinit DriverCall<CUresult(const char**, void*)> kernel_name{"cuKernelGetName"};
constinit DriverCall<CUresult(CUstream*, unsigned)> make_stream{"cuStreamCreate"};
constinit DriverCall<CUresult(CUevent*, unsigned)> make_event{"cuEventCreate"};
constinit DriverCall<CUresult(CUevent, CUstream)> record_event{"cuEventRecord"};
constinit DriverCall<CUresult(CUstream, CUevent, unsigned)> wait_event{"cuStreamWaitEvent"};

void Record(ApiCallEvent* event, FunctionId id) {
  HookedThread& thread = hooked_thread;
  if (thread.tid == 0) thread.tid = static_cast<uint32_t>(syscall(SYS_gettid));
  event->tid = thread.tid;
  event->function = id;
  event->door = Door::kDriverSymbol;
  Recorder::Get().Record(*event);
}

}  // namespace

RelaxedCapture::RelaxedCapture() { exchanged_ = exchange_mode(&mode_) == CUDA_SUCCESS; }

RelaxedCapture::~RelaxedCapture() {
  if (exchanged_) exchange_mode(&mode_);
}

bool MayEnqueue(CUstream stream) {
  CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_ACTIVE;
  return is_capturing(stream, &status) == CUDA_SUCCESS && status == CU_STREAM_CAPTURE_STATUS_NONE;
}

int32_t ContextDevice() {
  CUdevice device = 0;
  int faults = 0;
  if (context_device(&device) != CUDA_SUCCESS) return kUnknownDevice;
  const CUresult result = device_attribute(&faults, CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS, device);
  return result == CUDA_SUCCESS && faults != 0 ? device : kUnknownDevice;
}

bool FreeDeviceBytes(uint64_t* bytes) {
  size_t free_bytes = 0;
  size_t total_bytes = 0;
  if (memory_info(&free_bytes, &total_bytes) != CUDA_SUCCESS) return false;
  *bytes = free_bytes;
  return true;
}

CUresult ApplyPrefetch(uint64_t address, uint64_t bytes, int32_t device, CUstream stream) {
  ApiCallEvent event;
  event.start_ns = NowNs();
  const CUresult result = prefetch(address, bytes, device == kCpu ? CU_DEVICE_CPU : device, stream);
  event.duration_ns = NowNs() - event.start_ns;
  event.address = address;
  event.bytes = bytes;
  event.location = device;
  event.stream = reinterpret_cast<uint64_t>(stream);
  event.result = result;
  Record(&event, kFunction_AppliedPrefetch);
  return result;
}

CUresult ApplyAdvice(uint64_t address, uint64_t bytes, CUmem_advise advice, int32_t device) {
  ApiCallEvent event;
  event.start_ns = NowNs();
  const CUresult result = advise(address, bytes, advice, device == kCpu ? CU_DEVICE_CPU : device);
  event.duration_ns = NowNs() - event.start_ns;
  event.address = address;
  event.bytes = bytes;
  event.flags = advice;
  event.location = device;
  event.result = result;
  Record(&event, kFunction_AppliedAdvice);
  return result;
}

// cuLaunchKernel takes a CUkernel as well, and the runtime passes one: each of the two functions knows its own handles,
// and refuses the other's.
bool ParameterBytes(CUfunction function, size_t index, size_t* bytes) {
  size_t offset = 0;
  return function_parameter(function, index, &offset, bytes) == CUDA_SUCCESS ||
         kernel_parameter(function, index, &offset, bytes) == CUDA_SUCCESS;
}

bool KnowsParameters() { return function_parameter.get() != nullptr || kernel_parameter.get() != nullptr; }

const char* KernelName(CUfunction function) {
  const char* name = nullptr;
  if (function_name(&name, function) == CUDA_SUCCESS) return name;
  return kernel_name(&name, function) == CUDA_SUCCESS ? name : nullptr;
}

CUstream MakeSideStream() {
  CUstream stream = nullptr;
  return make_stream(&stream, CU_STREAM_NON_BLOCKING) == CUDA_SUCCESS ? stream : nullptr;
}

CUevent MakeSideEvent() {
  CUevent event = nullptr;
  return make_event(&event, CU_EVENT_DISABLE_TIMING) == CUDA_SUCCESS ? event : nullptr;
}

bool RecordSideEvent(CUevent event, CUstream stream) { return record_event(event, stream) == CUDA_SUCCESS; }

bool WaitForSideEvent(CUstream stream, CUevent event) { return wait_event(stream, event, 0) == CUDA_SUCCESS; }

}  // namespace uvmtrace
