#!/usr/bin/env python3
"""A text-generation server whose KV cache is larger than what the GPU shall hold of it: something real to trace.

    LD_PRELOAD=libuvmtrace.so python serve.py --requests 16
    uvmtrace-report trace.pb

Requests are decoded in a batch that they join and leave (engine.py), over HTTP, streamed if asked (http_api.py). With
--requests it asks itself that many questions (load.py), prints tokens per second and latencies, and ends; without, it
serves until it is interrupted. The weights are random and nothing is downloaded.

--model transformer needs PyTorch 2.5 or later and a GPU. --model toy needs neither: it reads and writes the KV cache as a
transformer would, checks all of it at every token, and runs on the simulator too.
"""

import argparse
import hashlib
import json
import os
import signal
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import engine as engine_module  # noqa: E402  (beside this file)
import http_api  # noqa: E402
import limits  # noqa: E402
import load  # noqa: E402
import machine  # noqa: E402

EXIT_OK, EXIT_FAILED, EXIT_REFUSED = 0, 1, 2

# What --compare runs, one after the other: where the KV cache lives, when a silent conversation leaves the GPU, and how its
# next turn brings it back.
WAYS = {"managed-faults": ("managed", "budget", "faults"), "managed-prefetch": ("managed", "budget", "prefetch"),
        "managed-stays": ("managed", "none", "faults"), "pinned": ("pinned", "budget", "faults"),
        "device": ("device", "budget", "faults")}

