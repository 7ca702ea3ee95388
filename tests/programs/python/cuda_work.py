"""The CUDA work that the Python programs do: one managed allocation and its free."""

import ctypes

# Without the GIL during the call, as frameworks do it; with_gil keeps it.
without_gil = ctypes.CDLL("libcudart.so.13")
with_gil = ctypes.PyDLL("libcudart.so.13")


def work(runtime=without_gil, size=4096):
    pointer = ctypes.c_void_p()
    assert runtime.cudaMallocManaged(ctypes.byref(pointer), ctypes.c_size_t(size), 1) == 0
    assert runtime.cudaFree(pointer) == 0
