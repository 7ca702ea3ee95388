#!/usr/bin/env python3
"""vLLM's CPU weight offloading, in one file: weights in page-locked memory that kernels read in place.

    LD_PRELOAD=libuvmtrace.so python weights_in_place.py --weights zero-copy
    uvmtrace-report trace.pb

The author of vLLM issue #17062 profiled `--cpu-offload-gb` and saw cudaHostAlloc, no page fault, no copy, and a busy
`UVM GPU1 BH`. This is what he ran, without vLLM: each parameter is pinned and then seen by the GPU through a tensor at the
same address (vllm/model_executor/offloader/uva.py, csrc/cuda_view.cu). --weights managed and device are what he wanted
to compare with; without --weights all three run, one after the other. Needs PyTorch 2.5 or later and a GPU.
"""

import argparse
import hashlib
import json
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import limits  # noqa: E402  (beside this file)
import machine  # noqa: E402
import serve  # noqa: E402

KINDS = ("zero-copy", "managed", "device")
QUICK = {"layers": 2, "tokens": 12}  # instead of the defaults: 194 MiB of weights


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)

    def kinds(text):
        chosen = KINDS if text == "all" else tuple(text.split(","))
        unknown = [kind for kind in chosen if kind not in KINDS]
        if unknown:
            raise argparse.ArgumentTypeError(f"{unknown[0]} not in {', '.join(KINDS)}, or all")
        return chosen

    def size(text):
        try:
            return limits.parse_bytes(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    def positive(text):
        number = int(text)
        if number < 1:
            raise argparse.ArgumentTypeError(f"{number} is less than 1")
        return number

    parser.add_argument("--weights", type=kinds, default=KINDS, metavar="KIND,...",
                        help=f"where the weights live: {', '.join(KINDS)}, or all")
    parser.add_argument("--quick", action="store_true", help="another default: " + ", ".join(
        f"--{name} {value}" for name, value in QUICK.items()))
    parser.add_argument("--tokens", type=positive, default=24, help="to generate, one forward pass each")
    parser.add_argument("--layers", type=positive, default=16, help="of the model")
    parser.add_argument("--hidden", type=positive, default=2048, help="width of the model, a multiple of 64")
    parser.add_argument("--seed", type=int, default=1, help="of the weights")
    parser.add_argument("--repeat", type=positive, default=1, help="repetitions, the kinds in turn")
    parser.add_argument("--capacity", type=size, help="device memory for managed and device weights (default: what is free)")
    parser.add_argument("--allow-oversubscription", action="store_true",
                        help="allow weights larger than the free device memory: drivers are known to hang in this")
    parser.add_argument("--json", metavar="FILE", help="write the results there")
    options = parser.parse_args(arguments)
    if options.quick:
        parser.set_defaults(**QUICK)
        options = parser.parse_args(arguments)
    if options.hidden % 64 != 0:
        parser.error("--hidden must be a multiple of 64")
    return options


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


class Placement:
    """Puts weights where they shall live, and owns that memory."""

    def __init__(self, torch, kind, elements):
        self._torch, self._kind = torch, kind
        self._pinned = []
        self._memory = self._arena = None
        self._used = 0
        if kind == "managed":
            import kv_cache

            # One allocation for all weights: PyTorch would put several of them into a segment of its own choice.
            self._memory = kv_cache.CacheMemory(kv_cache.find_or_build_allocator(), 0, "managed")
            self._arena = self._memory.empty((elements,), torch.bfloat16)

    def place(self, tensor):
        """The tensor, as kernels shall see it. `tensor` is on the CPU."""
        if self._kind == "device":
            return tensor.to("cuda")
        if self._kind == "zero-copy":
            view, pinned = zero_copy_view(self._torch, tensor)
            self._pinned.append(pinned)
            return view
        managed = self._arena[self._used : self._used + tensor.numel()].view(tensor.shape)
        self._used += tensor.numel()
        managed.copy_(tensor)
        self._memory.prefetch(managed, -1)  # to the CPU: weights begin on the host, as the other kinds' do
        return managed

    def close(self):
        """The model must be gone by now."""
        self._pinned = self._arena = None
        if self._memory is not None:
            self._memory.close()


def generate(torch, model, cache, tokens, kind):
    """(bytes of the text, seconds of each token)"""
    token = torch.tensor([65], device="cuda:0")
    text = bytearray()
    seconds = []
    with torch.inference_mode():
        for position in range(tokens):
            with torch.cuda.nvtx.range(f"{kind}: token"):
                start = time.monotonic()
                token = model.forward(token, cache, 0, position).argmax().view(1)
                text.append(int(token))  # waits for the GPU
                seconds.append(time.monotonic() - start)
    return bytes(text), seconds


def run_kind(torch, config, weights, kind, options):
    """The row of one kind of weights."""
    import kv_cache
    import transformer

    elements = sum(weight.numel() for weight in weights)
    start = time.monotonic()
    with torch.cuda.nvtx.range(f"{kind}: loading"):
        placement = Placement(torch, kind, elements)
        model = transformer.Transformer(config, "cuda:0", torch.bfloat16, weights, placement.place)
        torch.cuda.synchronize()
    load_seconds = time.monotonic() - start
    memory = kv_cache.CacheMemory(kv_cache.find_or_build_allocator(), 0, "device")
    cache = kv_cache.KvCache(memory, config, 1, options.tokens + 1, torch.bfloat16)
    text, seconds = generate(torch, model, cache, options.tokens, kind)
    cache.close()
    del model
    placement.close()
    torch.cuda.empty_cache()
    median = sorted(seconds)[len(seconds) // 2]
    return {"weights": kind, "weight_bytes": 2 * elements, "load_seconds": load_seconds, "first_token_seconds": seconds[0],
            "token_seconds": median, "tokens_per_second": 1 / median, "weights GB/s": 2 * elements / median / 1e9,
            "managed": kind == "managed", "checksum": hashlib.sha256(text).hexdigest()}


def run(options):
    torch = serve.require_torch()
    import transformer

    config = transformer.Config(layers=options.layers, hidden=options.hidden, heads=options.hidden // 64)
    weight_bytes = 2 * (12 * config.layers * config.hidden**2 + 2 * transformer.VOCABULARY * config.hidden)
    free_bytes, _ = torch.cuda.mem_get_info(0)
    capacity = free_bytes if options.capacity is None else min(options.capacity, free_bytes)
    limits.check_weight_bytes(weight_bytes, capacity, limits.host_available_bytes(), options.allow_oversubscription)
    serve.say(f"setup: {torch.cuda.get_device_name(0)} | PyTorch {torch.__version__} | CUDA {torch.version.cuda} | "
              f"weights {limits.format_bytes(weight_bytes)}")
    # Made once, because that takes longer than all the rest.
    weights = [weight.to(torch.bfloat16) for weight in transformer.random_weights(config, options.seed)]
    rows = []
    for repetition in range(options.repeat):
        for kind in options.weights:
            rows.append({**run_kind(torch, config, weights, kind, options), "repetition": repetition})
            serve.say("\n" + "\n".join(f"{name}: {value}" for name, value in rows[-1].items()))
    # Products of other weights, or of stale ones, would give another text.
    if len({row["checksum"] for row in rows}) != 1:
        raise RuntimeError("the kinds of memory gave different texts: " +
                           ", ".join(f"{row['weights']} {row['checksum'][:12]}" for row in rows))
    serve.say("\ndata: ok (the same text from every kind of memory)" if len(rows) > 1 else "")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"workload": "weights_in_place", "setup": machine.setup(free_bytes), "rows": rows}, file, indent=1)
    return serve.EXIT_OK


def main(arguments=None):
    options = parse_arguments(arguments)
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
