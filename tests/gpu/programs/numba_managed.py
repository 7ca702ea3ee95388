"""numba-cuda: managed_array, written by the host and changed by a compiled kernel.

Where this numba and this NumPy do not fit together and nothing can be compiled, the managed array is copied to the
device and back instead, and the output says so: the allocation and the copies are still numba's.
"""

import workload

numpy = workload.require("numpy")
# Names that NumPy 2.5 took away and numba-cuda 0.30 still looks for, without ever calling them here.
for name in ("row_stack", "in1d", "trapz"):
    if not hasattr(numpy, name):
        setattr(numpy, name, lambda *_: None)
cuda = workload.require("numba.cuda")

ELEMENTS = 16 << 20  # 64 MiB of int32


def change_by_kernel(values):
    @cuda.jit
    def change(array):
        i = cuda.grid(1)
        if i < array.size:
            array[i] = array[i] * 5 + 3

    threads = 256
    for _ in range(3):
        change[(ELEMENTS + threads - 1) // threads, threads](values)


def change_by_copies(values):
    device = cuda.device_array(ELEMENTS, dtype=numpy.int32)
    for _ in range(3):
        device.copy_to_device(numpy.asarray(values))
        device.copy_to_host(numpy.asarray(values))


def main():
    if not cuda.is_available():
        workload.skip("numba sees no GPU")
    values = cuda.managed_array(ELEMENTS, dtype=numpy.int32)
    with workload.timed(synchronize=cuda.synchronize):
        values[:] = numpy.arange(ELEMENTS, dtype=numpy.int32)
        try:
            change_by_kernel(values)
            print("changed by a kernel")
        except Exception as error:  # numba's own; a CUDA error would come again below
            print(f"no kernel: {type(error).__name__}; changed by copies")
            change_by_copies(values)
        cuda.synchronize()
    workload.show("values", numpy.asarray(values))


if __name__ == "__main__":
    main()
