#!/usr/bin/env python3
"""A small text-generation server whose KV cache lives in CUDA managed memory: something real to trace.

    LD_PRELOAD=libuvmtrace.so python serve.py --requests 16
    uvmtrace-report trace.pb

Needs PyTorch 2.5 or later and an NVIDIA GPU, and nothing else: the weights are random and nothing is downloaded.
With --requests it asks itself that many questions over HTTP and ends; without, it serves until it is interrupted.
"""

import argparse
import hashlib
import http.client
import json
import os
import signal
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import http_api  # noqa: E402  (beside this file)
import limits  # noqa: E402

EXIT_OK, EXIT_FAILED, EXIT_REFUSED = 0, 1, 2
SESSIONS = 4  # conversations that take turns when the server asks itself


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(
        description="Text generation over HTTP with a KV cache in CUDA managed memory.",
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

    parser.add_argument("--requests", type=at_least(0), default=0, help="ask itself so often and end; 0: serve on")
    parser.add_argument("--port", type=at_least(0), default=0, help="on 127.0.0.1; 0 picks a free one")
    parser.add_argument("--kv-bytes", type=size, default="512MiB", help="size of the KV cache")
    parser.add_argument("--offload", choices=("none", "cpu"), default="cpu",
                        help="where a conversation's KV cache goes between its turns")
    parser.add_argument("--max-tokens", type=at_least(1), default=64, help="tokens to generate for each own request")
    parser.add_argument("--context", type=at_least(16), default=1024, help="longest conversation in tokens")
    parser.add_argument("--layers", type=at_least(1), default=8, help="of the model")
    parser.add_argument("--hidden", type=at_least(64), default=1024, help="width of the model, a multiple of 64")
    parser.add_argument("--seed", type=int, default=1, help="of weights and sampling")
    parser.add_argument("--allow-large", action="store_true", help="allow a KV cache of more than 8 GiB")
    options = parser.parse_args(arguments)
    if options.port > 65535:
        parser.error("--port: there is no port above 65535")
    if options.hidden % 64 != 0:
        parser.error("--hidden must be a multiple of 64")
    if options.max_tokens > http_api.MAX_NEW_TOKENS:
        parser.error(f"--max-tokens: the server generates at most {http_api.MAX_NEW_TOKENS} tokens for a request")
    if options.max_tokens >= options.context:
        parser.error("--max-tokens must leave room for a prompt in --context")
    return options


def require_torch():
    """The torch module, or Refused with what is missing."""
    instead = "Without one, scripts/demo shows unified memory at work on the simulator."
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
    return torch


def make_generator(torch, options, phases):
    """(generator, cache), with the limits checked before anything is allocated."""
    import generator
    import kv_cache
    import transformer

    device = 0
    dtype = torch.bfloat16
    config = transformer.Config(layers=options.layers, hidden=options.hidden, heads=options.hidden // 64)
    bytes_per_slot = options.context * config.kv_bytes_per_token(dtype.itemsize)
    torch.cuda.init()
    free_bytes, total_bytes = torch.cuda.mem_get_info(device)
    host_bytes = limits.host_available_bytes()
    limits.check_kv_bytes(options.kv_bytes, bytes_per_slot, free_bytes, host_bytes, options.allow_large)
    say(f"setup: {torch.cuda.get_device_name(device)} | PyTorch {torch.__version__} | CUDA {torch.version.cuda} | "
        f"device memory {limits.format_bytes(free_bytes)} free of {limits.format_bytes(total_bytes)} | "
        f"host memory {limits.format_bytes(host_bytes)} available")

    memory = kv_cache.ManagedMemory(kv_cache.find_or_build_allocator(), device)
    slots = options.kv_bytes // bytes_per_slot
    cache = kv_cache.KvCache(memory, config, slots, options.context, dtype)
    model = transformer.Transformer(config, f"cuda:{device}", dtype, options.seed)
    torch.cuda.synchronize()
    say(f"KV cache: {limits.format_bytes(slots * bytes_per_slot)} managed, {slots} conversations of "
        f"{options.context} tokens, between turns on the {'CPU' if options.offload == 'cpu' else 'GPU'}")
    offload = options.offload == "cpu"
    return generator.TextGenerator(model, cache, f"cuda:{device}", options.seed, offload, phases), cache


def ask(port, body):
    """One POST /generate over loopback; the answer's fields."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request("POST", "/generate", json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        fields = json.loads(response.read())
        if response.status != 200:
            raise RuntimeError(f"the server answered {response.status}: {fields.get('error')}")
        return fields
    finally:
        connection.close()


def drive(port, requests, max_tokens):
    """Asks `requests` questions, the sessions in turn, and returns the answers' text in that order."""
    texts = []
    for number in range(requests):
        session, turn = number % SESSIONS, number // SESSIONS
        prompt = f"[session {session}, turn {turn}] What does unified memory do with a page that both sides want? " * 2
        texts.append(ask(port, {"prompt": prompt, "max_tokens": max_tokens, "session": f"session-{session}"})["text"])
    return texts


def print_summary(phases, generator, texts):
    rows = phases.rows()
    total = sum(rows.values())
    say("\n| phase | seconds | share |\n|---|---:|---:|")
    for name, seconds in rows.items():
        say(f"| {name} | {seconds:.3f} | {100 * seconds / total if total else 0:.1f} % |")
    rate = generator.generated_tokens / phases.decode if phases.decode > 0 else 0
    say(f"\ntokens: {generator.prompt_tokens} read, {generator.generated_tokens} generated, "
        f"{rate:.1f} tokens/s in decode")
    say(f"offloaded: {limits.format_bytes(generator.offloaded_bytes)} of KV cache asked to move to the CPU")
    if texts is not None:
        say(f"log probability of all generated tokens: {generator.log_probability:.6f}")
        say(f"checksum: {hashlib.sha256(chr(0).join(texts).encode()).hexdigest()}")


def say(text):
    print(text, flush=True)


def interrupt(*_):
    raise KeyboardInterrupt


def serve(options):
    import_started = time.monotonic()
    torch = require_torch()
    import generator as generator_module

    phases = generator_module.Phases(started=import_started)
    generator, cache = make_generator(torch, options, phases)
    phases.load = time.monotonic() - import_started

    queue = http_api.GenerationQueue(generator)
    server = http_api.make_server(queue, options.port)
    listener = threading.Thread(target=server.serve_forever, name="http", daemon=True)
    listener.start()
    say(f"serving on http://127.0.0.1:{server.server_port}")
    texts = None
    try:
        if options.requests > 0:
            texts = drive(server.server_port, options.requests, options.max_tokens)
        else:
            listener.join()
    except KeyboardInterrupt:
        say("interrupted")
    finally:
        server.shutdown()
        server.server_close()
        queue.close()
    print_summary(phases, generator, texts)
    cache.close()
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
