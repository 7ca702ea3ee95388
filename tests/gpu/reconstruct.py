#!/usr/bin/env python3
"""Programs of other shapes on a GPU: are their migrations told right from their faults?

  tests/gpu/reconstruct.py --build BUILD --out OUT [--two-gpus] [--only NAME,...] [--time-limit 240]

Each program runs three times: untraced, at the default detail, and at full. The trace of full is held by reconstruct_compare
against the migrations that the driver told, for every 2 MiB block, direction and cause. The trace of the default says what share
of the driver's counters its reconstruction explains, and how much of what its windows recorded was told alike. OUT gets the
traces, and table.md, which is printed. Exit status: 1 where a result differs, a program fails, or bytes are wrong.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import measure  # noqa: E402

NATIVE = ("gemm", "atax", "jacobi", "gather", "streams", "advice", "split_advice", "thrash", "late_prefetch", "small")
PYTHON = ("torch_managed", "cupy_managed", "numba_managed")
SKIPPED = 77
HEADINGS = ("program", "result", "default: explained", "default: windows alike", "full: recorded bytes", "wrong block or direction",
            "wrong cause", "share", "faults")


def command_of(name, build, python):
    if name in PYTHON:
        return [python, str(HERE / "programs" / f"{name}.py")]
    return [str(build / "bin" / "uvmtrace_managed_programs"), name]


def run(command, build=None, trace=None, detail=None):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("UVMTRACE_") or "_SIM_" in key}
    environment.pop("LD_PRELOAD", None)
    if trace:
        environment.update(LD_PRELOAD=str(build / "lib" / "libuvmtrace.so"), UVMTRACE_OUT=str(trace))
        if detail:
            environment["UVMTRACE_DETAIL"] = detail
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def compare(build, trace):
    """Bytes that were recorded, wrong by block and direction, wrong by cause as well; None without migrations."""
    done = subprocess.run([build / "bin" / "reconstruct_compare", trace], capture_output=True, text=True)
    (trace.with_suffix(".compare.txt")).write_text(done.stdout + done.stderr)
    recorded = wrong = causes = 0
    for line in done.stdout.splitlines():
        row = re.match(r"  (  )? ?-?\d+ -> +-?\d+ (.*?) *recorded +(\d+) +from faults +\d+ +wrong +(\d+)", line)
        if not row:
            continue
        if row[1]:
            causes += int(row[4])
        else:
            recorded += int(row[3])
            wrong += int(row[4])
    return (recorded, wrong, causes) if done.returncode in (0, 1) else None


def report(build, trace):
    done = subprocess.run([build / "bin" / "uvmtrace-report", "--format", "json", trace], capture_output=True, text=True)
    return json.loads(done.stdout) if done.returncode == 0 else None


def row_of(name, arguments):
    """The cells of its row, and whether all is as it should be."""
    build, out = arguments.build.resolve(), arguments.out.resolve()
    command = command_of(name, build, arguments.python)
    plain = run(command)
    if plain.returncode == SKIPPED:
        return [name, "skipped: " + plain.stderr.strip().splitlines()[-1][:80]], True
    if plain.returncode != 0:
        return [name, f"fails untraced: exit {plain.returncode}: {plain.stderr.strip()[-120:]}"], False
    traces = {}
    for detail in (None, "full"):
        traces[detail] = out / f"{name}.{detail or 'default'}.pb"
        traced = run(command, build, traces[detail], detail)
        if (traced.returncode, traced.stdout) != (plain.returncode, plain.stdout):
            return [name, f"DIFFERS at {detail or 'the default'}: exit {traced.returncode}: {traced.stderr.strip()[-120:]}"], False
    seen = report(build, traces[None])
    compared = compare(build, traces["full"])
    if seen is None or compared is None:
        return [name, "same", "the traces cannot be read"], False
    told = seen["capture"].get("reconstruction", {})
    recorded, wrong, causes = compared
    share = causes / recorded if recorded else 0
    # No counted bytes: nothing to explain.
    explained = told.get("explained_share")
    windows = (f"{int(told['window_agreed_bytes'])} of {int(told['window_bytes'])}" if "window_bytes" in told else "none moved in them")
    cells = [name, "same", "not reconstructed" if explained is None else f"{100 * explained:.2f} %", windows, str(recorded),
             str(wrong), str(causes), f"{100 * share:.3f} %", str(seen["totals"].get("gpu_fault_entries", ""))]
    return cells, explained is not None and explained > 0.995 and share < 0.005


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--only", help="names, separated by commas")
    parser.add_argument("--two-gpus", action="store_true", help="the program that needs two GPUs as well")
    parser.add_argument("--python", default=sys.executable, help="a Python that has PyTorch, CuPy and Numba")
    parser.add_argument("--time-limit", type=float, default=240)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    names = arguments.only.split(",") if arguments.only else [*NATIVE, *PYTHON]
    if arguments.two_gpus:
        names.append("two_gpus")
    lines = [measure.machine() + "\n", "| " + " | ".join(HEADINGS) + " |", "|---|---|" + "---:|" * (len(HEADINGS) - 2)]
    started = time.monotonic()
    fine = True
    for name in names:
        if time.monotonic() - started > arguments.time_limit:
            cells, good = [name, "no time left"], False
        else:
            try:
                cells, good = row_of(name, arguments)
            except subprocess.TimeoutExpired:
                cells, good = [name, "not finished after 120 s"], False
        fine = fine and good
        lines.append("| " + " | ".join(cells + [""] * (len(HEADINGS) - len(cells))) + " |")
        print(lines[-1], file=sys.stderr, flush=True)
        (arguments.out / "table.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
