"""The matrix as a page of Markdown: what docs/measurements/programs.md holds, but for the words above it.

Rows are plain dictionaries, as matrix.json has them, so that a page can be made again from several runs: the two-GPU
machine is another one than that of the rest.
"""

import collections
import pathlib
import statistics
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2] / "bench" / "overhead"))
import overhead  # noqa: E402  (found by the line above)
import traces  # noqa: E402

FRAME = """\
# Real programs, traced and untraced

Each program runs alone and in pairs, once without and once with `LD_PRELOAD=libuvmtrace.so` at the defaults, the order
turning from pair to pair. Its whole stdout and stderr and its exit status must be the same in both. It prints digests
of the numbers that it has computed, and no times. Managed memory stays at 512 MiB or less for each, far below what the
card has free.

```
tests/gpu/programs/matrix.py --build BUILD --out OUT --rounds {rounds}
```

{machines}

Ratios are traced over untraced of the same pair: the median, and in parentheses the smallest and the largest.
"""

WORDS = """\
- **process** is the whole process, from its start to its end, with the imports; **region** is the part that does the
  work, timed by the program itself.
- **calls by door** counts the recorded calls (the outermost of a thread; the driver call beneath a runtime call is the
  same one): runtime symbols bound by the linker, driver symbols bound or looked up, pointers from cuGetProcAddress.
- **audit** is from one more run, with `UVMTRACE_AUDIT=1`: of the calls of intercepted functions that CUPTI counted,
  those that passed a hook of ours; driver's calls, and runtime's. What is missing is listed below the table.
- **faults** and **bytes** are those in the trace, and their share of what the driver's own counters say.
- **processes** is the number of trace files: one for each process that used CUDA.
"""

HEADINGS = ("program", "same result", "pairs", "process", "region", "calls by door", "audit: driver", "audit: runtime",
            "GPU fault entries", "CPU faults", "bytes to the GPU", "bytes to the host", "lost", "processes")


def escaped(text):
    return " ".join(str(text).split()).replace("|", "\\|")


def markdown_row(cells):
    return "| " + " | ".join(escaped(cell) for cell in cells) + " |\n"


def same_result(row):
    if row["state"] != "ran":
        return f"{row['state']}: {row['why']}" if row["why"] else row["state"]
    if row["differences"]:
        return "**NO**: " + ", ".join(f"{name} ({count} of {row['pairs']})"
                                      for name, count in sorted(row["differences"].items()))
    varying = f", but {' and '.join(row['varies'])} of the untraced runs differ too" if row["varies"] else ""
    audited = f"; with the audit **NO**: {', '.join(row['audit_differences'])}" if row["audit_differences"] else ""
    own = f", and {len(row['own_lines'])} lines of uvmtrace's own on stderr" if row["own_lines"] else ""
    return "yes" + own + varying + audited


def quantity(row, name):
    counts = row["report"].get("quantities", {}).get(name, {})
    captured, exact = counts.get("captured"), counts.get("exact")
    if captured is None and exact is None:
        return "none"
    if captured is None:
        return f"{exact:,} by the counters alone"
    if exact is None:
        return f"{captured:,}"
    return f"{captured:,} of {exact:,}" if captured != exact else f"{captured:,} (100 %)"


def audit_cell(row, runtime):
    audit = row["audit"]
    if "unread" in audit:
        return audit["unread"]
    if not audit.get("functions"):
        return "; ".join(sorted(set(audit.get("states", [])))) or "no trace"
    seen, happened = traces.coverage(audit["functions"], runtime)
    if not happened:
        return "no calls"
    text = f"{100 * seen / happened:.2f} %: {seen:,} of {happened:,}"
    if seen == happened:
        return text
    return text + (" (explained)" if runtime and traces.explained(audit) else " **gap**")


def doors_cell(row):
    doors = row["audit"].get("doors", {})
    return ", ".join(f"{name} {count:,}" for name, count in sorted(doors.items(), key=lambda each: -each[1])) or "none"


def lost_cell(row):
    lost = {reason: count for reason, count in row["report"].get("lost", {}).items() if count}
    return ", ".join(f"{count:,} {reason}" for reason, count in lost.items()) or "0"


