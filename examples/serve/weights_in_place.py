#!/usr/bin/env python3
"""vLLM's CPU weight offloading, in one file: weights in page-locked memory that kernels read in place.

    LD_PRELOAD=libuvmtrace.so python weights_in_place.py --weights zero-copy
    uvmtrace-report trace.pb

The author of vLLM issue #17062 profiled `--cpu-offload-gb` and saw cudaHostAlloc, no page fault, no copy, and a busy
`UVM GPU1 BH`. This is what he ran, without vLLM: each parameter is pinned and then seen by the GPU through a tensor at the
same address (vllm/model_executor/offloader/uva.py, csrc/cuda_view.cu). --weights managed and device are what he wanted
to compare with. Needs PyTorch 2.5 or later and a GPU.
"""

import argparse
import hashlib
import json
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import limits  # noqa: E402  (beside this file)
import serve  # noqa: E402


def zero_copy_view(torch, tensor):
    """A CUDA tensor over the pinned memory of a CPU tensor: no byte moves, then or later."""
    pinned = tensor.contiguous().pin_memory()

    class View:
        # torch takes the device from the pointer, which cudaHostAlloc has mapped. It knows no bfloat16 here.
        __cuda_array_interface__ = {"shape": tuple(pinned.shape), "typestr": "<i2", "version": 3, "strides": None,
                                    "data": (pinned.data_ptr(), False)}

    view = torch.as_tensor(View(), device="cuda").view(torch.bfloat16)
    if view.data_ptr() != pinned.data_ptr():
        raise RuntimeError("PyTorch made a copy instead of a view")
    return view, pinned  # the memory lives as long as `pinned`


def make_place(torch, where, weight_elements, keep):
    """How Transformer puts a weight where it shall live."""
    if where == "device":
        return lambda tensor: tensor.to("cuda")
    if where == "zero-copy":
        def place(tensor):
            view, pinned = zero_copy_view(torch, tensor)
            keep.append(pinned)
            return view
        return place
    import kv_cache

    # One allocation for all weights: PyTorch would put several of them into a segment of its own choice.
    memory = kv_cache.CacheMemory(kv_cache.find_or_build_allocator(), 0, "managed")
    arena = memory.empty((weight_elements,), torch.bfloat16)
    keep += [memory, arena]
    used = [0]

    def place_managed(tensor):
        managed = arena[used[0] : used[0] + tensor.numel()].view(tensor.shape)
        used[0] += tensor.numel()
        managed.copy_(tensor)
        memory.prefetch(managed, kv_cache.CPU)  # weights begin on the host, as the other kinds'
        return managed
    return place_managed


def run(options):
    torch = serve.require_torch()
    import kv_cache
    import transformer

    config = transformer.Config(layers=options.layers, hidden=options.hidden, heads=options.hidden // 64)
    weight_elements = 12 * config.layers * config.hidden**2 + 2 * transformer.VOCABULARY * config.hidden
    weight_bytes = 2 * weight_elements
    free_bytes, _ = torch.cuda.mem_get_info(0)
    limits.check_kv_bytes(weight_bytes, 1, free_bytes, limits.host_available_bytes(), False)
    keep = []
    start = time.monotonic()
    model = transformer.Transformer(config, "cuda:0", torch.bfloat16, options.seed,
                                    make_place(torch, options.weights, weight_elements, keep))
    torch.cuda.synchronize()
    load_seconds = time.monotonic() - start
    memory = kv_cache.CacheMemory(kv_cache.find_or_build_allocator(), 0, "device")
    cache = kv_cache.KvCache(memory, config, 1, options.tokens + 1, torch.bfloat16)
    token = torch.tensor([65], device="cuda:0")
    text = []
    seconds = []
    with torch.inference_mode():
        for position in range(options.tokens):
            start = time.monotonic()
            token = model.forward(token, cache, 0, position).argmax().view(1)
            text.append(int(token))
            seconds.append(time.monotonic() - start)
    median = sorted(seconds)[len(seconds) // 2]
    row = {"weights": options.weights, "weight_bytes": weight_bytes, "load_seconds": load_seconds,
           "first_token_seconds": seconds[0], "token_seconds": median, "tokens_per_second": 1 / median,
           "weights GB/s": weight_bytes / median / 1e9, "managed": options.weights == "managed",
           "checksum": hashlib.sha256(bytes(text)).hexdigest()}
    print("\n".join(f"{name}: {value}" for name, value in row.items()), flush=True)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"workload": "weights_in_place", "rows": [row]}, file, indent=1)
    cache.close()
    return serve.EXIT_OK


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", choices=("zero-copy", "managed", "device"), default="zero-copy")
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--hidden", type=int, default=2048)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    try:
        return run(options)
    except limits.Refused as error:
        print(f"weights_in_place.py: refused: {error}", file=sys.stderr)
        return serve.EXIT_REFUSED
    except Exception as error:
        print(f"weights_in_place.py: failed: {type(error).__name__}: {error}", file=sys.stderr)
        return serve.EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
