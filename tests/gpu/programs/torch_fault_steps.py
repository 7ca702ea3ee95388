"""PyTorch with every tensor in managed memory, faulting in each step: the host writes a tensor, the GPU works on it. For
tests/gpu/tune. The allocator is that of the example server."""

import ctypes
import pathlib
import sys

import workload

torch = workload.torch_with_gpus()
numpy = workload.require("numpy")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / "examples" / "serve"))
kv_cache = workload.require("kv_cache")

ELEMENTS = 32 << 20  # 128 MiB of float32
STEPS = 6


def make_tensor():
    values = torch.empty(ELEMENTS, device="cuda", dtype=torch.float32)
    address = ctypes.cast(values.data_ptr(), ctypes.POINTER(ctypes.c_float))
    return values, numpy.ctypeslib.as_array(address, shape=(ELEMENTS,))


def main():
    try:
        path = kv_cache.find_or_build_allocator()
    except kv_cache.AllocatorError as error:
        workload.skip(error)
    torch.cuda.memory.change_current_allocator(
        torch.cuda.memory.CUDAPluggableAllocator(path, "kv_malloc", "kv_free"))
    values, on_host = make_tensor()
    ramp = numpy.arange(ELEMENTS, dtype=numpy.int32) % 1021
    for step in range(STEPS):
        torch.cuda.nvtx.range_push("the host writes")
        numpy.multiply(ramp, step + 1, out=on_host, casting="unsafe")
        torch.cuda.nvtx.range_pop()
        torch.cuda.nvtx.range_push("the GPU works")
        values.mul_(3).add_(1)
        torch.cuda.synchronize()
        torch.cuda.nvtx.range_pop()
    workload.show("values", on_host)


if __name__ == "__main__":
    main()
