"""The KV cache in managed, page-locked or device memory, through PyTorch's memory pools (torch >= 2.5).

One tensor [slots, layers, key/value, tokens, heads, head size] lives in a pool whose allocator is kv_allocator.cpp. A
conversation owns one slot. Because the tensor is managed, a slot can leave for host memory while its conversation is
silent and come back page by page when a kernel reads it: nothing in the model knows.
"""

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import tempfile

import torch

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.join(HERE, "kv_allocator.cpp")
CPU = -1


class AllocatorError(Exception):
    """The allocator library could not be found, built or used."""


def find_or_build_allocator():
    """The path of a kv_allocator library for the CUDA runtime that this PyTorch uses."""
    cuda_major = torch.version.cuda.split(".")[0]
    name = f"kv_allocator.cu{cuda_major}.so"
    override = os.environ.get("UVM_KV_ALLOCATOR")
    if override:
        return override
    repository = os.path.dirname(os.path.dirname(HERE))
    built = [os.path.join(HERE, name), os.path.join(os.path.dirname(HERE), name)]
    # Not every build: a library with a sanitizer inside cannot be loaded into Python.
    built += [os.path.join(repository, "build", preset, "bin", "examples", name) for preset in ("default", "release")]
    for path in built:
        if os.path.exists(path) and not _older_than_source(path):
            return path
    return _build(cuda_major, name)


def _older_than_source(path):
    return os.path.exists(SOURCE) and os.path.getmtime(path) < os.path.getmtime(SOURCE)


def _build(cuda_major, name):
    compiler = shutil.which(os.environ.get("CXX", "g++")) or shutil.which("c++")
    if compiler is None:
        raise AllocatorError(f"{name} is not built and there is no g++ to build it: build uvmtrace first (cmake)")
    runtime = _loaded_cudart()
    include = _cuda_include(cuda_major, runtime)
    with open(SOURCE, "rb") as source:
        digest = hashlib.sha256(source.read() + runtime.encode()).hexdigest()[:16]
    folder = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "uvmtrace", digest)
    path = os.path.join(folder, name)
    if os.path.exists(path):
        return path
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError:
        path = os.path.join(tempfile.mkdtemp(prefix="uvmtrace-"), name)
    unfinished = f"{path}.{os.getpid()}"
    command = [compiler, "-std=c++17", "-O2", "-g", "-fPIC", "-shared", "-isystem", include, SOURCE, runtime]
    command += ["-o", unfinished]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise AllocatorError(f"building {name} failed:\n{' '.join(command)}\n{result.stderr}")
    os.rename(unfinished, path)  # two servers that start together never see half a library
    return path


def _loaded_cudart():
    """The libcudart that PyTorch has loaded: linking another one would give the process two runtimes."""
    with open("/proc/self/maps", encoding="utf-8") as maps:
        for line in maps:
            path = line.split(maxsplit=5)[-1].strip()
            if re.search(r"/libcudart\.so\.[0-9.]+$", path):
                return path
    raise AllocatorError("PyTorch has loaded no shared libcudart; this build of PyTorch is not supported")


