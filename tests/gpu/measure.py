#!/usr/bin/env python3
"""Runs the bundled workloads under uvmtrace on a machine with a GPU and prints what was seen as Markdown.

  tests/gpu/measure.py --build build/default --out OUT [--only known_bytes,oversub,zero_copy,delivery,serve] [--rounds 3]

Managed memory stays at 4 GiB in all, far below what the card has free: chunks leave the GPU by explicit prefetch to the
CPU, never because the card is full. Each workload runs untraced and traced in turns, so that the two see the same machine;
times are given as the median of the ratios of such pairs, with their spread. Reports go to OUT/<name>.txt and .json, traces
to OUT/<name>.pb, and the table to OUT/table.md.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

GIB = 1 << 30


class Workload:
    def __init__(self, name, command, expect_bytes=None, **variables):
        self.name = name
        self.command = command
        self.expect_bytes = expect_bytes  # (host to device, device to host), where they are known
        self.variables = variables        # of the traced process's environment


def workloads(build, only):
    bin_dir = build / "bin" / "examples"
    repository = pathlib.Path(__file__).resolve().parent.parent.parent
    if "known_bytes" in only:
        for suffix in ("", "_static"):
            yield Workload(f"known_bytes{suffix}", [bin_dir / f"known_bytes{suffix}", "--bytes", "1GiB"], (GIB, GIB))
    if "oversub" in only:
        for mode in ("uvm", "prefetch", "pinned", "manual"):
            for suffix in ("", "_static"):
                yield Workload(f"oversub_{mode}{suffix}",
                               [bin_dir / f"oversub{suffix}", "--mode", mode, "--capacity", "2GiB", "-k", "4", "-m", "8"],
                               (8 * GIB, 6 * GIB) if mode in ("uvm", "prefetch") else None)
    if "zero_copy" in only:
        yield Workload("zero_copy", [bin_dir / "zero_copy"])
    if "delivery" in only:
        for way in ("device-sync", "copy", "free", "cpu-touch"):
            command = [build / "bin" / "uvmtrace_delivery_bench", way]
            yield Workload(f"delivery_{way}", command, (GIB, 0))
            yield Workload(f"delivery_{way}_cupti", command, (GIB, 0), UVMTRACE_SOURCE="cupti")
            yield Workload(f"delivery_{way}_cupti_without_kernels", command, (GIB, 0), UVMTRACE_SOURCE="cupti",
                           UVMTRACE_KERNELS="0")
    if "serve" in only:
        yield Workload("serve", [sys.executable, repository / "examples" / "serve" / "serve.py", "--requests", "8"])


def run(command, environment):
    start = time.monotonic()
    done = subprocess.run([str(word) for word in command], env=environment, capture_output=True, text=True, timeout=300)
    return done, time.monotonic() - start


def share(seen, expected):
    return "" if not expected else f"{100.0 * int(seen or 0) / expected:.2f} %"


def machine():
    """What a reader of the table must know of where it was measured."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    gpus = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip().splitlines()
    name, driver, memory = [field.strip() for field in gpus[0].split(",")]
    return (f"{datetime.date.today()}, {len(gpus)} x {name} ({memory}), driver {driver}, Linux {platform.release()}, "
            f"{os.cpu_count()} CPU cores")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--only", default="known_bytes,oversub,zero_copy,delivery,serve")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    build = arguments.build.resolve()
    arguments.out.mkdir(parents=True, exist_ok=True)
    report = build / "bin" / "uvmtrace-report"
    library = build / "lib" / "libuvmtrace.so"

    table = (arguments.out / "table.md").open("w")

    def say(line):
        print(line, flush=True)
        print(line, file=table, flush=True)

    say(machine() + "\n")
    say("| workload | same exit code | time ratio (min..max) | HtoD | of known | DtoH | of known | fault entries (CUPTI: groups) | batches "
          "| BH CPU ms | BH of faults | delivered, by the driver's counters | lost | trace KiB |")
    say("|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    failed = False
    for workload in workloads(build, arguments.only.split(",")):
        trace = arguments.out / f"{workload.name}.pb"
        traced_environment = dict(os.environ, LD_PRELOAD=str(library), UVMTRACE_OUT=str(trace),
                                  **workload.variables)
        ratios = []
        same = True
        for _ in range(arguments.rounds):
            plain, plain_s = run(workload.command, os.environ)
            traced, traced_s = run(workload.command, traced_environment)
            ratios.append(traced_s / plain_s)
            same = same and plain.returncode == traced.returncode
            if plain.returncode or traced.returncode:
                sys.stderr.write(f"{workload.name}: exit {plain.returncode} untraced, {traced.returncode} traced\n"
                                 f"{plain.stderr[-2000:]}\n{traced.stderr[-2000:]}\n")
            if traced.stderr != plain.stderr:
                sys.stderr.write(f"{workload.name}: traced stderr: {traced.stderr[-1500:]}\n")
        (arguments.out / f"{workload.name}.out").write_text(traced.stdout)
        text = subprocess.run([report, trace], capture_output=True, text=True)
        (arguments.out / f"{workload.name}.txt").write_text(text.stdout + text.stderr)
        done = subprocess.run([report, "--format", "json", trace], capture_output=True, text=True)
        if done.returncode:
            say(f"| {workload.name} | {done.stderr.strip()} |")
            failed = True
            continue
        (arguments.out / f"{workload.name}.json").write_text(done.stdout)
        result = json.loads(done.stdout)
        totals = result.get("totals", {})
        bottom_half = (result.get("bh_threads") or [{}])[0]
        expected = workload.expect_bytes or (0, 0)
        in_faults = bottom_half.get("utilization_in_faults")
        delivered = result["capture"].get("delivered_share")
        say("| {} | {} | {:.2f} ({:.2f}..{:.2f}) | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |".format(
            workload.name, "yes" if same else "NO",
            statistics.median(ratios), min(ratios), max(ratios),
            totals.get("host_to_device_bytes"), share(totals.get("host_to_device_bytes"), expected[0]),
            totals.get("device_to_host_bytes"), share(totals.get("device_to_host_bytes"), expected[1]),
            totals.get("gpu_fault_entries", totals.get("gpu_fault_groups")), totals.get("fault_batches"),
            "" if "cpu_ns" not in bottom_half else f"{int(bottom_half['cpu_ns']) / 1e6:.1f}",
            "" if in_faults is None else f"{in_faults:.2f}",
            "" if delivered is None else f"{100 * delivered:.2f} %",
            ", ".join(f"{row['count']} {row['reason'].split()[0]}" for row in result["capture"].get("lost", [])) or 0,
            trace.stat().st_size // 1024))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
