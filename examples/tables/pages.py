"""One page for each experiment: runs it, and lays our table beside the document's.

A page is a function (runner, scale, traced) -> (Markdown lines, {file name: SVG}). `scale` is "ci" (seconds, on the
simulator) or "gpu" (a GPU in capacity: the example itself evicts, managed memory stays at 8 GiB).
"""

import importlib.util

import documents
import plot
import running

GIB = 1 << 30
BLOG_MODES = ("manual", "pinned", "uvm", "prefetch")
NEW_MODES = ("pinned-ahead", "prefetch-ahead", "read-mostly", "read-mostly-prefetch", "prefer-host",
             "prefer-host-prefetch", "prefer-gpu", "prefer-gpu-prefetch")


def cell(value, digits=4):
    if value is None:
        return "-"
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


def table(columns, rows):
    lines = ["", "| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return lines + ["| " + " | ".join(cell(value) for value in row) + " |" for row in rows] + [""]


def ratio(ours, theirs):
    return ours / theirs if ours and theirs else None


def traced_row(runner, name, arguments, label, key):
    """What the tracer says of one variant: (label, faults, BH seconds, bytes equal?, finding) as cells."""
    try:
        rows, report = runner.trace(name, arguments, f"{label} traced")
    except running.Failed as failed:
        return [key, "-", "-", f"failed: {failed}", "-"]
    equal, words = running.compare_bytes(rows, report)
    if not equal:
        runner.failures.append(f"{label}: {words}")
    return [key, running.faults(report), running.bh_seconds(report), words, running.first_finding(report)]


TRACED_COLUMNS = ("run", "fault entries", "BH thread [s]", "traced bytes and the example's own ledger", "first finding")


# --- the (m, k) experiment ------------------------------------------------------------------------------------------

def oversub_arguments(scale, m, k):
    """In capacity. Chunks are 2 MiB at least, so k = 1024 needs 2 GiB; on the simulator m and k are scaled down."""
    if scale == "ci":
        factor = 1 if k == 4 else k // 8  # 80, 40 becomes 16, 8
        return ["-m", m // factor, "-k", k // factor, "--capacity", "16MiB"]
    return ["-m", m, "-k", k, "--capacity", {4: "256MiB", 40: "640MiB", 1024: "2GiB"}[k]]


def oversub(runner, scale, traced):
    lines = ["# oversub: m chunks, room for k", "",
             "The blog's chunks filled 80 GB of an A100; ours fill what `--capacity` says, and the example itself evicts, so",
             "that the GPU is never oversubscribed. `scaled` is what our rate would take for the blog's bytes.", ""]
    plots = []
    comparisons = []
    traces = []
    for (m, k), columns in documents.BLOG.items():
        pair = f"m {m}, k {k}"
        arguments = oversub_arguments(scale, m, k)
        repeat = 5 if scale == "gpu" and (m, k) == (8, 4) else 1
        modes = BLOG_MODES + (NEW_MODES if (m, k) == (8, 4) else () if k == 1024 else ("pinned-ahead", "prefetch-ahead"))
        try:
            rows = runner.run("oversub", [*arguments, "--mode", ",".join(modes), "--repeat", repeat], f"oversub {pair}")
        except running.Failed as failed:
            lines += [f"{pair}: {failed}", ""]
            continue
        values = []
        for mode in modes:
            of_mode = [row for row in rows if row["mode"] == mode]
            # The median run by its total, whole: the phases of one run belong together.
            row = sorted(of_mode, key=lambda each: each["total_seconds"])[len(of_mode) // 2]
            totals = [each["total_seconds"] for each in of_mode]
            scaling = documents.BLOG_BYTES / (row["chunk_bytes"] * row["k"])
            published = columns.get(mode, (None,) * 4)
            for phase, theirs in zip(documents.BLOG_PHASES, published):
                ours = row.get(phase)
                comparisons.append([pair, mode, phase.replace("_seconds", "").replace("_", " "), theirs, ours,
                                    ours and ours * scaling, ratio(ours and ours * scaling, theirs),
                                    f"{min(totals):.4g}..{max(totals):.4g}" if len(totals) > 1 and phase == "total_seconds"
                                    else None])
            values.append((mode, row["total_seconds"]))
            if traced and (mode in ("uvm", "prefetch") or ((m, k) == (8, 4) and mode != "manual")):
                traces.append(traced_row(runner, "oversub", [*arguments, "--mode", mode], f"oversub {pair} {mode}",
                                         f"{pair}, {mode}"))
        plots.append((pair, values))
        pinned = dict(values).get("pinned")
        lines.append(f"{pair}, total of each mode over pinned: " +
                     ", ".join(f"{mode} {value / pinned:.2f}" for mode, value in values) + ".")
    lines += table(("row", "mode", "phase", "document [s]", "ours [s]", "ours scaled [s]", "scaled / document",
                    "range of the total"), comparisons)
    lines += oversub_side_questions(runner, scale)
    if traced:
        lines += ["## What the tracer says", *table(TRACED_COLUMNS, traces)]
    lines += ["## Not run here", "",
              "Driver-chosen eviction on hardware, which the blog measured, needs managed memory beyond what the GPU has; "
              "drivers are known to hang in it. On a machine of your own:", ""]
    lines += [f"    oversub --mode {mode} -m {m} -k {k} --allow-oversubscription" for m, k in documents.BLOG
              for mode in ("uvm", "prefetch")]
    return lines, {"oversub.svg": plot.bars("oversub: total of both cycles", plots, "s")}


def oversub_side_questions(runner, scale):
    """Patterns, read-only, and the blog's three remarks: a visible device, a pinned core, -O3."""
    size = ["-m", 8, "-k", 4, "--capacity", "16MiB" if scale == "ci" else "256MiB"]
    cases = [("uvm", f"pattern {pattern}", ["--mode", "uvm", "--pattern", pattern], {})
             for pattern in ("sequential", "strided", "random", "ping-pong")]
    cases += [(mode, "read only", ["--mode", mode, "--readonly"], {}) for mode in ("manual", "uvm", "prefetch", "read-mostly")]
    for name, variables in (("no device chosen", {}), ("CUDA_VISIBLE_DEVICES=0", {"CUDA_VISIBLE_DEVICES": "0"})):
        for affinity in ("none", "near", "away"):
            cases.append(("manual", f"{name}, affinity {affinity}", ["--mode", "manual", "--affinity", affinity], variables))
        cases.append(("pinned", f"{name}, page-locked memory", ["--mode", "pinned"], variables))
    for code in ("O0", "O3"):
        cases.append(("manual", f"host code -{code}, first touch in the prefill",
                      ["--mode", "manual", "--init", "prefill", "--host-code", code], {}))
    rows = []
    for mode, label, arguments, variables in cases:
        try:
            row = runner.run("oversub", [*size, *arguments], f"oversub {mode} {label}", variables)[0]
            rows.append([label, mode, row["prefill_seconds"], row["first_cycle_seconds"], row.get("second_cycle_seconds"),
                         row["total_seconds"], row["host_to_device_bytes"], row["device_to_host_bytes"]])
        except running.Failed as failed:
            rows.append([label, mode, str(failed)] + [None] * 5)
    return ["## Patterns, clean chunks, and the blog's remarks", "",
            "A visible device changes which GPU is device 0 and so which socket it hangs on; pageable copies are made by the "
            "host's thread, so they depend on where that thread and its buffers are. Page-locked copies do not. With `-O0` "
            "the host's own loops are slower, and they stand in the blog's prefill.",
            *table(("case", "mode", "prefill [s]", "1st cycle [s]", "2nd cycle [s]", "total [s]", "to the GPU", "to the host"),
                   rows)]


# --- KV caches that grow: the blog's empty results section -----------------------------------------------------------

def fragmentation(runner, scale, traced):
    lines = ["# kv_fragmentation: the sum of the KV caches against the memory that is taken", "",
             "The document's results section is empty. Ours:"]
    arguments = [] if scale == "ci" else ["-k", 64, "--cycles", 100]
    rows = runner.run("kv_fragmentation", arguments, "kv fragmentation")
    summaries = [row for row in rows if row["kind"] == "summary"]
    names = ("theoretical", "allocated", "internal", "external", "reservation")
    lines += table(("way to allocate", "allocated / theoretical", *(f"{name} [MiB]" for name in names), "grow p50 [us]",
                    "grow p99 [us]", "calls"),
                   [[row["backend"], row["allocated / theoretical"], *(row[f"mean MiB {name}_bytes"] for name in names),
                     row["grow p50 [us]"], row["grow p99 [us]"], row["calls"]] for row in summaries])
    curves = {}
    for row in rows:
        if row["kind"] == "curve":
            curves.setdefault(row["backend"], []).append((row["cycle"], row["allocated_bytes"] / (1 << 20)))
    first = summaries[0]["backend"]
    curves["theoretical"] = [(row["cycle"], row["theoretical_bytes"] / (1 << 20)) for row in rows
                             if row["kind"] == "curve" and row["backend"] == first]
    if traced:
        lines += ["## What the tracer says", *table(TRACED_COLUMNS, [
            traced_row(runner, "kv_fragmentation", [*arguments, "--backend", name], f"kv fragmentation {name}", name)
            for name in ("malloc", "managed", "paged-16", "vmm")])]
    return lines, {"kv_fragmentation.svg": plot.lines("Memory taken by the KV caches", curves, "cycle", "MiB")}


# --- paged attention -------------------------------------------------------------------------------------------------

def paged(runner, scale, traced):
    lines = ["# paged_attention: the vLLM log, and its confounders apart", "",
             "The log names no GPU, and its kernel reads each KV head eight times where ours reads it once: compare ratios "
             "between columns, not microseconds."]
    shape = ["--seq", 128, "--kv-heads", 1, "--iterations", 1] if scale == "ci" else []
    blocks = ",".join(str(block) for block in documents.BLOCKS)
    ours = {}
    for title, how, _ in documents.LOG:
        arguments = ["--memory", how["memory"], "--mode", how["mode"], "--block", blocks,
                     "--batch", 2 if scale == "ci" else how["batch"], *(shape or ["--seq", how["seq"]])]
        try:
            ours[title] = {row["block"]: row.get("us") for row in runner.run("paged_attention", arguments, f"paged {title}")}
        except running.Failed as failed:
            lines.append(f"\n{title}: {failed}")
    rows = []
    for index, block in enumerate(documents.BLOCKS):
        for title, _, published in documents.LOG:
            us = ours.get(title, {}).get(block)
            rows.append([title, block, published[index], us, ratio(us, published[index])])
    lines += ["## The log's tables", *table(("column", "block", "document [us]", "ours [us]", "ours / document"), rows)]
    plots = [(title, [(f"block {block}", us) for block, us in by_block.items()]) for title, by_block in ours.items()]

    lines += ["## One cause at a time", "",
              "Table: lookup-identity against direct. Scatter: lookup against lookup-identity. Data: direct against "
              "no-offset. Managed memory: managed against device. `lookup-vllm` has the log's 1024 blocks (its working set) "
              "and its load width."]
    for batch, seq in ((1, 1024), (1, 4096), (16, 4096), (32, 4096), (1024, 1024)):
        if scale == "ci":
            batch, seq = min(batch, 2), 128
        memories = ("device",) if batch == 1024 else ("device", "managed", "managed-faulting", "pinned")
        arguments = ["--batch", batch, "--seq", seq, "--memory", ",".join(memories), "--block", "16" if batch > 1 else "1,16",
                     "--iterations", 1 if scale == "ci" else 5]
        try:
            rows = runner.run("paged_attention", [*arguments, *(shape[2:4] if shape else [])],
                              f"paged causes batch {batch} seq {seq}")
        except running.Failed as failed:
            lines.append(f"\nbatch {batch}, {seq} tokens: {failed}")
            continue
        lines += [f"", f"batch {batch}, {seq} tokens", *table(
            ("memory", "mode", "block", "us", "GB/s", "of device bandwidth", "working set", "fits L2", "load bytes",
             "relative error"),
            [[row["memory"], row["mode"], row["block"], row.get("us", row.get("skipped")), row.get("GB/s"),
              row.get("of device bandwidth"), row.get("working set bytes"), row.get("fits L2"), row.get("load bytes"),
              row.get("relative error")] for row in rows])]
    if traced:
        # Whole 2 MiB blocks, so that the ledger knows what page faults bring.
        size = ["--seq", 1024, "--iterations", 1] if scale == "ci" else ["--seq", 4096, "--batch", 4]
        lines += ["## What the tracer says", *table(TRACED_COLUMNS, [
            traced_row(runner, "paged_attention", ["--memory", memory, "--mode", "lookup", "--block", 16, *size],
                       f"paged {memory}", memory) for memory in ("device", "managed", "managed-faulting", "pinned")])]
    return lines, {"paged_attention.svg": plot.bars("paged_attention: the log's columns, ours", plots, "us")}


# --- weights in host memory ------------------------------------------------------------------------------------------

OFFLOAD_VARIANTS = ("resident", "zero-copy", "on-demand", "prefetch", "read-mostly", "in-place", "double-buffer")


def offload(runner, scale, traced):
    lines = ["# offload: weights in host memory", "",
             "vLLM issue #17062 asks why page-locked memory and not unified memory, and shows no numbers. Ours:"]
    size = ["--layers", 4] if scale == "ci" else ["--layers", 8, "--layer-bytes", "128MiB"]
    rows = runner.run("offload", [*size, "--repeat", 1 if scale == "ci" else 3], "offload")
    extra = {}
    if traced:
        for variant in OFFLOAD_VARIANTS:
            extra[variant] = traced_row(runner, "offload", [*size, "--variant", variant], f"offload {variant}", variant)[1:]
    result = []
    for variant in OFFLOAD_VARIANTS:
        of_variant = sorted((row for row in rows if row["variant"] == variant), key=lambda row: row["pass_seconds"])
        row = of_variant[len(of_variant) // 2]
        result.append([variant, row["what"], row["pass_seconds"],
                       f"{of_variant[0]['pass_seconds']:.4g}..{of_variant[-1]['pass_seconds']:.4g}",
                       row["weights GB/s"], row["share of link"], row["host_to_device_bytes"], row["device_to_host_bytes"],
                       row["in_place_bytes"], *extra.get(variant, [None] * 4)])
    lines += table(("variant", "what", "seconds a pass", "range", "weights GB/s", "share of link", "to the GPU", "to the host",
                    "read in place", *TRACED_COLUMNS[1:]), result)
    return lines, {"offload.svg": plot.bars("offload: seconds a forward pass",
                                            [(row[0], [("seconds", row[2])]) for row in result], "s")}


# --- blocks that come and go -----------------------------------------------------------------------------------------

def remap(runner, scale, traced):
    lines = ["# kv_remap: offset table, virtual memory calls, unified memory", "",
             "The thread's two positions have no numbers. Ours, the same schedule for each design:"]
    plots = []
    sizes = ("64KiB", "2MiB") if scale == "ci" else ("256KiB", "2MiB", "8MiB")
    small = ["--blocks", 20, "--slots", 8, "--window", 3, "--fresh", 1, "--steps", 24] if scale == "ci" else [
        "--blocks", 64, "--slots", 32, "--window", 12, "--steps", 150]
    for size in sizes:
        for reuse in ("cyclic", "zipf"):
            label = f"{size}, {reuse}"
            try:
                rows = runner.run("kv_remap", [*small, "--block-bytes", size, "--reuse", reuse,
                                               "--repeat", 1 if scale == "ci" else 3], f"kv remap {label}")
            except running.Failed as failed:
                lines += ["", f"{label}: {failed}"]
                continue
            result = []
            designs = []
            for design in dict.fromkeys(row["design"] for row in rows):
                of_design = [row for row in rows if row["design"] == design]
                if "skipped" in of_design[0]:
                    result.append([design, of_design[0]["skipped"]] + [None] * 11)
                    continue
                of_design.sort(key=lambda row: row["step p50 [us]"])
                row = of_design[len(of_design) // 2]
                result.append([design, row["step p50 [us]"],
                               f"{of_design[0]['step p50 [us]']:.4g}..{of_design[-1]['step p50 [us]']:.4g}",
                               *(row[name] for name in ("step p99 [us]", "step max [us]", "gap p50 [us]", "gap p99 [us]",
                                                        "host p50 [us]", "host p99 [us]", "us per call", "host waits",
                                                        "host_to_device_bytes", "device_to_host_bytes"))])
                designs.append((row["step p50 [us]"], design))
            plots.append((label, [(design, us) for us, design in designs]))
            if designs:
                lines += ["", f"## Blocks of {label} reuse: {min(designs)[1]} has the shortest median step"]
            lines += table(("design", "step p50 [us]", "range", "step p99", "step max", "gap p50 [us]", "gap p99",
                            "host p50 [us]", "host p99", "us per call", "host waits", "to the GPU", "to the host"), result)
    if traced:
        designs = ("table", "table-ahead", "table-defrag", "vmm-inline", "vmm-background", "uvm-prefetch")
        lines += ["## What the tracer says", *table(TRACED_COLUMNS, [
            traced_row(runner, "kv_remap", [*small, "--design", design], f"kv remap {design}", design)
            for design in designs])]
    return lines, {"kv_remap.svg": plot.bars("kv_remap: median step", plots, "us")}


# --- a server whose KV cache is larger than its budget ---------------------------------------------------------------

SERVE_CASES = (("managed, faults", ["--kv", "managed", "--fetch", "faults"]),
               ("pinned, in place", ["--kv", "pinned"]), ("device, read again", ["--kv", "device"]),
               ("managed, prefetch", ["--kv", "managed", "--fetch", "prefetch"]),
               ("managed, never leaves", ["--kv", "managed", "--offload", "none"]))
SERVE_NUMBERS = ("tokens_per_second", "first_token_p50_ms", "first_token_p99_ms", "token_gap_p50_ms", "token_gap_p99_ms",
                 "answer_p99_ms", "offloaded_bytes", "recomputed_tokens", "load_seconds", "prefill_seconds", "decode_seconds")


def serve(runner, scale, traced):
    has_torch = importlib.util.find_spec("torch") is not None and scale == "gpu"
    size = ["--requests", 64, "--clients", 8, "--sessions", 16, "--kv-budget", "96MiB", "--kv-bytes", "1GiB"]
    if not has_torch:
        size += ["--model", "toy"]
    if scale == "ci":
        size = ["--model", "toy", "--requests", 16, "--clients", 4, "--layers", 2, "--hidden", 64, "--context", 512,
                "--kv-bytes", "8MiB", "--kv-budget", "512KiB", "--max-tokens", 16]
    lines = ["# serve: batched decoding, a KV cache larger than its budget", "",
             "The model is " + ("a transformer with random weights." if has_torch else
                                "the toy without PyTorch, which checks its whole KV cache at every token."), ""]
    rows = []
    traces = []
    plots = []
    for label, arguments in SERVE_CASES:
        try:
            row = runner.run("serve.py", [*size, *arguments], f"serve {label}")[-1]
            rows.append([label, *(row.get(name) for name in SERVE_NUMBERS)])
            plots.append((label, [("tokens/s", row["tokens_per_second"])]))
            if traced and (scale == "ci" or label == "managed, faults"):  # importing PyTorch takes longer than the rest
                _, report = runner.trace("serve.py", [*size, *arguments], f"serve {label} traced")
                totals = report.get("totals", {})
                traces.append([label, running.faults(report), running.bh_seconds(report),
                               f"to the GPU {totals.get('host_to_device_bytes', 0)}; to the host "
                               f"{totals.get('device_to_host_bytes', 0)}", running.first_finding(report)])
        except running.Failed as failed:
            rows.append([label, str(failed)] + [None] * (len(SERVE_NUMBERS) - 1))
    lines += table(("KV cache", *SERVE_NUMBERS), rows)
    lines += ["## vLLM's zero-copy weights (issue #17062)"]
    if not has_torch:
        lines += ["", "Not run here, because it needs PyTorch and a GPU:", "",
                  *(f"    weights_in_place.py --weights {kind}" for kind in ("zero-copy", "managed", "device"))]
    else:
        columns = ("weights", "weight_bytes", "tokens_per_second", "weights GB/s", "load_seconds", "checksum")
        rows = []
        for kind in ("zero-copy", "managed", "device"):
            try:
                row = runner.run("weights_in_place.py", ["--weights", kind], f"weights {kind}")[0]
                rows.append([str(row[name])[:12] if name == "checksum" else row[name] for name in columns])
                if traced and kind != "device":
                    _, report = runner.trace("weights_in_place.py", ["--weights", kind], f"weights {kind} traced")
                    traces.append([f"weights {kind}", running.faults(report), running.bh_seconds(report), "-",
                                   running.first_finding(report)])
            except running.Failed as failed:
                rows.append([kind, str(failed)] + [None] * 4)
        lines += table(columns, rows)
    if traced:
        lines += ["## What the tracer says", *table(("run", "fault entries", "BH thread [s]", "traced bytes", "first finding"),
                                                   traces)]
    return lines, {"serve.svg": plot.bars("serve: tokens per second", plots, "tokens/s")}


PAGES = {"oversub": oversub, "kv-fragmentation": fragmentation, "paged-attention": paged, "offload": offload,
         "kv-remap": remap, "serve": serve}