# What --quick takes instead of the defaults. Half of the conversations are always silent. At their third turn the caches
# of all eight, 9 MiB each, are more than twice the budget, which has room for three whole contexts.
QUICK = {"requests": 24, "clients": 4, "sessions": 8, "max_tokens": 24, "context": 640, "layers": 4,
         "kv_bytes": "256MiB", "kv_budget": "32MiB"}


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(
        description="Text generation over HTTP with a KV cache in managed, page-locked or device memory.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )

    def size(text):
        try:
            return limits.parse_bytes(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    def at_least(least):
        def whole_number(text):
            number = int(text)
            if number < least:
                raise argparse.ArgumentTypeError(f"{number} is less than {least}")
            return number

        return whole_number

    parser.add_argument("--model", choices=("transformer", "toy"), default="transformer", help="toy needs no PyTorch")
    parser.add_argument("--requests", type=at_least(0), default=0, help="ask itself so often and end; 0: serve on")
    parser.add_argument("--clients", type=at_least(1), default=1,
                        help="that ask itself at the same time; with one, the same texts come every time")
    parser.add_argument("--sessions", type=at_least(1), default=4, help="conversations that take turns")
    parser.add_argument("--batch", type=at_least(1), default=8, help="conversations that are decoded together, at most")
    parser.add_argument("--port", type=at_least(0), default=0, help="on 127.0.0.1; 0 picks a free one")
    parser.add_argument("--kv", choices=("managed", "pinned", "device"), default="managed", help="where the KV cache lives")
    parser.add_argument("--kv-bytes", type=size, default="512MiB", help="size of the KV cache; of --kv device: the budget")
    parser.add_argument("--kv-budget", "--capacity", type=size, default="32MiB", help="what the GPU shall hold of it")
    parser.add_argument("--offload", choices=("budget", "cpu", "none"), default="budget",
                        help="when a silent conversation leaves the GPU: beyond the budget, after each turn, never")
    parser.add_argument("--fetch", choices=("faults", "prefetch"), default="faults", help="how its next turn brings it back")
    parser.add_argument("--compare", action="store_true",
                        help=f"with --requests: one after the other {', '.join(WAYS)}, whatever --kv, --offload and --fetch are")
    parser.add_argument("--quick", action="store_true", help="another default: " + ", ".join(
        f"--{name.replace('_', '-')} {value}" for name, value in QUICK.items()))
    parser.add_argument("--max-tokens", type=at_least(1), default=64, help="tokens to generate for each own request")
    parser.add_argument("--context", type=at_least(16), default=1024, help="longest conversation in tokens")
    parser.add_argument("--layers", type=at_least(1), default=8, help="of the model")
    parser.add_argument("--hidden", type=at_least(64), default=1024, help="width of the model, a multiple of 64")
    parser.add_argument("--seed", type=int, default=1, help="of weights and sampling")
    parser.add_argument("--repeat", type=at_least(1), default=1, help="own loads, one after the other")
    parser.add_argument("--json", metavar="FILE", help="write the numbers of the own load there")
    parser.add_argument("--allow-oversubscription", action="store_true",
                        help="allow a KV cache larger than the free device memory: drivers are known to hang in this")
    parser.add_argument("--allow-large", action="store_true", help="allow a KV cache of more than 8 GiB")
    options = parser.parse_args(arguments)
    if options.quick:
        parser.set_defaults(**QUICK)
        options = parser.parse_args(arguments)
    if options.port > 65535:
        parser.error("--port: there is no port above 65535")
    if options.hidden % 64 != 0:
        parser.error("--hidden must be a multiple of 64")
    if options.batch > 64:
        parser.error("--batch: at most 64 conversations are decoded together")
    if options.max_tokens > http_api.MAX_NEW_TOKENS:
        parser.error(f"--max-tokens: the server generates at most {http_api.MAX_NEW_TOKENS} tokens for a request")
    if options.compare and options.requests == 0:
        parser.error("--compare needs --requests: it asks itself in each way")
    if options.max_tokens >= options.context:
        parser.error("--max-tokens must leave room for a prompt in --context")
    return options


def require_torch():
    """The torch module, or Refused with what is missing."""
    start = time.monotonic()
    instead = "Without one, --model toy runs, on the simulator too, and scripts/demo shows unified memory at work there."
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts: the same sums every time
    try:
        import torch
    except ImportError as error:
        raise limits.Refused(
            f"PyTorch cannot be imported ({error}); install torch 2.5 or later on a machine with an NVIDIA GPU. "
            f"{instead}"
        ) from error
    if not torch.cuda.is_available():
        raise limits.Refused(f"PyTorch {torch.__version__} sees no NVIDIA GPU. {instead}")
    if not hasattr(torch.cuda, "MemPool") or not hasattr(torch.cuda, "use_mem_pool"):
        raise limits.Refused(f"PyTorch {torch.__version__} has no torch.cuda.MemPool; install 2.5 or later")
    torch.cuda.init()
    # cuDNN's attention builds a plan for each length that it has not seen, in tens of milliseconds, and caches grow by a token a
    # step: what runs first would pay for what runs after it. vLLM switches it off too.
    torch.backends.cuda.enable_cudnn_sdp(False)
    say(f"PyTorch: imported and initialised in {time.monotonic() - start:.1f} s")
    return torch


def slots_of(options, bytes_per_token, free_bytes):
    """Conversations that the KV cache holds, with the limits checked before anything is allocated."""
    kv_bytes = options.kv_budget if options.kv == "device" else options.kv_bytes
    bytes_per_slot = options.context * bytes_per_token
    if options.allow_oversubscription:
        free_bytes = max(free_bytes, kv_bytes)
    limits.check_kv_bytes(kv_bytes, bytes_per_slot, free_bytes, limits.host_available_bytes(), options.allow_large)
    slots = kv_bytes // bytes_per_slot
    say(f"KV cache: {limits.format_bytes(slots * bytes_per_slot)} {options.kv}, {slots} conversations of {options.context} "
        f"tokens, the GPU shall hold {limits.format_bytes(options.kv_budget)}; silent ones leave it: {options.offload}")
    return slots


def make_transformer(options):
    torch = require_torch()
    import torch_backend
    import transformer

    config = transformer.Config(layers=options.layers, hidden=options.hidden, heads=options.hidden // 64)
    free_bytes, total_bytes = torch.cuda.mem_get_info(0)
    say(f"setup: {torch.cuda.get_device_name(0)} | PyTorch {torch.__version__} | CUDA {torch.version.cuda} | "
        f"device memory {limits.format_bytes(free_bytes)} free of {limits.format_bytes(total_bytes)}")
    slots = slots_of(options, config.kv_bytes_per_token(2), free_bytes)
    return torch_backend.TorchBackend(options.kv, slots, options.context, config, options.seed), machine.setup(free_bytes)


def make_toy(options):
    import toy_backend

    free_bytes = toy_backend.device_free_bytes()
    say(f"setup: a model without PyTorch | device memory {limits.format_bytes(free_bytes)} free")
    bytes_per_token = 2 * options.layers * options.hidden * 2
    slots = slots_of(options, bytes_per_token, free_bytes)
    backend = toy_backend.ToyBackend(options.kv, slots, options.context, bytes_per_token, options.seed)
    return backend, machine.setup(free_bytes)


def print_summary(phases, engine, backend, runs):
    rows = phases.rows()
    total = sum(rows.values())
    say("\n| phase | seconds | share |\n|---|---:|---:|")
    for name, seconds in rows.items():
        say(f"| {name} | {seconds:.3f} | {100 * seconds / total if total else 0:.1f} % |")
    say(f"\ntokens: {engine.prompt_tokens} read, {engine.recomputed_tokens} read again, {engine.generated_tokens} generated "
        f"in {engine.steps} decode steps, {engine.generated_tokens / max(phases.prefill + phases.decode, 1e-9):.1f} tokens/s "
        f"of GPU time")
    say(f"offloaded: {limits.format_bytes(engine.offloaded_bytes)} of KV cache asked to move to the CPU")
    if not runs:
        return
    say("\n| load | value |\n|---|---:|")
    for name, value in load.summary(*runs[-1]).items():
        say(f"| {name} | {value:.4g} |" if isinstance(value, float) else f"| {name} | {value} |")
    if hasattr(backend, "log_probability"):
        say(f"\nlog probability of all generated tokens: {backend.log_probability:.6f}")
    texts = [answer.text for answers, _ in runs for answer in answers]
    say(f"checksum: {hashlib.sha256(chr(0).join(texts).encode()).hexdigest()}")


def rows_of(way, options, phases, engine, runs):
    """A row for each repetition; the last one has what the engine counted in all of them."""
    rows = []
    for repetition, (answers, seconds) in enumerate(runs):
        rows.append({"way": way, "kv": options.kv, "offload": options.offload, "fetch": options.fetch,
                     "clients": options.clients, "batch": options.batch, "managed": options.kv == "managed",
                     "repetition": repetition, **load.summary(answers, seconds)})
    if rows:
        rows[-1].update(offloaded_bytes=engine.offloaded_bytes, recomputed_tokens=engine.recomputed_tokens,
                        decode_steps=engine.steps, **{f"{name}_seconds": value for name, value in phases.rows().items()})
    return rows


def say(text):
    print(text, flush=True)


def interrupt(*_):
    raise KeyboardInterrupt


def serve_one_way(way, options):
    """(setup, rows): serves until the own load is over, or for ever."""
    phases = engine_module.Phases()
    backend, setup = make_toy(options) if options.model == "toy" else make_transformer(options)
    phases.load = time.monotonic() - phases.started

    engine = engine_module.Engine(backend, phases, options.batch, options.kv_budget, options.offload, options.fetch)
    server = http_api.make_server(engine, options.port)
    listener = threading.Thread(target=server.serve_forever, name="http", daemon=True)
    listener.start()
    say(f"serving on http://127.0.0.1:{server.server_port}")
    runs = []
    try:
        if options.requests > 0:
            for _ in range(options.repeat):
                runs.append(load.drive(server.server_port, options.requests, options.max_tokens, options.clients,
                                       options.sessions))
        else:
            listener.join()
    except KeyboardInterrupt:
        say("interrupted")
    finally:
        server.shutdown()
        server.server_close()
        engine.close()
    print_summary(phases, engine, backend, runs)
    rows = rows_of(way, options, phases, engine, runs)
    backend.close()
    return setup, rows


def write_json(options, setup, rows):
    if not options.json or not rows:
        return
    unfinished = f"{options.json}.unfinished"
    with open(unfinished, "w", encoding="utf-8") as file:
        json.dump({"workload": "serve", "model": options.model, "setup": setup, "rows": rows}, file, indent=1)
    os.replace(unfinished, options.json)


def serve(options):
    if options.compare:
        ways = {way: argparse.Namespace(**{**vars(options), "kv": kv, "offload": offload, "fetch": fetch})
                for way, (kv, offload, fetch) in WAYS.items()}
        if options.model == "transformer":
            require_torch()  # the first way's load must not have it
    else:
        ways = {options.kv: options}
    setup, rows = None, []
    for way, with_way in ways.items():
        if options.compare:
            say(f"\n## {way}\n")
        start = time.monotonic()
        setup, more = serve_one_way(way, with_way)
        rows += more
        if options.compare:
            say(f"\n{way}: {time.monotonic() - start:.1f} s")
        write_json(options, setup, rows)  # whatever becomes of the ways after this one
    return EXIT_OK


def main(arguments=None):
    options = parse_arguments(arguments)
    signal.signal(signal.SIGTERM, interrupt)
    try:
        return serve(options)
    except limits.Refused as error:
        print(f"serve.py: refused: {error}", file=sys.stderr)
        return EXIT_REFUSED
    except Exception as error:
        print(f"serve.py: failed: {type(error).__name__}: {error}", file=sys.stderr)
        return EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
