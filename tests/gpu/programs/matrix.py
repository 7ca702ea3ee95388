#!/usr/bin/env python3
"""Real programs on a machine with a GPU, untraced and traced: the same result, at what cost, and what the trace holds.

  tests/gpu/programs/matrix.py --build BUILD --out OUT [--only a,b] [--rounds 3] [--budget 540]
  tests/gpu/programs/matrix.py --merge RUN1/matrix.json RUN2/matrix.json --out OUT

First each program runs once with UVMTRACE_AUDIT=1, a few at a time: nothing is timed then, and what comes from a cold
disk has come. Then each runs in pairs, alone. A program that cannot run here, or hangs, or prints something else when
it is traced, has a row that says so, and the ends of its outputs go to OUT/problems.txt. OUT/programs.md and
OUT/matrix.json are written anew after each program. No program starts when --budget seconds are over, or would be over.

--rounds 3,torch_steps=9 runs one program more often. Exit status: 0, or 1 where a result differs, a program fails, a
gap in the audit is not explained, or the time was not enough.
"""

import argparse
import concurrent.futures
import dataclasses
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
sys.path.insert(0, str(HERE.parents[2] / "bench" / "overhead"))
import execution  # noqa: E402
import measure  # noqa: E402
import overhead  # noqa: E402
import table  # noqa: E402
import traces  # noqa: E402
from execution import Program  # noqa: E402

PACKAGES = ("torch", "triton", "transformers", "accelerate", "cupy-cuda13x", "numba", "numba-cuda", "numpy", "jax",
            "cuda-bindings", "nvidia-nccl-cu13", "nvidia-cuda-runtime")
AUDIT_AT_ONCE = 5
RESERVE_SECONDS = 15      # for the last report and table
COLD_DISK_PATIENCE = 2.5  # whoever imports PyTorch first reads gigabytes