def cells(row):
    first = [f"`{row['name']}`<br>{row['shows']}", same_result(row)]
    if row["state"] != "ran":
        return first + [""] * (len(HEADINGS) - len(first))
    if "unread" in row["report"]:
        return [*first, str(row["pairs"]), row["report"]["unread"]] + [""] * (len(HEADINGS) - 4)
    return [*first, str(row["pairs"]), overhead.spread(row["ratios"]),
            overhead.spread(row["region_ratios"].get("region", [])), doors_cell(row),
            audit_cell(row, runtime=False), audit_cell(row, runtime=True),
            quantity(row, "gpu_fault_entries"), quantity(row, "cpu_faults"), quantity(row, "host_to_device_bytes"),
            quantity(row, "device_to_host_bytes"), lost_cell(row), str(row["report"].get("processes", 0))]


def gap_lines(row):
    functions = row["audit"].get("functions", {})
    missing = traces.gaps(functions)
    if not missing:
        return []
    listed = ", ".join(f"`{name}` {seen:,} of {happened:,}" for name, happened, seen in missing)
    runtime_only = all(traces.is_runtime(name) for name, _, _ in missing)
    if runtime_only and traces.explained(row["audit"]):
        files = ", ".join(f"`{name}`" for name in row["audit"]["static_runtimes"])
        why = (f"Explained: a CUDA runtime of its own, whose calls have no door, is in {files}; no driver call is missing, "
               f"and {traces.beneath(functions):,} were seen beneath runtime calls.")
    else:
        why = "**Not explained.**"
    return [f"- `{row['name']}`: {listed}. {why}\n"]


def notes(rows):
    ran = [row for row in rows if row["state"] == "ran"]
    text = ""
    gaps = [line for row in ran for line in gap_lines(row)]
    gaps += [f"- `{row['name']}`: not audited.\n" for row in ran if not row["audit"].get("functions")]
    text += "\n## Gaps of the audit\n\n" + ("".join(gaps) or "None.\n")
    lost = [f"- `{row['name']}`: {row['audit']['audit_lost']:,} of CUPTI's own records were lost: the audit's counts "
            "of what happened are too small.\n" for row in ran if row["audit"].get("audit_lost")]
    text += "".join(lost)

    def seconds(values, digits):
        return f"{statistics.median(values):.{digits}f}" if values else ""

    regions = [(row, region, ratios) for row in ran for region, ratios in row["region_ratios"].items()
               if region != "region"]
    if regions:
        text += "\n## Further regions\n\n| program | region | untraced, s | ratio |\n|---|---|---:|---|\n"
        for row, region, ratios in regions:
            text += markdown_row((f"`{row['name']}`", region, seconds(row["untraced_regions"][region], 3),
                                  overhead.spread(ratios)))

    text += "\n## Times\n\n"
    text += "| program | process untraced, s | region untraced, s | managed peak, MiB | trace, KiB | settings |\n"
    text += "|---|---:|---:|---:|---:|---|\n"
    for row in ran:
        text += markdown_row((f"`{row['name']}`", seconds(row["untraced_seconds"], 2),
                              seconds(row["untraced_regions"].get("region"), 3),
                              f"{(row['report'].get('managed_peak_bytes') or 0) / 2**20:.0f}",
                              f"{(row['report'].get('trace_bytes') or 0) / 1024:.0f}",
                              " ".join(f"{name}={value}" for name, value in row["environment"].items())))

    masks = collections.defaultdict(list)
    for row in ran:
        for reason in row["masked"]:
            masks[reason].append(f"`{row['name']}`")
    text += "\n## What was masked before outputs were compared\n\n"
    text += "".join(f"- {reason}: {', '.join(names)}\n" for reason, names in masks.items()) or "Nothing.\n"
    own = [f"- `{row['name']}`: `{line}`\n" for row in ran for line in row["own_lines"]]
    text += "\n## Lines of uvmtrace's own on stderr\n\n" + ("".join(own) or "None.\n")
    return text


def page(rows, machines, rounds):
    text = FRAME.format(rounds=rounds, machines="\n\n".join(machines))
    text += "\n" + markdown_row(HEADINGS) + "|" + "---|" * len(HEADINGS) + "\n"
    text += "".join(markdown_row(cells(row)) for row in rows)
    return text + "\n" + WORDS + notes(rows)


def merge(older, newer):
    """Rows of the newer run in the places of the older's, but for those that it could not run."""
    rows = {row["name"]: row for row in older}
    for row in newer:
        if row["name"] not in rows or row["state"] not in ("skipped", "left out"):
            rows[row["name"]] = row
    return list(rows.values())
