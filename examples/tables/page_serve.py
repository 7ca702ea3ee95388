"""The server's page: batched decoding with a KV cache larger than its budget, and vLLM's zero-copy weights."""

import importlib.util

import plot
import running
from layout import TRACED_COLUMNS, table, traced_row

SERVE_WAYS = {"managed-faults": "managed, faults", "managed-prefetch": "managed, prefetch",
              "managed-stays": "managed, never leaves", "pinned": "pinned, in place", "device": "device, read again"}
SERVE_NUMBERS = ("tokens_per_second", "first_token_p50_ms", "first_token_p99_ms", "token_gap_p50_ms", "token_gap_p99_ms",
                 "answer_p99_ms", "offloaded_bytes", "recomputed_tokens", "load_seconds", "prefill_seconds", "decode_seconds")
WEIGHT_NUMBERS = ("weight_bytes", "tokens_per_second", "weights GB/s", "first_token_seconds", "load_seconds")


def serve(runner, scale, traced):
    has_torch = importlib.util.find_spec("torch") is not None and scale == "gpu"
    if scale == "ci":
        size = ["--model", "toy", "--quick", "--layers", 2, "--hidden", 64, "--kv-bytes", "8MiB", "--kv-budget", "1MiB"]
    else:
        size = ["--model", "transformer" if has_torch else "toy", "--quick"]
    lines = ["# serve: batched decoding, a KV cache larger than its budget", "",
             "The model is " + ("a transformer with random weights." if has_torch else
                                "the toy without PyTorch, which checks its whole KV cache at every token."), ""]
    try:
        rows = runner.run("serve.py", [*size, "--compare"], "serve")
    except running.Failed as failed:
        rows = failed.rows
        lines += [f"failed: {failed}", ""]
    rows = {row["way"]: row for row in rows}
    lines += table(("KV cache", *SERVE_NUMBERS),
                   [[label, *(rows.get(way, {}).get(name) for name in SERVE_NUMBERS)] for way, label in SERVE_WAYS.items()])
    lines += ["## vLLM's zero-copy weights (issue #17062)", *weights_in_place(runner, has_torch)]
    if traced:
        traces = []
        for way, label in SERVE_WAYS.items():
            if scale == "ci" or way == "managed-faults":  # importing PyTorch takes longer than the rest
                traces.append(traced_row(runner, "serve.py", [*size, *SERVE_ARGUMENTS[way]], f"serve {way}", label, False))
        for kind in ("zero-copy", "managed") if has_torch else ():
            traces.append(traced_row(runner, "weights_in_place.py", ["--weights", kind, "--quick"], f"weights {kind}",
                                     f"weights {kind}", False))
        lines += ["## What the tracer says", *table(TRACED_COLUMNS, traces)]
    return lines, {"serve.svg": plot.bars("serve: tokens per second", [
        (SERVE_WAYS[way], [("tokens/s", row["tokens_per_second"])]) for way, row in rows.items()], "tokens/s")}


SERVE_ARGUMENTS = {"managed-faults": ["--kv", "managed", "--fetch", "faults"],
                   "managed-prefetch": ["--kv", "managed", "--fetch", "prefetch"],
                   "managed-stays": ["--kv", "managed", "--offload", "none"], "pinned": ["--kv", "pinned"],
                   "device": ["--kv", "device"]}


def weights_in_place(runner, has_torch):
    if not has_torch:
        return ["", "Not run here, because it needs PyTorch and a GPU:", "", "    weights_in_place.py --quick"]
    try:
        rows = runner.run("weights_in_place.py", ["--quick"], "weights")
    except running.Failed as failed:
        return ["", f"failed: {failed}"]
    return table(("weights", *WEIGHT_NUMBERS), [[row["weights"], *(row[name] for name in WEIGHT_NUMBERS)] for row in rows])