def programs(build, python, simulated):
    """The matrix, what matters most first: the budget may cut off the end."""
    def script(name, shows, file=None, **more):
        return Program(name, (python, str(HERE / f"{file or name}.py")), shows, **more)

    def known_bytes(name, shows, suffix="", **more):
        size = "8MiB" if simulated else "256MiB"
        masks = (execution.TABLE_SECONDS, execution.FREE_MEMORY)
        return Program(name, (build / "bin" / "examples" / f"known_bytes{suffix}", "--bytes", size), shows, masks=masks,
                       times_in_output=True, limit_seconds=30, **more)

    def allocator(setting):
        # The second name is that of torch 2.9 and later.
        return {"PYTORCH_CUDA_ALLOC_CONF": setting, "PYTORCH_ALLOC_CONF": setting}

    needs_gpu = "the simulator has no statically linked runtime" if simulated else ""
    return [
        script("torch_steps", "PyTorch: import and 1,000 inference steps"),
        script("torch_eager", "PyTorch eager, pinned DataLoader, expandable segments off",
               environment=allocator("expandable_segments:False")),
        script("torch_eager_expandable", "the same, expandable segments on", file="torch_eager",
               environment=allocator("expandable_segments:True")),
        script("torch_managed", "PyTorch, pluggable allocator of managed memory"),
        script("torch_graphs", "PyTorch, CUDA graphs"),
        script("transformers_generate", "transformers, generate with an offloaded cache"),
        script("accelerate_offload", "accelerate.cpu_offload"),
        script("cupy_managed", "CuPy, managed pool"),
        script("numba_managed", "Numba, managed arrays"),
        script("jax_run", "JAX, preallocation off", environment={"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}),
        script("cuda_bindings", "cuda.bindings, driver and runtime"),
        known_bytes("static_runtime", "C++, the CUDA runtime linked statically", "_static", not_here=needs_gpu),
        known_bytes("shared_runtime", "C++, the CUDA runtime as a shared library"),
        script("nccl_ranks", "two ranks of torch.multiprocessing, NCCL"),
        script("torch_compile", "torch.compile from empty caches", rounds=2, limit_seconds=120),
        # 0.35 % of the 140 GiB of an H200: less than 512 MiB.
        script("jax_unified", "JAX, managed memory", file="jax_run",
               environment={"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TF_FORCE_UNIFIED_MEMORY": "1",
                            "XLA_PYTHON_CLIENT_MEM_FRACTION": ".0035"}),
    ]


@dataclasses.dataclass
class Row:
    """What came of one program. All of it goes into matrix.json."""
    name: str
    shows: str
    environment: dict
    state: str = "left out"  # "ran", "skipped", "fails" (untraced too), "hangs" (untraced too), "left out"
    why: str = ""
    pairs: int = 0
    ratios: list = dataclasses.field(default_factory=list)
    untraced_seconds: list = dataclasses.field(default_factory=list)
    region_ratios: dict = dataclasses.field(default_factory=dict)     # region -> [ratio]
    untraced_regions: dict = dataclasses.field(default_factory=dict)  # region -> [seconds]
    differences: dict = dataclasses.field(default_factory=dict)       # "stdout" -> number of pairs
    varies: list = dataclasses.field(default_factory=list)            # what differs between untraced runs too
    audit_differences: list = dataclasses.field(default_factory=list)
    own_lines: list = dataclasses.field(default_factory=list)
    masked: list = dataclasses.field(default_factory=list)
    stdout: str = ""
    report: dict = dataclasses.field(default_factory=dict)
    audit: dict = dataclasses.field(default_factory=dict)


class Matrix:
    def __init__(self, arguments, chosen):
        self.arguments = arguments
        self.chosen = chosen
        self.build = arguments.build.resolve()
        self.out = arguments.out.resolve()
        self.started = time.monotonic()
        self.scratch = pathlib.Path(tempfile.mkdtemp(prefix="uvmtrace-matrix-"))
        self.rows = [Row(program.name, program.shows, program.environment) for program in chosen]
        self.problems = (self.out / "problems.txt").open("w")
        bench = overhead.Bench(argparse.Namespace(build=self.build, out=self.out, nsys=None,
                                                  simulate=arguments.simulate))
        self.library, self.report = bench.library, bench.report
        in_bundle, in_build = self.build / "bin", self.build / "tests" / "programs" / "bin"
        self.trace_to_json = (in_bundle if (in_bundle / "trace_to_json").exists() else in_build) / "trace_to_json"
        self.machine = machine(arguments)
        self.base = bench.environment("off", None)
        # Kernels that are compiled at run time are compiled once, whoever runs first, and not in the user's folders.
        for name in ("CUPY_CACHE_DIR", "NUMBA_CACHE_DIR", "CUDA_CACHE_PATH", "TRITON_CACHE_DIR"):
            self.base[name] = str(self.scratch / "caches" / name.lower())

    def left(self):
        return self.arguments.budget - RESERVE_SECONDS - (time.monotonic() - self.started)

    def folder(self, *names):
        folder = self.scratch.joinpath(*names)
        folder.mkdir(parents=True)
        return folder

    def execute(self, program, folder, patience=1.0, **variables):
        """One run; traced where `variables` has LD_PRELOAD. Cut short by the budget it is no result: None."""
        allowed = patience * program.limit_seconds
        limit = min(allowed, max(1.0, self.left()))
        outcome = execution.run(program, {**self.base, **variables}, folder, limit)
        return None if outcome.hung and limit < allowed else outcome

    def traced(self, program, folder, patience=1.0, **more):
        (folder / "traces").mkdir()
        return self.execute(program, folder, patience, LD_PRELOAD=str(self.library),
                            UVMTRACE_OUT=str(folder / "traces" / "trace.pb"), **more)

    def tell(self, row, what, *outcomes):
        """For whoever has to find out: the ends of both outputs."""
        print(f"=== {row.name}: {what}", file=self.problems)
        for outcome in outcomes:
            print(f"--- exit status {outcome.status}, after {outcome.seconds:.1f} s; end of stdout:\n"
                  f"{outcome.stdout[-1500:]}\n--- end of stderr:\n{outcome.stderr[-3000:]}\n"
                  f"--- uvmtrace's own lines: {outcome.own_lines[-20:]}", file=self.problems)
        self.problems.flush()

    # --- the audit ---

    def look(self, program):
        """One run under the audit. Nothing of it is timed."""
        if program.not_here or self.left() < 10:
            return None, {}
        folder = self.folder(program.name, "audit")
        outcome = self.traced(program, folder, COLD_DISK_PATIENCE, UVMTRACE_AUDIT="1")
        if outcome is None:
            return None, {}
        audit = traces.read_audit(self.trace_to_json, folder / "traces")
        if traces.gaps(audit.get("functions", {})):
            audit["static_runtimes"] = traces.static_runtimes(audit["files"])
        audit.pop("files", None)
        if not self.arguments.keep_traces:
            shutil.rmtree(folder)
        return outcome, audit

    def audits(self):
        with concurrent.futures.ThreadPoolExecutor(self.arguments.audit_at_once) as pool:
            looks = list(pool.map(self.look, self.chosen))
        print(f"audit: {time.monotonic() - self.started:.0f} s", file=sys.stderr, flush=True)
        for row, (_, audit) in zip(self.rows, looks):
            row.audit = audit
        return [outcome for outcome, _ in looks]

    # --- the pairs ---

    def pair(self, program, number):
        """(untraced, traced, the traced one's folder), or None where the time was over."""
        plain_folder = self.folder(program.name, f"{number}.untraced")
        traced_folder = self.folder(program.name, f"{number}.traced")
        if number % 2 == 0:
            plain = self.execute(program, plain_folder)
            traced = plain and self.traced(program, traced_folder)
        else:
            traced = self.traced(program, traced_folder)
            plain = traced and self.execute(program, plain_folder)
        return (plain, traced, traced_folder) if plain and traced else None

    def measure(self, program, row, audited):
        if program.not_here:
            row.state, row.why = "skipped", program.not_here
            return
        rounds = min(self.arguments.rounds.get(program.name, self.arguments.rounds[""]), program.rounds)
        first = last_folder = None
        lasted = 0.0
        varies = set()
        for number in range(rounds):
            if self.left() < max(10.0, 1.2 * lasted):
                break
            start = time.monotonic()
            done = self.pair(program, number)
            lasted = time.monotonic() - start
            if done is None:
                break
            plain, traced, last_folder = done
            first = first or plain
            varies.update(execution.differences(first, plain))
            self.take(row, program, plain, traced)
            if row.state != "ran" or traced.hung:
                break
        if row.state == "left out":
            row.why = "the time was over"
        if row.state != "ran":
            return
        # What the untraced runs do not agree on themselves says nothing of the tracer.
        row.varies = sorted(varies)
        row.differences = {name: count for name, count in row.differences.items() if name not in varies}
        if audited is not None:
            row.audit_differences = [name for name in execution.differences(first, audited) if name not in varies]
            if row.audit_differences:
                self.tell(row, f"with the audit: {', '.join(row.audit_differences)} differs", first, audited)
        row.report = traces.read_report(self.report, last_folder / "traces")

    def take(self, row, program, plain, traced):
        """Adds a pair to the row."""
        if plain.skipped:
            row.state, row.why = "skipped", plain.why()
            return
        if plain.status != 0:
            row.state = "hangs" if plain.hung else "fails"
            row.why = f"untraced: {plain.status if isinstance(plain.status, str) else plain.why()}"
            self.tell(row, "untraced", plain, traced)
            return
        row.state = "ran"
        row.pairs += 1
        row.stdout = plain.stdout[-2000:]
        found = execution.differences(plain, traced)
        for name in found:
            row.differences[name] = row.differences.get(name, 0) + 1
        if found:
            self.tell(row, f"{', '.join(found)} differs: untraced, then traced", plain, traced)
        row.own_lines = sorted({*row.own_lines, *traced.own_lines})
        row.masked = sorted({*row.masked, *(mask.reason for mask in program.masks
                                            if mask.replacement in plain.stdout + plain.stderr)})
        if traced.status != 0:
            return  # its times are not those of the same work
        row.untraced_seconds.append(plain.seconds)
        row.ratios.append(traced.seconds / plain.seconds)
        for region, seconds in plain.regions.items():
            if traced.regions.get(region) is not None and seconds > 0:
                row.untraced_regions.setdefault(region, []).append(seconds)
                row.region_ratios.setdefault(region, []).append(traced.regions[region] / seconds)

    def run(self):
        try:
            audited = self.audits()
            for program, row, outcome in zip(self.chosen, self.rows, audited):
                self.measure(program, row, outcome)
                if not self.arguments.keep_traces:
                    shutil.rmtree(self.scratch / program.name, ignore_errors=True)
                self.write()
                print(f"{row.name}: {table.same_result(dataclasses.asdict(row))}; process "
                      f"{overhead.spread(row.ratios)}, at {time.monotonic() - self.started:.0f} s", file=sys.stderr,
                      flush=True)
        finally:
            if self.arguments.keep_traces:
                shutil.copytree(self.scratch, self.out / "runs", dirs_exist_ok=True,
                                ignore=shutil.ignore_patterns("caches"))
            shutil.rmtree(self.scratch, ignore_errors=True)
            self.problems.close()
        return [dataclasses.asdict(row) for row in self.rows]

    def write(self):
        write(self.out, [dataclasses.asdict(row) for row in self.rows], [self.machine], self.arguments.rounds[""],
              bool(self.arguments.simulate))


def write(out, rows, machines, rounds, simulated):
    everything = {"machines": machines, "rounds": rounds, "simulated": simulated, "rows": rows}
    for name, text in (("programs.md", table.page(rows, machines, rounds)),
                       ("matrix.json", json.dumps(everything, indent=1))):
        unfinished = out / f".{name}"
        unfinished.write_text(text)
        unfinished.rename(out / name)  # whoever ends us leaves the one before


def machine(arguments):
    if arguments.simulate:
        text = overhead.machine(arguments)
    else:
        try:
            text = measure.machine()
        except (OSError, subprocess.CalledProcessError) as error:
            text = f"nvidia-smi: {error}; Linux {platform.release()}, {os.cpu_count()} CPU cores"
    code = ("import importlib.metadata as m, platform as p, sys\nprint('Python', p.python_version())\n"
            "for name in sys.argv[1:]:\n try: print(name, m.version(name))\n except m.PackageNotFoundError: pass")
    done = subprocess.run([arguments.python, "-c", code, *PACKAGES], capture_output=True, text=True)
    return f"{text}. {', '.join(done.stdout.splitlines())}."


def problems(rows, simulated):
    """What makes the exit status 1."""
    for row in rows:
        if row["state"] in ("fails", "hangs", "left out"):
            yield f"{row['name']} {row['state']}: {row['why']}"
        if row["state"] != "ran":
            continue
        for name in [*row["differences"], *row["audit_differences"]]:
            yield f"{row['name']}: {name} differs"
        if "unread" in row["report"] or "unread" in row["audit"]:
            yield f"{row['name']}: {row['report'].get('unread') or row['audit']['unread']}"
        functions = row["audit"].get("functions", {})
        if not functions and not simulated:  # the simulator's CUPTI cannot witness
            yield f"{row['name']}: there is no audit: {'; '.join(row['audit'].get('states', []))}"
        if traces.gaps(functions) and not traces.explained(row["audit"]):
            yield f"{row['name']}: a gap in the audit is not explained"


def rounds_of(text):
    """3, or 3,torch_steps=9: the number under "" is everybody's."""
    rounds = {}
    for part in text.split(","):
        name, _, count = part.rpartition("=")
        rounds[name] = int(count)
    rounds.setdefault("", 3)
    if min(rounds.values()) < 1:
        raise argparse.ArgumentTypeError("at least one round")
    return rounds


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, help="folder with bin/ and lib/: a build or a bundle")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--only", help="names of programs, with commas between")
    parser.add_argument("--rounds", type=rounds_of, default=rounds_of("3"))
    parser.add_argument("--budget", type=float, default=540, help="seconds for all (default 540)")
    parser.add_argument("--audit-at-once", type=int, default=AUDIT_AT_ONCE)
    parser.add_argument("--python", default=sys.executable, help="the Python that has PyTorch and the others")
    parser.add_argument("--simulate", metavar="PROFILE", help="on the simulator; what needs a GPU is skipped")
    parser.add_argument("--keep-traces", action="store_true", help="under OUT/runs")
    parser.add_argument("--merge", type=pathlib.Path, nargs="+", help="matrix.json of earlier runs: run nothing")
    arguments = parser.parse_args(argv)
    if not arguments.merge and not arguments.build:
        parser.error("--build or --merge is needed")
    if arguments.build and not arguments.merge:
        known = programs(arguments.build.resolve(), arguments.python, arguments.simulate)
        names = arguments.only.split(",") if arguments.only else [program.name for program in known]
        unknown = {*names, *filter(None, arguments.rounds)} - {program.name for program in known}
        if unknown:
            parser.error(f"there is no program {', '.join(sorted(unknown))}; known are "
                         f"{', '.join(program.name for program in known)}")
        arguments.chosen = [program for program in known if program.name in names]
    return arguments


def main(argv=None):
    arguments = parse(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.merge:
        runs = [json.loads(path.read_text()) for path in arguments.merge]
        rows, machines = runs[0]["rows"], list(runs[0]["machines"])
        for run in runs[1:]:
            rows = table.merge(rows, run["rows"])
            machines += [text for text in run["machines"] if text not in machines]
        simulated = any(run["simulated"] for run in runs)
        write(arguments.out, rows, machines, runs[0]["rounds"], simulated)
    else:
        simulated = bool(arguments.simulate)
        rows = Matrix(arguments, arguments.chosen).run()
    found = list(problems(rows, simulated))
    for problem in found:
        print(f"matrix: {problem}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
