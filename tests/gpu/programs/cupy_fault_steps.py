"""CuPy over managed memory, faulting in each step: the host writes an array, the GPU works on it. For tests/gpu/tune."""

import ctypes

import workload

cupy, numpy = workload.require("cupy", "numpy")

ELEMENTS = 32 << 20  # 128 MiB of int32
STEPS = 6


def make_array():
    values = cupy.empty(ELEMENTS, dtype=cupy.int32)
    address = ctypes.cast(values.data.ptr, ctypes.POINTER(ctypes.c_int32))
    return values, numpy.ctypeslib.as_array(address, shape=(ELEMENTS,))


def main():
    try:
        cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        workload.skip(error)
    cupy.cuda.set_allocator(cupy.cuda.MemoryPool(cupy.cuda.malloc_managed).malloc)
    values, on_host = make_array()
    ramp = numpy.arange(ELEMENTS, dtype=numpy.int32)
    synchronize = cupy.cuda.get_current_stream().synchronize
    for step in range(STEPS):
        cupy.cuda.nvtx.RangePush("the host writes")
        numpy.multiply(ramp, step + 1, out=on_host)
        cupy.cuda.nvtx.RangePop()
        cupy.cuda.nvtx.RangePush("the GPU works")
        values *= 5
        values += 3
        synchronize()
        cupy.cuda.nvtx.RangePop()
    workload.show("values", on_host)


if __name__ == "__main__":
    main()
