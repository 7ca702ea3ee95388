"""The page of the (m, k) experiment: the blog's table, its empty "Advise" column, its remarks, and what the tracer says.

Where time is short, what runs last is left out, and the page says so: the largest k, whose rows take longest, and before
that the patterns and the remarks.
"""

import documents
import plot
import running
from layout import TRACED_COLUMNS, ratio, table, traced_row

BLOG_MODES = ("manual", "pinned", "uvm", "prefetch")
AHEAD_MODES = ("pinned-ahead", "prefetch-ahead")
ADVICE_MODES = ("read-mostly", "read-mostly-prefetch", "prefer-host", "prefer-host-prefetch", "prefer-gpu",
                "prefer-gpu-prefetch")
REPEATED_K = 40  # up to it each mode runs five times on hardware, in turn
LARGE_K_SECONDS = 40  # what one pair above it may take there: no run is begun that could not end


def size_of(scale, m, k):
    """In capacity. Chunks are 2 MiB at least, so k = 1024 needs 2 GiB; on the simulator m and k are scaled down."""
    if scale == "ci":
        factor = 1 if k == 4 else k // 8  # 80, 40 becomes 16, 8
        return ["-m", m // factor, "-k", k // factor, "--capacity", "16MiB"]
    return ["-m", m, "-k", k, "--capacity", {4: "128MiB", 40: "240MiB", 1024: "2GiB"}[k]]


def pair_of(m, k):
    return f"m {m}, k {k}"


def modes_of(k):
    return BLOG_MODES + (AHEAD_MODES if k <= REPEATED_K else ())


def oversub(runner, scale, traced):
    lines = ["# oversub: m chunks, room for k", "",
             "The blog's chunks filled 80 GB of an A100; ours fill what `--capacity` says, and the example itself evicts, so",
             "that the GPU is never oversubscribed. `scaled` is what our rate would take for the blog's bytes. A ratio is of "
             "medians; in brackets the smallest and the largest of five runs, the modes in turn.", ""]
    results = {}  # (m, k): (sentence, {mode: (its median row, totals of all its rows)})
    findings = {}
    traces = {}

    def run(pairs):
        for m, k in pairs:
            results[m, k] = run_pair(runner, scale, m, k)
        for m, k in pairs if traced else ():
            traces[m, k] = trace_pair(runner, scale, m, k, findings)

    run([pair for pair in documents.BLOG if pair[1] <= REPEATED_K])
    advice = advice_table(runner, scale)
    advice_traces = trace_advice(runner, scale) if traced else []
    more = remarks(runner, scale)
    run([pair for pair in documents.BLOG if pair[1] > REPEATED_K])

    lines += [f"{pair_of(m, k)}{results[m, k][0]}" for m, k in documents.BLOG]
    medians = {pair: {mode: row for mode, (row, _) in of_pair.items()} for pair, (_, of_pair) in results.items()}
    comparisons = [row for m, k in documents.BLOG for mode, (median, totals) in results[m, k][1].items()
                   for row in compare(m, k, mode, median, totals)]
    lines += table(("row", "mode", "phase", "document [s]", "ours [s]", "ours scaled [s]", "scaled / document",
                    "range of the total", "first finding of its report"),
                   [[*row, findings.get((row[0], row[1])) if row[2] == "total" else None] for row in comparisons])
    lines += advice
    lines += more
    if traced:
        lines += ["## What the tracer says", *table(TRACED_COLUMNS, [
            row for pair in documents.BLOG for row in traces[pair]] + advice_traces)]
    lines += driver_evicts(runner, scale)
    plots = [(pair_of(m, k), [(mode, row["total_seconds"]) for mode, row in medians[m, k].items()])
             for m, k in documents.BLOG if medians[m, k]]
    return lines, {"oversub.svg": plot.bars("oversub: total of both cycles", plots, "s")}


def run_pair(runner, scale, m, k):
    """(sentence with the ratios, {mode: (its median row, totals of all its rows)})"""
    modes = modes_of(k)
    repeat = 5 if scale == "gpu" and k <= REPEATED_K else 1
    try:
        runner.require_time(0 if k <= REPEATED_K else LARGE_K_SECONDS)
        rows = runner.run("oversub", [*size_of(scale, m, k), "--mode", ",".join(modes), "--repeat", repeat],
                          f"oversub {pair_of(m, k)}")
    except running.Failed as failed:
        return f": {failed}", {}
    result = {}
    for mode in modes:
        # The median run by its total, whole: the phases of one run belong together.
        of_mode = sorted((row for row in rows if row["mode"] == mode), key=lambda row: row["total_seconds"])
        result[mode] = (of_mode[len(of_mode) // 2], [row["total_seconds"] for row in of_mode])
    # A run's ratio is to the pinned run of the same turn: a machine that becomes slower does so for both.
    pinned = [row["total_seconds"] for row in rows if row["mode"] == "pinned"]
    words = []
    for mode in modes:
        ratios = sorted(row["total_seconds"] / base
                        for row, base in zip((row for row in rows if row["mode"] == mode), pinned))
        spread = f" ({ratios[0]:.2f}..{ratios[-1]:.2f})" if len(ratios) > 1 else ""
        words.append(f"{mode} {ratios[len(ratios) // 2]:.2f}{spread}")
    return ", total of each mode over pinned: " + ", ".join(words) + ".", result


def compare(m, k, mode, row, totals):
    """The rows of cells of one mode: each phase beside the document's."""
    scaling = documents.BLOG_BYTES / (row["chunk_bytes"] * row["k"])
    result = []
    for phase, theirs in zip(documents.BLOG_PHASES, documents.BLOG[m, k].get(mode, (None,) * 4)):
        ours = row.get(phase)
        spread = f"{totals[0]:.4g}..{totals[-1]:.4g}" if len(totals) > 1 and phase == "total_seconds" else None
        result.append([pair_of(m, k), mode, phase.replace("_seconds", "").replace("_", " "), theirs, ours,
                       ours and ours * scaling, ratio(ours and ours * scaling, theirs), spread])
    return result


def advice_table(runner, scale):
    """What the blog left as "Advise [TODO]". Chunks are small, because a read-mostly page that is written loses its copies
    by a fault of its own: 4 KiB at a time, and no prefetcher widens that."""
    size = ["-m", 8, "-k", 4, "--capacity", "16MiB" if scale == "ci" else "32MiB"]
    rows = []
    for access, flags in (("read and write", []), ("read only", ["--readonly"])):
        try:
            of_access = runner.run("oversub", [*size, "--mode", ",".join(("uvm", "prefetch", *ADVICE_MODES)), *flags],
                                   f"oversub advice {access}")
            uvm = of_access[0]["total_seconds"]
            rows += [[row["mode"], access, row["prefill_seconds"], row["first_cycle_seconds"], row["second_cycle_seconds"],
                      row["total_seconds"], row["total_seconds"] / uvm, row["host_to_device_bytes"],
                      row["device_to_host_bytes"], row["in_place_bytes"]] for row in of_access]
        except running.Failed as failed:
            rows.append([str(failed), access] + [None] * 8)
    return ["## Advice, which the blog left open", "",
            f"m 8, k 4, chunks of {'4' if scale == 'ci' else '8'} MiB. Read-mostly pays where nobody writes: evicted chunks need "
            "no copy. A page that is written loses its other copy by a page fault of its own.",
            *table(("mode", "kernel", "prefill [s]", "1st cycle [s]", "2nd cycle [s]", "total [s]", "total / uvm", "to the GPU",
                    "to the host", "in place"), rows)]


def trace_pair(runner, scale, m, k, findings):
    """Rows of cells. Fills `findings` with the first finding of (pair, mode)."""
    rows = []
    every_mode = scale == "ci" or (m, k) == (8, 4)  # more of them take too long on a machine that is lent
    for mode in modes_of(k) if every_mode else ("uvm", "prefetch"):
        label = f"{pair_of(m, k)}, {mode}"
        rows.append(traced_row(runner, "oversub", [*size_of(scale, m, k), "--mode", mode], f"oversub {label}", label))
        findings[pair_of(m, k), mode] = rows[-1][4]
    return rows


def trace_advice(runner, scale):
    size = ["-m", 8, "-k", 4, "--capacity", "8MiB" if scale == "ci" else "32MiB"]
    return [traced_row(runner, "oversub", [*size, "--mode", mode, "--readonly"], f"oversub {mode} read only",
                       f"m 8, k 4, {mode}, read only") for mode in ADVICE_MODES]


def remarks(runner, scale):
    """Patterns, read-only, and the blog's three remarks: a visible device, a pinned core, -O3."""
    size = ["-m", 8, "-k", 4, "--capacity", "16MiB" if scale == "ci" else "128MiB"]
    cases = []
    for name, variables in (("no device chosen", {}), ("CUDA_VISIBLE_DEVICES=0", {"CUDA_VISIBLE_DEVICES": "0"})):
        for affinity in ("none", "near", "away"):
            cases.append(("manual", f"{name}, affinity {affinity}", ["--mode", "manual", "--affinity", affinity], variables))
        cases.append(("pinned", f"{name}, page-locked memory", ["--mode", "pinned"], variables))
    for code in ("O0", "O3"):
        cases.append(("manual", f"host code -{code}, first touch in the prefill",
                      ["--mode", "manual", "--init", "prefill", "--host-code", code], {}))
    cases += [("uvm", f"pattern {pattern}", ["--mode", "uvm", "--pattern", pattern], {})
              for pattern in ("sequential", "strided", "random", "ping-pong")]
    cases += [(mode, "read only", ["--mode", mode, "--readonly"], {}) for mode in ("manual", "uvm", "prefetch")]
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
            "the host's own loops are slower, and they stand in the blog's prefill." +
            (" The simulator has one socket, and its clock does not count the host's own loops: these rows show no "
             "difference here." if scale == "ci" else ""),
            *table(("case", "mode", "prefill [s]", "1st cycle [s]", "2nd cycle [s]", "total [s]", "to the GPU", "to the host"),
                   rows)]


def driver_evicts(runner, scale):
    """True oversubscription: on the simulator it runs, on hardware the page has the command."""
    commands = [f"oversub --mode {mode} -m {m} -k {k} --allow-oversubscription" for m, k in documents.BLOG
                for mode in ("uvm", "prefetch")]
    lines = []
    if scale == "ci":
        try:
            rows = runner.run("oversub", ["-m", 8, "-k", 4, "--mode", "uvm,prefetch"], "oversub the driver evicts")
        except running.Failed as failed:
            rows = []
            lines += [str(failed), ""]
        lines += ["## Simulated: the driver evicts", "",
                  "m 8, k 4, the whole GPU. All of `uvmsim table a100-80g` is of this kind.",
                  *table(("mode", *(phase.replace("_seconds", " [s]").replace("_", " ") for phase in documents.BLOG_PHASES),
                          "to the GPU", "to the host"),
                         [[row["mode"], *(row[phase] for phase in documents.BLOG_PHASES), row["host_to_device_bytes"],
                           row["device_to_host_bytes"]] for row in rows])]
    return [*lines, "## Not run here", "",
            "Driver-chosen eviction on hardware, which the blog measured, needs managed memory beyond what the GPU has; "
            "drivers are known to hang in it. On a machine of your own:", "", *(f"    {command}" for command in commands)]
