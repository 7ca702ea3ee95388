// Copies, memsets, streams, events and launches.
#include "sim/libcuda/api.h"

using uvmsim::Engine;
using uvmsim::Function;
using uvmsim::GpuEvent;
using uvmsim::Stream;
using uvmsim::WithEngine;
using uvmsim::WithStream;

namespace {

uint64_t Address(const void* pointer) { return reinterpret_cast<uint64_t>(pointer); }

CUresult Copy(CUdeviceptr destination, CUdeviceptr source, size_t bytes, CUstream handle, bool wait) {
  return WithStream(handle, [&](Engine& engine, Stream* stream) {
    return engine.Copy(destination, source, {bytes, 1, 0, 0}, stream, wait);
  });
}

CUresult Copy2D(const CUDA_MEMCPY2D* copy, CUstream handle, bool wait) {
  return WithStream(handle, [&](Engine& engine, Stream* stream) {
    if (copy == nullptr || copy->srcMemoryType == CU_MEMORYTYPE_ARRAY || copy->dstMemoryType == CU_MEMORYTYPE_ARRAY) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    const uint64_t source = copy->srcMemoryType == CU_MEMORYTYPE_HOST ? Address(copy->srcHost) : copy->srcDevice;
    const uint64_t destination = copy->dstMemoryType == CU_MEMORYTYPE_HOST ? Address(copy->dstHost) : copy->dstDevice;
    if (copy->Height > 1 && (copy->srcPitch < copy->WidthInBytes || copy->dstPitch < copy->WidthInBytes)) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    return engine.Copy(destination + copy->dstY * copy->dstPitch + copy->dstXInBytes,
                       source + copy->srcY * copy->srcPitch + copy->srcXInBytes,
                       {copy->WidthInBytes, copy->Height, copy->dstPitch, copy->srcPitch}, stream, wait);
  });
}

CUresult Fill(CUdeviceptr destination, unsigned value, int bytes, size_t count, CUstream handle, bool wait) {
  return WithStream(handle, [&](Engine& engine, Stream* stream) {
    return engine.Fill(destination, value, bytes, count, stream, wait);
  });
}

CUresult Record(CUevent event, CUstream stream_handle) {
  return WithStream(stream_handle, [&](Engine& engine, Stream* stream) {
    return engine.RecordEvent(reinterpret_cast<GpuEvent*>(event), stream);
  });
}

CUresult WaitEvent(CUstream stream_handle, CUevent event) {
  return WithStream(stream_handle, [&](Engine& engine, Stream* stream) {
    return engine.Synchronize(uvmsim::CuptiSynchronizationRecord::kStreamWaitsForEvent, stream,
                              [&] { return engine.WaitEvent(stream, reinterpret_cast<GpuEvent*>(event)); });
  });
}

CUresult StreamQuery(CUstream handle) {
  return WithStream(handle, [](Engine& engine, Stream* stream) { return engine.QueryStream(stream); });
}

CUresult StreamSynchronize(CUstream handle) {
  return WithStream(handle, [&](Engine& engine, Stream* stream) {
    // The legacy default stream waits for all others.
    const bool all = handle == nullptr || handle == CU_STREAM_LEGACY;
    return engine.Synchronize(uvmsim::CuptiSynchronizationRecord::kStream, stream, [&] {
      return all ? engine.SynchronizeDevice(uvmsim::CurrentDevice()) : engine.SynchronizeStream(stream);
    });
  });
}

CUresult HostFunction(CUstream handle, CUhostFn function, void* data) {
  return WithStream(handle, [&](Engine& engine, Stream* stream) {
    if (function == nullptr) return CUDA_ERROR_INVALID_VALUE;
    engine.Submit(stream, [function, data] { function(data); });
    return CUDA_SUCCESS;
  });
}

CUresult Launch(CUfunction function, UvmsimDim grid, UvmsimDim block, CUstream handle, void** arguments, void** extra) {
  return WithStream(handle, [&](Engine& engine, Stream* stream) {
    if (function == nullptr) return CUDA_ERROR_INVALID_HANDLE;
    if (extra != nullptr) return CUDA_ERROR_NOT_SUPPORTED;
    return engine.Launch(reinterpret_cast<Function*>(function), grid, block, arguments, stream);
  });
}

CUresult ParameterInfo(CUfunction function, size_t index, size_t* offset, size_t* bytes) {
  return WithEngine([&](Engine&) {
    const auto& sizes = reinterpret_cast<const Function*>(function)->argument_bytes;
    if (offset == nullptr || index >= sizes.size()) return CUDA_ERROR_INVALID_VALUE;
    *offset = 0;
    for (size_t i = 0; i <= index; ++i) {
      if (sizes[i] == 8) *offset = (*offset + 7) / 8 * 8;
      if (i < index) *offset += sizes[i];
    }
    if (bytes != nullptr) *bytes = sizes[index];
    return CUDA_SUCCESS;
  });
}

CUresult FunctionName(const char** name, CUfunction function) {
  return WithEngine([&](Engine&) {
    if (name == nullptr || function == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *name = reinterpret_cast<const Function*>(function)->name.c_str();
    return CUDA_SUCCESS;
  });
}

CUresult GetFlags(CUstream handle, unsigned* flags) {
  return WithStream(handle, [&](Engine&, Stream* stream) {
    if (flags == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *flags = stream->flags;
    return CUDA_SUCCESS;
  });
}

CUresult GetPriority(CUstream handle, int* priority) {
  return WithStream(handle, [&](Engine&, Stream* stream) {
    if (priority == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *priority = stream->priority;
    return CUDA_SUCCESS;
  });
}

CUresult IsCapturing(CUstream handle, CUstreamCaptureStatus* status) {
  return WithStream(handle, [&](Engine&, Stream*) {
    if (status == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *status = CU_STREAM_CAPTURE_STATUS_NONE;
    return CUDA_SUCCESS;
  });
}

}  // namespace

extern "C" {

UVMSIM_TWINS(cuMemcpy, _ptds, (CUdeviceptr to, CUdeviceptr from, size_t bytes), Copy(to, from, bytes, nullptr, true))
UVMSIM_TWINS(cuMemcpyPeer, _ptds, (CUdeviceptr to, CUcontext, CUdeviceptr from, CUcontext, size_t bytes),
             Copy(to, from, bytes, nullptr, true))
UVMSIM_TWINS(cuMemcpyHtoD_v2, _ptds, (CUdeviceptr to, const void* from, size_t bytes),
             Copy(to, Address(from), bytes, nullptr, true))
UVMSIM_TWINS(cuMemcpyDtoH_v2, _ptds, (void* to, CUdeviceptr from, size_t bytes),
             Copy(Address(to), from, bytes, nullptr, true))
UVMSIM_TWINS(cuMemcpyDtoD_v2, _ptds, (CUdeviceptr to, CUdeviceptr from, size_t bytes),
             Copy(to, from, bytes, nullptr, true))
UVMSIM_TWINS(cuMemcpy2D_v2, _ptds, (const CUDA_MEMCPY2D* copy), Copy2D(copy, nullptr, true))
UVMSIM_TWINS(cuMemcpy2DUnaligned_v2, _ptds, (const CUDA_MEMCPY2D* copy), Copy2D(copy, nullptr, true))
UVMSIM_TWINS(cuMemcpyAsync, _ptsz, (CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream),
             Copy(to, from, bytes, stream, false))
UVMSIM_TWINS(cuMemcpyPeerAsync, _ptsz,
             (CUdeviceptr to, CUcontext, CUdeviceptr from, CUcontext, size_t bytes, CUstream stream),
             Copy(to, from, bytes, stream, false))
UVMSIM_TWINS(cuMemcpyHtoDAsync_v2, _ptsz, (CUdeviceptr to, const void* from, size_t bytes, CUstream stream),
             Copy(to, Address(from), bytes, stream, false))
UVMSIM_TWINS(cuMemcpyDtoHAsync_v2, _ptsz, (void* to, CUdeviceptr from, size_t bytes, CUstream stream),
             Copy(Address(to), from, bytes, stream, false))
UVMSIM_TWINS(cuMemcpyDtoDAsync_v2, _ptsz, (CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream),
             Copy(to, from, bytes, stream, false))
UVMSIM_TWINS(cuMemcpy2DAsync_v2, _ptsz, (const CUDA_MEMCPY2D* copy, CUstream stream), Copy2D(copy, stream, false))

UVMSIM_TWINS(cuMemsetD8_v2, _ptds, (CUdeviceptr to, unsigned char value, size_t count),
             Fill(to, value, 1, count, nullptr, true))
UVMSIM_TWINS(cuMemsetD16_v2, _ptds, (CUdeviceptr to, unsigned short value, size_t count),
             Fill(to, value, 2, count, nullptr, true))
UVMSIM_TWINS(cuMemsetD32_v2, _ptds, (CUdeviceptr to, unsigned int value, size_t count),
             Fill(to, value, 4, count, nullptr, true))
UVMSIM_TWINS(cuMemsetD8Async, _ptsz, (CUdeviceptr to, unsigned char value, size_t count, CUstream stream),
             Fill(to, value, 1, count, stream, false))
UVMSIM_TWINS(cuMemsetD16Async, _ptsz, (CUdeviceptr to, unsigned short value, size_t count, CUstream stream),
             Fill(to, value, 2, count, stream, false))
UVMSIM_TWINS(cuMemsetD32Async, _ptsz, (CUdeviceptr to, unsigned int value, size_t count, CUstream stream),
             Fill(to, value, 4, count, stream, false))

CUresult CUDAAPI cuStreamCreateWithPriority(CUstream* stream, unsigned int flags, int priority) {
  return WithEngine([&](Engine& engine) {
    if (stream == nullptr) return CUDA_ERROR_INVALID_VALUE;
    if (!engine.HasRoomForStream(uvmsim::CurrentDevice())) return CUDA_ERROR_OUT_OF_MEMORY;
    *stream = reinterpret_cast<CUstream>(engine.CreateStream(uvmsim::CurrentDevice(), flags, priority));
    return CUDA_SUCCESS;
  });
}
CUresult CUDAAPI cuStreamCreate(CUstream* stream, unsigned int flags) {
  return cuStreamCreateWithPriority(stream, flags, 0);
}

CUresult CUDAAPI cuStreamDestroy_v2(CUstream stream) {
  return WithEngine([&](Engine& engine) {
    return engine.DestroyStream(reinterpret_cast<Stream*>(stream)) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
  });
}

UVMSIM_TWINS(cuStreamQuery, _ptsz, (CUstream stream), StreamQuery(stream))
UVMSIM_TWINS(cuStreamSynchronize, _ptsz, (CUstream stream), StreamSynchronize(stream))
UVMSIM_TWINS(cuStreamWaitEvent, _ptsz, (CUstream stream, CUevent event, unsigned int), WaitEvent(stream, event))
UVMSIM_TWINS(cuStreamGetFlags, _ptsz, (CUstream stream, unsigned int* flags), GetFlags(stream, flags))
UVMSIM_TWINS(cuStreamGetPriority, _ptsz, (CUstream stream, int* priority), GetPriority(stream, priority))
UVMSIM_TWINS(cuStreamIsCapturing, _ptsz, (CUstream stream, CUstreamCaptureStatus* status), IsCapturing(stream, status))

CUresult CUDAAPI cuEventCreate(CUevent* event, unsigned int flags) {
  return WithEngine([&](Engine& engine) {
    if (event == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *event = reinterpret_cast<CUevent>(engine.CreateEvent(flags));
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuEventDestroy_v2(CUevent event) {
  return WithEngine([&](Engine& engine) {
    return engine.DestroyEvent(reinterpret_cast<GpuEvent*>(event)) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
  });
}

CUresult CUDAAPI cuEventQuery(CUevent event) {
  return WithEngine([&](Engine& engine) { return engine.QueryEvent(reinterpret_cast<GpuEvent*>(event)); });
}

CUresult CUDAAPI cuEventSynchronize(CUevent event) {
  return WithEngine([&](Engine& engine) {
    return engine.Synchronize(uvmsim::CuptiSynchronizationRecord::kEvent, nullptr,
                              [&] { return engine.SynchronizeEvent(reinterpret_cast<GpuEvent*>(event)); });
  });
}

CUresult CUDAAPI cuEventElapsedTime_v2(float* milliseconds, CUevent start, CUevent end) {
  return WithEngine([&](Engine& engine) {
    if (milliseconds == nullptr) return CUDA_ERROR_INVALID_VALUE;
    return engine.ElapsedMilliseconds(reinterpret_cast<GpuEvent*>(start), reinterpret_cast<GpuEvent*>(end),
                                      milliseconds);
  });
}
CUresult CUDAAPI cuEventElapsedTime(float* milliseconds, CUevent start, CUevent end) {
  return cuEventElapsedTime_v2(milliseconds, start, end);
}

UVMSIM_TWINS(cuEventRecord, _ptsz, (CUevent event, CUstream stream), Record(event, stream))
UVMSIM_TWINS(cuEventRecordWithFlags, _ptsz, (CUevent event, CUstream stream, unsigned int), Record(event, stream))

UVMSIM_TWINS(cuLaunchHostFunc, _ptsz, (CUstream stream, CUhostFn function, void* data),
             HostFunction(stream, function, data))
UVMSIM_TWINS(cuLaunchKernel, _ptsz,
             (CUfunction function, unsigned int gx, unsigned int gy, unsigned int gz, unsigned int bx, unsigned int by,
              unsigned int bz, unsigned int, CUstream stream, void** arguments, void** extra),
             Launch(function, {gx, gy, gz}, {bx, by, bz}, stream, arguments, extra))
UVMSIM_TWINS(cuLaunchKernelEx, _ptsz, (const CUlaunchConfig* c, CUfunction function, void** arguments, void** extra),
             c == nullptr ? CUDA_ERROR_INVALID_VALUE
                          : Launch(function, {c->gridDimX, c->gridDimY, c->gridDimZ},
                                   {c->blockDimX, c->blockDimY, c->blockDimZ}, c->hStream, arguments, extra))

CUresult CUDAAPI cuFuncGetParamInfo(CUfunction function, size_t index, size_t* offset, size_t* bytes) {
  if (function == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return ParameterInfo(function, index, offset, bytes);
}
CUresult CUDAAPI cuFuncGetName(const char** name, CUfunction function) { return FunctionName(name, function); }

}  // extern "C"
