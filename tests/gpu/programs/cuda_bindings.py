"""NVIDIA's own Python bindings: managed memory by the runtime, module and launch by the driver, compiled by NVRTC."""

import ctypes

import workload

driver, runtime, nvrtc, numpy = workload.require(
    "cuda.bindings.driver", "cuda.bindings.runtime", "cuda.bindings.nvrtc", "numpy")

ELEMENTS = 32 << 20  # 128 MiB of int32
ATTACH_GLOBAL = 1    # cudaMemAttachGlobal
SOURCE = b"""
extern "C" __global__ void change(int* values, unsigned count) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) values[i] = values[i] * 5 + 3;
}
"""


def check(result):
    """A call returns its status and then its results."""
    error, *values = result
    if int(error) != 0:
        raise RuntimeError(f"{error!r}")
    return values[0] if len(values) == 1 else tuple(values) if values else None


def compile_kernel():
    major = check(runtime.cudaDeviceGetAttribute(runtime.cudaDeviceAttr.cudaDevAttrComputeCapabilityMajor, 0))
    minor = check(runtime.cudaDeviceGetAttribute(runtime.cudaDeviceAttr.cudaDevAttrComputeCapabilityMinor, 0))
    program = check(nvrtc.nvrtcCreateProgram(SOURCE, b"change.cu", 0, [], []))
    check(nvrtc.nvrtcCompileProgram(program, 1, [f"--gpu-architecture=sm_{major}{minor}".encode()]))
    code = b" " * check(nvrtc.nvrtcGetCUBINSize(program))
    check(nvrtc.nvrtcGetCUBIN(program, code))
    module = check(driver.cuModuleLoadData(code))
    return module, check(driver.cuModuleGetFunction(module, b"change"))


def prefetch_to_device(address, size):
    location = runtime.cudaMemLocation()
    location.type = runtime.cudaMemLocationType.cudaMemLocationTypeDevice
    location.id = 0
    try:
        check(runtime.cudaMemPrefetchAsync(address, size, location, 0, 0))
    except TypeError:  # before CUDA 13: the device's number, no flags
        check(runtime.cudaMemPrefetchAsync(address, size, 0, 0))


def main():
    if check(runtime.cudaGetDeviceCount()) < 1:
        workload.skip("there is no GPU")
    check(runtime.cudaSetDevice(0))
    check(runtime.cudaFree(0))  # creates the context, which the module belongs to
    module, kernel = compile_kernel()
    size = ELEMENTS * 4
    address = int(check(runtime.cudaMallocManaged(size, ATTACH_GLOBAL)))
    on_host = numpy.ctypeslib.as_array(ctypes.cast(address, ctypes.POINTER(ctypes.c_int32)), shape=(ELEMENTS,))
    with workload.timed():
        on_host[:] = numpy.arange(ELEMENTS, dtype=numpy.int32)
        for turn in range(2):
            if turn == 1:
                prefetch_to_device(address, size)
            arguments = ((address, ELEMENTS), (ctypes.c_void_p, ctypes.c_uint))
            check(driver.cuLaunchKernel(kernel, ELEMENTS // 256, 1, 1, 256, 1, 1, 0, 0, arguments, 0))
            check(runtime.cudaDeviceSynchronize())
            on_host[:] ^= 1
    workload.show("values", on_host)
    check(driver.cuModuleUnload(module))
    check(runtime.cudaFree(address))


if __name__ == "__main__":
    main()
