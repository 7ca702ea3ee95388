"""One page for each experiment: runs it, and lays our table beside the document's.

A page is a function (runner, scale, traced) -> (Markdown lines, {file name: SVG}). `scale` is "ci" (seconds, on the
simulator) or "gpu" (a GPU in capacity: the example itself evicts, managed memory stays at 8 GiB). The longer ones have a
file of their own.
"""

import documents
import plot
import running
from layout import TRACED_COLUMNS, ratio, table, traced_row
from page_oversub import oversub
from page_serve import serve


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
            traced_row(runner, "kv_fragmentation", [*arguments, "--backend", row["backend"]],
                       f"kv fragmentation {row['backend']}", row["backend"]) for row in summaries])]
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
                       row["in_place_bytes"], *extra.get(variant, [None] * 5)])
    lines += table(("variant", "what", "seconds a pass", "range", "weights GB/s", "share of link", "to the GPU", "to the host",
                    "read in place", *TRACED_COLUMNS[1:]), result)
    return lines, {"offload.svg": plot.bars("offload: seconds a forward pass",
                                            [(row[0], [("seconds", row[2])]) for row in result], "s")}


# --- blocks that come and go -----------------------------------------------------------------------------------------

def shortest_step(designs):
    """Which of (median, design, smallest, largest) wins. A design whose range reaches into the winner's is no worse."""
    _, _, _, best = min(designs)
    winners = [design for _, design, low, _ in designs if low <= best * 1.001]
    return f"{winners[0]} has the shortest median step" if len(winners) == 1 else (
        f"{', '.join(winners[:-1])} and {winners[-1]} have the shortest median step, and cannot be told apart")


def remap(runner, scale, traced):
    lines = ["# kv_remap: offset table, virtual memory calls, unified memory", "",
             "The thread's two positions have no numbers. Ours, the same schedule for each design:"]
    plots = []
    sizes = ("64KiB", "2MiB") if scale == "ci" else ("256KiB", "2MiB", "8MiB")
    small = ["--blocks", 20, "--slots", 8, "--window", 3, "--fresh", 1, "--steps", 24] if scale == "ci" else [
        "--blocks", 64, "--slots", 32, "--window", 12, "--steps", 100]
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
                low, high = of_design[0]["step p50 [us]"], of_design[-1]["step p50 [us]"]
                result.append([design, row["step p50 [us]"], f"{low:.4g}..{high:.4g}" if len(of_design) > 1 else None,
                               *(row[name] for name in ("step p99 [us]", "step max [us]", "gap p50 [us]", "gap p99 [us]",
                                                        "host p50 [us]", "host p99 [us]", "us per call", "host waits",
                                                        "host_to_device_bytes", "device_to_host_bytes"))])
                designs.append((row["step p50 [us]"], design, low, high))
            plots.append((label, [(design, us) for us, design, _, _ in designs]))
            if designs:
                lines += ["", f"## Blocks of {label} reuse: {shortest_step(designs)}"]
            lines += table(("design", "step p50 [us]", "range", "step p99", "step max", "gap p50 [us]", "gap p99",
                            "host p50 [us]", "host p99", "us per call", "host waits", "to the GPU", "to the host"), result)
    if traced:
        designs = ("table", "table-ahead", "table-defrag", "vmm-inline", "vmm-background", "uvm-prefetch")
        lines += ["## What the tracer says", *table(TRACED_COLUMNS, [
            traced_row(runner, "kv_remap", [*small, "--design", design], f"kv remap {design}", design)
            for design in designs])]
    return lines, {"kv_remap.svg": plot.bars("kv_remap: median step", plots, "us")}


PAGES = {"oversub": oversub, "kv-fragmentation": fragmentation, "paged-attention": paged, "offload": offload,
         "kv-remap": remap, "serve": serve}