def _cuda_include(cuda_major, runtime):
    """A folder with cuda_runtime_api.h of this major version: the toolkit's, or the one beside the loaded runtime."""
    library_folder = os.path.dirname(os.path.realpath(runtime))
    candidates = [os.environ.get("CUDA_HOME", ""), os.environ.get("CUDA_PATH", ""), "/usr/local/cuda"]
    candidates += [os.path.dirname(library_folder), os.path.dirname(os.path.dirname(os.path.dirname(library_folder)))]
    for root in filter(None, candidates):
        header = os.path.join(root, "include", "cuda_runtime_api.h")
        if not os.path.exists(header):
            continue
        with open(header, encoding="utf-8", errors="replace") as text:
            version = re.search(r"#define\s+CUDART_VERSION\s+(\d+)", text.read())
        if version and str(int(version.group(1)) // 1000) == cuda_major:
            return os.path.dirname(header)
    raise AllocatorError(f"no cuda_runtime_api.h of CUDA {cuda_major} was found; set CUDA_HOME")


class CacheMemory:
    """A PyTorch memory pool of one kind of memory, and the calls on it that PyTorch does not have."""

    def __init__(self, library_path, device, kind="managed"):
        self.device = device
        allocate, free = {"managed": ("kv_malloc", "kv_free"), "pinned": ("kv_malloc_pinned", "kv_free_pinned"),
                          "device": ("kv_malloc_device", "kv_free")}[kind]
        try:
            self._library = ctypes.CDLL(library_path)
        except OSError as error:
            raise AllocatorError(f"{library_path} cannot be loaded: {error}") from error
        self._library.kv_prefetch.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p]
        self._library.kv_live_bytes.restype = ctypes.c_longlong
        if kind == "managed" and not self._library.kv_pages_on_demand(device):
            raise AllocatorError(f"device {device} does not page managed memory on demand")
        # Both must live as long as any tensor of the pool.
        self._allocator = torch.cuda.memory.CUDAPluggableAllocator(library_path, allocate, free)
        self._pool = torch.cuda.MemPool(self._allocator.allocator())

    def empty(self, shape, dtype):
        """As torch.empty, which unlike torch.zeros touches nothing: a page begins where it is first used."""
        before = self._library.kv_live_bytes()
        with torch.cuda.use_mem_pool(self._pool):
            tensor = torch.empty(shape, dtype=dtype, device=f"cuda:{self.device}")
        if self._library.kv_live_bytes() - before < tensor.numel() * tensor.element_size():
            raise AllocatorError("PyTorch did not take the KV cache from this pool")
        return tensor

    def prefetch(self, tensor, device):
        """Moves the pages of a contiguous tensor to `device` (or CPU), in the order of the current stream."""
        stream = torch.cuda.current_stream(self.device).cuda_stream
        error = self._library.kv_prefetch(tensor.data_ptr(), tensor.numel() * tensor.element_size(), device, stream)
        if error != 0:
            raise AllocatorError(f"cudaMemPrefetchAsync failed with CUDA error {error}")

    def close(self):
        """Frees the pool. Its tensors must be gone; PyTorch keeps their memory for others until the pool goes."""
        self._pool = None
        torch.cuda.empty_cache()


class KvCache:
    """slots x max_tokens positions of keys and values for every layer."""

    def __init__(self, memory, config, slots, max_tokens, dtype):
        self._memory = memory
        self.slots = slots
        self.max_tokens = max_tokens
        shape = (slots, config.layers, 2, max_tokens, config.heads, config.head_size)
        self._tensor = memory.empty(shape, dtype)

    def write(self, slot, layer, start, keys, values):
        """keys and values: [tokens, heads, head size]."""
        end = start + keys.shape[0]
        self._tensor[slot, layer, 0, start:end] = keys
        self._tensor[slot, layer, 1, start:end] = values

    def read(self, slot, layer, end):
        """(keys, values) of positions [0, end): views of [tokens, heads, head size]."""
        return self._tensor[slot, layer, 0, :end], self._tensor[slot, layer, 1, :end]

    def write_each(self, slots, layer, positions, keys, values):
        """One position in each of several slots. keys and values: [slots, heads, head size]."""
        self._tensor[slots, layer, 0, positions] = keys
        self._tensor[slots, layer, 1, positions] = values

    def move(self, slot, tokens, device):
        """Prefetches the used part of a slot to `device`, or CPU. Returns the bytes asked for."""
        moved = 0
        for layer in range(self._tensor.shape[1]):
            for part in self.read(slot, layer, tokens):
                self._memory.prefetch(part, device)
                moved += part.numel() * part.element_size()
        torch.cuda.current_stream(self._memory.device).synchronize()
        return moved

    def close(self):
        """Gives the memory back. The tensor must go before its pool."""
        self._tensor = None
        self._memory.close()
