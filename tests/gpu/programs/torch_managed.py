"""PyTorch with every tensor in managed memory: a pluggable allocator over cudaMallocManaged.

The allocator is that of the example server (examples/serve/kv_allocator.cpp). A tensor is driven to the host and back:
prefetched there, and faulted in again by the kernel that reads it.
"""

import ctypes
import pathlib
import sys

import workload

torch = workload.torch_with_gpus()
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / "examples" / "serve"))
kv_cache = workload.require("kv_cache")

ELEMENTS = 32 << 20  # 128 MiB of float32
ROUNDS = 3


def main():
    try:
        path = kv_cache.find_or_build_allocator()
    except kv_cache.AllocatorError as error:
        workload.skip(error)
    allocator = torch.cuda.memory.CUDAPluggableAllocator(path, "kv_malloc", "kv_free")
    torch.cuda.memory.change_current_allocator(allocator)
    library = ctypes.CDLL(path)
    library.kv_live_bytes.restype = ctypes.c_longlong
    library.kv_prefetch.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p]

    with workload.timed(synchronize=torch.cuda.synchronize):
        values = torch.arange(ELEMENTS, device="cuda", dtype=torch.float32).remainder_(1021)
        print(f"managed bytes at least {ELEMENTS * 4}: {library.kv_live_bytes() >= ELEMENTS * 4}")
        for _ in range(ROUNDS):
            torch.cuda.synchronize()
            stream = torch.cuda.current_stream().cuda_stream
            if library.kv_prefetch(values.data_ptr(), ELEMENTS * 4, -1, stream) != 0:
                raise RuntimeError("the prefetch to the host failed")
            torch.cuda.synchronize()
            values.mul_(3).add_(1).remainder_(1021)
        rows = values.view(1024, -1)
        small = torch.nn.functional.relu(rows[:, :512] @ rows[:512, :512].remainder(3))
        result = small.cpu()
    workload.show("values", values.cpu().numpy())
    workload.show("product", result.numpy())


if __name__ == "__main__":
    main()
