"""CuPy with its memory pool over managed memory: the host writes, a kernel reads, the host reads back."""

import ctypes

import workload

cupy, numpy = workload.require("cupy", "numpy")

ELEMENTS = 32 << 20  # 128 MiB of int32
ROUNDS = 3


def main():
    try:
        cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        workload.skip(error)
    pool = cupy.cuda.MemoryPool(cupy.cuda.malloc_managed)
    cupy.cuda.set_allocator(pool.malloc)
    values = cupy.empty(ELEMENTS, dtype=cupy.int32)
    # The same memory for the host: CuPy itself never touches it there.
    address = ctypes.cast(values.data.ptr, ctypes.POINTER(ctypes.c_int32))
    on_host = numpy.ctypeslib.as_array(address, shape=(ELEMENTS,))
    synchronize = cupy.cuda.get_current_stream().synchronize
    with workload.timed(synchronize=synchronize):
        on_host[:] = numpy.arange(ELEMENTS, dtype=numpy.int32)
        for _ in range(ROUNDS):
            values *= 5
            values += 3
            synchronize()
            on_host[::1024] ^= 1
        total = int(values.sum(dtype=cupy.int64).get())
    print(f"sum: {total}; pool holds {pool.total_bytes() >= ELEMENTS * 4}")
    workload.show("values", on_host)


if __name__ == "__main__":
    main()
