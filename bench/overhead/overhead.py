#!/usr/bin/env python3
"""What tracing costs and what it catches: every workload under every variant, in turns, on one machine.

  bench/overhead/overhead.py --build build/default --out OUT [--rounds 9] [--nsys PATH]

In each round every workload runs once under each variant, the variants in a new order each time, so that all see the
same machine. Each process times its own region, so that the start of CUDA and of the tracer is not in it. A ratio is
that of a run to the run with nothing, "off", of the same round; given are the median and the smallest and largest
one.

Variants: off, calls, light, sampled, exact, full-cupti (UVMTRACE_SOURCE=cupti), full-queue (UVMTRACE_SOURCE=queue), and
nsys: Nsight Systems with both page-fault options and nothing else. Workloads: see overhead_bench.cu, and
torch_loop.py.

The bytes that a trace holds are compared with the driver's own counters in the same trace ("of exact"; "r": migrations
were reconstructed from the faults, "~": estimated from a sample), and those with what the workload is known to move
("exact of known"). "causes off by" compares the bytes of each cause, as the report of light, exact or sampled tells them,
with those of full-queue, as a share of all bytes. Managed memory is 1 GiB. --rounds-of full-queue=3 or
pytorch/light=0 gives a variant, a workload or one of both fewer rounds. After --time-limit seconds no new workload
starts. OUT gets table.txt, table.md and results.json, which has every run.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import random
import shutil
import sqlite3
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
SKIPPED = 77  # what torch_loop.py exits with
DIRECTIONS = ("host_to_device", "device_to_host")

WORKLOADS = ("gpu_stream", "random_pages", "cpu_touch", "prefetch", "ping_pong", "pytorch")
VARIANTS = {
    "off": None,
    "calls": {"UVMTRACE_DETAIL": "calls"},
    "light": {"UVMTRACE_DETAIL": "light"},
    "sampled": {"UVMTRACE_DETAIL": "sampled"},
    "exact": {"UVMTRACE_DETAIL": "exact"},
    "full-cupti": {"UVMTRACE_DETAIL": "full", "UVMTRACE_SOURCE": "cupti"},
    "full-queue": {"UVMTRACE_DETAIL": "full", "UVMTRACE_SOURCE": "queue"},
    "nsys": None,
}
SIZES = {  # arguments of the program: on a GPU, on the simulator
    "gpu_stream": (["--bytes", "1GiB", "--repeat", "15"], ["--bytes", "8MiB", "--repeat", "2"]),
    "random_pages": (["--bytes", "1GiB", "--pages", "16384"], ["--bytes", "8MiB", "--pages", "128"]),
    "cpu_touch": (["--bytes", "1GiB"], ["--bytes", "8MiB"]),
    "prefetch": (["--bytes", "1GiB"], ["--bytes", "8MiB"]),
    "ping_pong": (["--bytes", "16MiB", "--repeat", "20"], ["--bytes", "2MiB", "--repeat", "3"]),
}


class Run:
    """One process, and what came of it."""

    def __init__(self, workload, variant, round_number, trace):
        self.workload = workload
        self.variant = variant
        self.round = round_number
        self.trace = trace
        self.measured = None  # the line that the program printed
        self.skipped = None   # why there is nothing, and that this is no failure
        self.failed = None
        self.captured = {}    # see read_trace and read_nsys

    def as_json(self):
        return {key: value for key, value in vars(self).items() if key != "trace"}


class Bench:
    def __init__(self, arguments):
        self.arguments = arguments
        self.build = arguments.build.resolve()
        self.library = self.build / "lib" / "libuvmtrace.so"
        self.report = self.build / "bin" / "uvmtrace-report"
        self.traces = arguments.out.resolve() / "traces"
        self.nsys = arguments.nsys or shutil.which("nsys")
        self.unusable = {}  # workload or (workload, variant) -> why

    def environment(self, variant, trace):
        mine = lambda name: name.startswith("UVMTRACE_") and not name.startswith("UVMTRACE_SIM_")
        environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD" and not mine(name)}
        if self.arguments.simulate:
            folders = [str(self.build / "lib" / "uvmtrace" / "sim"), environment.get("LD_LIBRARY_PATH")]
            environment["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, folders))
            environment["UVMTRACE_SIM_PROFILE"] = self.arguments.simulate
        if VARIANTS[variant] is not None:
            environment.update(VARIANTS[variant], LD_PRELOAD=str(self.library), UVMTRACE_OUT=str(trace))
        return environment

    def nsys_environment(self):
        environment = dict(os.environ)
        if self.arguments.nsys_library_path:
            environment["LD_LIBRARY_PATH"] = os.pathsep.join(
                filter(None, [self.arguments.nsys_library_path, environment.get("LD_LIBRARY_PATH")]))
        return environment

    def command(self, workload, variant, trace):
        if workload == "pytorch":
            command = [self.arguments.python, HERE / "torch_loop.py"]
        else:
            command = [self.build / "bin" / "uvmtrace_overhead_bench", workload,
                       *SIZES[workload][1 if self.arguments.simulate else 0]]
        if variant == "nsys":
            command = [self.nsys, "profile", "--trace=cuda", "--sample=none", "--cpuctxsw=none",
                       "--cuda-um-gpu-page-faults=true", "--cuda-um-cpu-page-faults=true", "--force-overwrite=true",
                       "--output", trace.with_suffix(""), *command]
        return [str(word) for word in command]

    def why_not(self, workload, variant):
        if workload == "pytorch" and self.arguments.simulate:
            return "PyTorch needs a GPU"
        if variant == "nsys" and self.arguments.simulate:
            return "Nsight Systems needs a GPU"
        if variant == "nsys" and not self.nsys:
            return "nsys was not found; --nsys PATH names it"
        return self.unusable.get(workload) or self.unusable.get((workload, variant))

    def run(self, workload, variant, round_number):
        suffix = "nsys-rep" if variant == "nsys" else "pb"
        result = Run(workload, variant, round_number, self.traces / f"{workload}.{variant}.{round_number}.{suffix}")
        result.skipped = self.why_not(workload, variant)
        if result.skipped:
            return result
        command = self.command(workload, variant, result.trace)
        environment = self.environment(variant, result.trace)
        if variant == "nsys":
            environment["LD_LIBRARY_PATH"] = self.nsys_environment().get("LD_LIBRARY_PATH", "")
        try:
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        except subprocess.TimeoutExpired:
            result.failed = "not finished after 120 s"
            self.unusable[(workload, variant)] = result.failed
            return result
        except OSError as error:
            result.failed = str(error)
            return result
        if done.returncode == SKIPPED and workload == "pytorch":
            result.skipped = self.unusable["pytorch"] = done.stderr.strip().splitlines()[-1]
            return result
        # A library that lacks a variant warns and takes its default: that would be another variant under this name.
        # One that does not know UVMTRACE_SOURCE has nothing but CUPTI.
        unknown = [line for line in done.stderr.splitlines() if line.startswith("uvmtrace: ")
                   and ("UVMTRACE_DETAIL=" in line or "UVMTRACE_SOURCE=" in line or
                        "unknown variable UVMTRACE_SOURCE" in line and variant != "full-cupti")]
        if unknown:
            result.failed = self.unusable[(workload, variant)] = unknown[0][len("uvmtrace: "):]
            return result
        lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
        # nsys fails when it cannot convert what it has collected; the program has run.
        if (done.returncode != 0 and variant != "nsys") or len(lines) != 1:
            result.failed = f"exit code {done.returncode}: {(done.stderr or done.stdout).strip()[-500:]}"
            return result
        result.measured = json.loads(lines[0])
        return result

    def rounds_of(self, workload, variant):
        limits = dict(self.arguments.rounds_of)
        return min(limits.get(name, self.arguments.rounds) for name in (workload, variant, f"{workload}/{variant}"))

    def measure(self):
        runs = []
        started = time.monotonic()
        for round_number in range(self.arguments.rounds):
            for workload in self.arguments.workloads:
                if time.monotonic() - started > self.arguments.time_limit:
                    sys.stderr.write(f"the time limit of {self.arguments.time_limit:.0f} s is reached in round "
                                     f"{round_number + 1} of {self.arguments.rounds}, before {workload}\n")
                    return runs
                if workload == "pytorch" and round_number >= self.arguments.pytorch_rounds:
                    continue
                variants = [each for each in self.arguments.variants
                            if (each != "nsys" or round_number < self.arguments.nsys_rounds) and
                            round_number < self.rounds_of(workload, each)]
                random.Random(f"{self.arguments.seed} {round_number} {workload}").shuffle(variants)
                runs += [self.run(workload, variant, round_number) for variant in variants]
            print(f"round {round_number + 1} of {self.arguments.rounds}: {time.monotonic() - started:.0f} s",
                  file=sys.stderr, flush=True)
        return runs

    # --- what was caught; after the measurement, so that reading does not disturb it ---

    def read_trace(self, run):
        done = subprocess.run([str(self.report), "--format", "json", str(run.trace)], capture_output=True, text=True)
        if done.returncode != 0:
            run.failed = f"uvmtrace-report: {done.stderr.strip()[-500:]}"
            return
        report = json.loads(done.stdout)
        capture, totals = report["capture"], report.get("totals", {})
        accounts = {}  # quantity -> the row of the source that fed, else of the counters
        for row in capture.get("accounts", []):
            if row.get("source") or row["quantity"] not in accounts:
                accounts[row["quantity"]] = row
        for direction in DIRECTIONS:
            name = f"{direction}_bytes"
            account = accounts.get(name)
            if account is not None:
                run.captured[name] = account.get("captured")
                run.captured[f"exact_{name}"] = account.get("exact")
            else:
                moved = [int(row["bytes"]) for row in report.get("migrations", []) if row["direction"] == direction]
                run.captured[name] = sum(moved) if run.variant.startswith("full") else None
                run.captured[f"exact_{name}"] = capture.get(f"exact_{name}")
            run.captured[f"total_{name}"] = totals.get(name)
        for name in ("gpu_fault_entries", "cpu_faults"):
            for field in ("captured", "exact"):
                run.captured[f"{field}_{name}"] = accounts.get(name, {}).get(field)
        rows = report.get("migrations", [])
        events = capture.get("tool_cost", {}).get("events")
        if events is None:  # as far as the report tells: its migrations, faults and calls
            events = sum(int(row.get("count", 0)) for row in rows) + sum(
                int(totals.get(name, 0))
                for name in ("api_calls", "cpu_faults", "gpu_fault_entries", "gpu_fault_records"))
        run.captured["events"] = events
        run.captured["trace_bytes"] = capture.get("trace_bytes", run.trace.stat().st_size)
        run.captured = {key: int(value) if isinstance(value, str) else value for key, value in run.captured.items()}
        run.captured["causes"] = {f"{row['direction']} {row['cause']}": int(row["bytes"]) for row in rows}
        run.captured["estimated"] = totals.get("estimated", [])
        run.captured["reconstructed"] = "reconstruction" in capture
        run.captured["lost"] = sum(int(row.get("count", 0)) for row in capture.get("lost", []))
        run.captured["lost_rows"] = capture.get("lost", [])
        run.captured["sources"] = {row["name"]: f"{row['state']} {row.get('reason', '')}".strip()
                                   for row in capture.get("sources", [])}
        # Where a source does not work another one takes its place: that is not this variant any more.
        source = {"full-cupti": "cupti.htod_bytes", "full-queue": "driver_queue", "light": "driver_queue",
                  "sampled": "driver_queue", "exact": "driver_queue"}.get(run.variant)
        state = run.captured["sources"].get(source, "absent")
        if source and run.workload != "pytorch" and not state.startswith("active"):
            run.failed = f"{source} is {state}"
            run.measured = None

    def read_nsys(self, run):
        database = run.trace.with_suffix(".sqlite")
        try:
            done = subprocess.run([str(self.nsys), "export", "--type=sqlite", "--force-overwrite=true", "--output",
                                   str(database), str(run.trace)],
                                  env=self.nsys_environment(), capture_output=True, text=True, timeout=120)
        except (OSError, subprocess.TimeoutExpired) as error:
            run.captured["unread"] = f"nsys export: {error}"
            return
        if done.returncode != 0 or not database.exists():
            run.captured["unread"] = f"nsys export: {(done.stderr or done.stdout).strip()[-300:]}"
            return
        with sqlite3.connect(database) as connection:
            tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            # Copies of unified memory have kinds of their own.
            kinds = {"host_to_device": {11}, "device_to_host": {12}}
            if "ENUM_CUDA_MEMCPY_OPER" in tables:
                names = connection.execute("SELECT id, upper(name) FROM ENUM_CUDA_MEMCPY_OPER").fetchall()
                for direction, word in (("host_to_device", "HTOD"), ("device_to_host", "DTOH")):
                    kinds[direction] = {number for number, name in names if "UVM" in name and word in name}
            copies = {}
            if "CUPTI_ACTIVITY_KIND_MEMCPY" in tables:
                copies = {kind: (count, moved) for kind, count, moved in connection.execute(
                    "SELECT copyKind, count(*), sum(bytes) FROM CUPTI_ACTIVITY_KIND_MEMCPY GROUP BY copyKind")}
            faults = 0
            for table in ("CUDA_UM_CPU_PAGE_FAULT_EVENTS", "CUDA_UM_GPU_PAGE_FAULT_EVENTS"):
                if table in tables:
                    faults += connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        moved = {direction: [copies[kind] for kind in wanted if kind in copies] for direction, wanted in kinds.items()}
        for direction, rows in moved.items():
            run.captured[f"{direction}_bytes"] = sum(each or 0 for _, each in rows)
        run.captured["events"] = faults + sum(count for rows in moved.values() for count, _ in rows)
        run.captured["trace_bytes"] = run.trace.stat().st_size

    def read(self, runs):
        done = [run for run in runs if run.measured]
        with concurrent.futures.ThreadPoolExecutor(max(1, (os.cpu_count() or 2) // 2)) as pool:
            list(pool.map(lambda run: self.read_nsys(run) if run.variant == "nsys" else
                          self.read_trace(run) if run.variant != "off" else None, done))
        # Nsight Systems has no counters of the driver's: another variant's of the same workload stand in.
        for workload in self.arguments.workloads:
            for direction in DIRECTIONS:
                name = f"exact_{direction}_bytes"
                exact = [run.captured[name] for run in done
                         if run.workload == workload and run.captured.get(name) is not None]
                for run in done:
                    if run.variant == "nsys" and run.workload == workload and exact:
                        run.captured[name] = int(statistics.median(exact))


def spread(values, digits=3):
    """The median, and in parentheses the smallest and the largest, where they differ."""
    values = [value for value in values if value is not None]
    if not values:
        return "n/a"
    low, high = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
    text = f"{statistics.median(values):.{digits}f}"
    return text if low == high else f"{text} ({low}..{high})"


def share(part, whole):
    if part is None or whole is None:
        return None
    return 1.0 if part == whole else part / whole if whole else None


def ratios(mine, off, name, least):
    """Of runs to the untraced run of the same round. Nothing where that one has next to nothing to compare with."""
    pairs = ((run.measured.get(name), off[run.round].measured.get(name)) for run in mine if run.round in off)
    return [value / base for value, base in pairs if value is not None and base is not None and base >= least]


def cause_difference(run, full):
    """How far the bytes of any cause are from those of the full trace of the same round, as a share of all bytes."""
    wanted, seen = full.captured.get("causes"), run.captured.get("causes")
    if not wanted or seen is None:
        return None
    return max(abs(wanted.get(cause, 0) - seen.get(cause, 0)) for cause in {*wanted, *seen}) / sum(wanted.values())


HEADINGS = ("workload", "variant", "rounds", "time ms", "time ratio", "BH CPU ratio", "process CPU ratio",
            "HtoD of exact", "DtoH of exact", "exact of known", "faults of exact", "causes off by", "lost", "events",
            "trace bytes/event")


def summarize(arguments, runs):
    rows, details = [], []
    for workload in arguments.workloads:
        off, full = ({run.round: run for run in runs
                      if run.measured and run.workload == workload and run.variant == base}
                     for base in ("off", "full-queue"))
        for variant in arguments.variants:
            all_mine = [run for run in runs if (run.workload, run.variant) == (workload, variant)]
            mine = [run for run in all_mine if run.measured]
            why = next((run.failed or run.skipped for run in all_mine if run.failed or run.skipped), "no time left")
            if not mine:
                rows.append([workload, variant, "0", why.splitlines()[0][:100]] + [""] * (len(HEADINGS) - 4))
                details.append({"workload": workload, "variant": variant, "rounds": 0, "why": why})
                continue
            time_ratios = ratios(mine, off, "wall_ns", 1)
            shares = {direction: [share(run.captured.get(f"{direction}_bytes"),
                                        run.captured.get(f"exact_{direction}_bytes")) for run in mine]
                      for direction in DIRECTIONS}
            known = [share(run.captured.get(f"exact_{direction}_bytes"), run.measured.get(f"{direction}_bytes"))
                     for run in mine for direction in DIRECTIONS if variant != "nsys"]
            faults = [share(run.captured.get(f"captured_{name}"), run.captured.get(f"exact_{name}"))
                      for run in mine for name in ("gpu_fault_entries", "cpu_faults")]
            causes = [cause_difference(run, full[run.round]) for run in mine
                      if variant in ("light", "sampled", "exact") and run.round in full]
            events = [run.captured.get("events") for run in mine if run.captured.get("events") is not None]
            per_event = [run.captured["trace_bytes"] / run.captured["events"]
                         for run in mine if run.captured.get("events")]
            mark = ("~" if any(run.captured.get("estimated") for run in mine) else
                    "r " if any(run.captured.get("reconstructed") for run in mine) else "")
            # A bottom half that had less than a millisecond, and a process that had less than ten, tell nothing.
            bottom_half = ratios(mine, off, "bottom_half_cpu_ns", 1e6 if not arguments.simulate else 1e5)
            process = ratios(mine, off, "process_cpu_ns", 1e7 if not arguments.simulate else 1e5)
            time_ms = statistics.median(run.measured["wall_ns"] for run in mine) / 1e6
            rows.append([
                workload, variant, str(len(mine)), f"{time_ms:.1f}",
                spread(time_ratios), spread(bottom_half), spread(process),
                *(mark + spread(shares[direction], 4) for direction in DIRECTIONS), spread(known, 4),
                spread(faults, 4), spread(causes),
                "" if variant in ("off", "nsys") else str(max(run.captured.get("lost", 0) for run in mine)),
                f"{statistics.median(events):.0f}" if events else "n/a",
                f"{statistics.median(per_event):.1f}" if per_event else "n/a"])
            details.append({
                "workload": workload, "variant": variant, "rounds": len(mine), "time_ratios": time_ratios,
                "bottom_half_ratios": bottom_half, "process_ratios": process, "shares_of_exact": shares,
                "exact_of_known": known, "faults_of_exact": faults, "cause_differences": causes,
                "failures": [run.failed for run in all_mine if run.failed]})
    return rows, details


def as_text(rows):
    table = [HEADINGS, *rows]
    # A reason instead of numbers may be longer than its column.
    widths = [max(len(row[i]) for row in table if i != 3 or row[2] != "0") for i in range(len(HEADINGS))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in table) + "\n"


def as_markdown(rows):
    line = lambda cells: "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"
    return line(HEADINGS) + "|---|---|" + "---:|" * (len(HEADINGS) - 2) + "\n" + "".join(line(row) for row in rows)


def incomplete(runs):
    """Runs of a full variant in which bytes are missing and no loss was counted."""
    for run in runs:
        if not run.measured or not run.variant.startswith("full") or run.workload == "pytorch":
            continue
        for direction in DIRECTIONS:
            seen = run.captured.get(f"{direction}_bytes")
            exact = run.captured.get(f"exact_{direction}_bytes")
            known = run.measured.get(f"{direction}_bytes")
            name = f"{run.workload} {run.variant} round {run.round + 1}: {direction}"
            if exact is None:
                yield f"{name}: the trace has no counters of the driver's"
            elif known is not None and exact != known:
                yield f"{name}: the driver counted {exact} bytes, {known} are known"
            elif (seen or 0) != exact and not run.captured.get("lost"):
                yield f"{name}: {seen} bytes of {exact}, and nothing is counted as lost"


def failures(runs):
    """Each reason once, with the runs that it ended."""
    reasons = {}
    for run in runs:
        if run.failed:
            reasons.setdefault(run.failed, []).append(f"{run.workload} {run.variant}")
    for reason, names in reasons.items():
        yield f"{', '.join(sorted(set(names)))} ({len(names)} runs): {reason}"


def machine(arguments):
    if arguments.simulate:
        return f"SIMULATED ({arguments.simulate}): these numbers say nothing about a GPU"
    query = "--query-gpu=name,driver_version,memory.total,memory.free"
    try:
        done = subprocess.run(["nvidia-smi", query, "--format=csv,noheader"], capture_output=True, text=True)
        name = done.stdout.strip()
    except OSError:
        name = "no nvidia-smi here"
    return f"{name}; Linux {os.uname().release}; {os.cpu_count()} CPUs"


def chosen(text, known, what):
    names = text.split(",")
    for name in names:
        if name not in known:
            raise argparse.ArgumentTypeError(f"there is no {what} {name}; known are {', '.join(known)}")
    return names


def rounds_of(text):
    name, _, number = text.partition("=")
    known = {*WORKLOADS, *VARIANTS, *(f"{workload}/{variant}" for workload in WORKLOADS for variant in VARIANTS)}
    if name not in known or not number.isdigit():
        raise argparse.ArgumentTypeError(f"{text}: NAME=N, where NAME is a workload, a variant or WORKLOAD/VARIANT")
    return name, int(number)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, required=True, help="folder with bin/ and lib/")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--workloads", type=lambda text: chosen(text, WORKLOADS, "workload"), default=list(WORKLOADS))
    parser.add_argument("--variants", type=lambda text: chosen(text, VARIANTS, "variant"), default=list(VARIANTS))
    parser.add_argument("--pytorch-rounds", type=int, default=3, help="importing PyTorch takes seconds (default 3)")
    parser.add_argument("--nsys-rounds", type=int, default=3, help="Nsight Systems takes seconds (default 3)")
    parser.add_argument("--rounds-of", metavar="NAME=N", type=rounds_of, action="append", default=[],
                        help="fewer rounds of a variant, a workload, or WORKLOAD/VARIANT")
    parser.add_argument("--nsys", help="the nsys program, where it is not in PATH")
    parser.add_argument("--nsys-library-path", help="folders with libraries that nsys misses (libdw, libelf)")
    parser.add_argument("--python", default=sys.executable, help="a Python that has PyTorch")
    parser.add_argument("--time-limit", type=float, default=480,
                        help="seconds; no workload starts after that (default 480)")
    parser.add_argument("--seed", default="1", help="of the order of the variants")
    parser.add_argument("--simulate", metavar="PROFILE", help="run on the simulator, with a few MiB")
    parser.add_argument("--require-complete", action="store_true",
                        help="exit with 1 where a full variant misses bytes that are not counted as lost")
    parser.add_argument("--keep-traces", action="store_true")
    arguments = parser.parse_args()
    if "off" not in arguments.variants:
        arguments.variants.insert(0, "off")  # the others are compared with it

    bench = Bench(arguments)
    bench.traces.mkdir(parents=True, exist_ok=True)
    runs = bench.measure()
    bench.read(runs)
    rows, details = summarize(arguments, runs)
    header = machine(arguments)
    (arguments.out / "table.txt").write_text(f"{header}\n\n{as_text(rows)}")
    (arguments.out / "table.md").write_text(f"{header}\n\n{as_markdown(rows)}")
    (arguments.out / "results.json").write_text(json.dumps(
        {"machine": header, "arguments": {key: str(value) for key, value in vars(arguments).items()},
         "summary": details, "runs": [run.as_json() for run in runs]}, indent=1))
    print(f"{header}\n\n{as_text(rows)}")
    if not arguments.keep_traces:
        shutil.rmtree(bench.traces)

    for note in sorted({run.captured["unread"] for run in runs if "unread" in run.captured}):
        sys.stderr.write(f"overhead: what nsys recorded cannot be read: {note}\n")
    problems = [*failures(runs), *(incomplete(runs) if arguments.require_complete else ())]
    if not any(run.measured for run in runs):
        problems.append("nothing was measured")
    for problem in problems:
        sys.stderr.write(f"overhead: {problem}\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
