"""Runs an example, with and without the tracer, and reads what both say about it."""

import json
import os
import pathlib
import re
import subprocess
import sys
import time


EXAMPLES = pathlib.Path(__file__).resolve().parent.parent


class Failed(Exception):
    """An example ended with an error; the message has its last words. `rows` are what it had written until then."""

    def __init__(self, message, rows=()):
        super().__init__(message)
        self.rows = rows


class Runner:
    def __init__(self, build, out, simulate=None, timeout=120, deadline=None):
        self.build = pathlib.Path(build).resolve()
        self.out = pathlib.Path(out).resolve()
        self.simulate = simulate
        self.timeout = timeout
        self.deadline = deadline  # time.monotonic() at which the last run ends
        self.setup = None
        self.commands = []
        self.seconds = []  # that each command took, start-up included; None if it failed
        self.failures = []  # what should not have happened: a refusal may happen
        self.out.mkdir(parents=True, exist_ok=True)

    def require_time(self, seconds):
        """Raises Failed if less is left until the deadline."""
        if self.deadline is not None and self.deadline - time.monotonic() < seconds:
            raise Failed("not run: no time was left")

    def environment(self):
        variables = dict(os.environ, UVM_TOY_DECODER=str(self.build / "bin" / "examples" / "toy_decoder.so"))
        if self.simulate:
            simulator = self.build / "lib" / "uvmtrace" / "sim"
            variables["LD_LIBRARY_PATH"] = f"{simulator}:{variables.get('LD_LIBRARY_PATH', '')}".rstrip(":")
            variables["UVMTRACE_SIM_PROFILE"] = self.simulate
            variables.setdefault("UVMTRACE_SIM_MEMORY", "64MiB")  # for which the tables are scaled down
        return variables

    def program(self, name):
        """The command of an example: a binary, or a script of examples/serve."""
        if name.endswith(".py"):
            return [sys.executable, str(EXAMPLES / "serve" / name)]
        return [str(self.build / "bin" / "examples" / name)]

    def run(self, name, arguments, label, variables=None, prefix=()):
        """The rows that the example wrote, once, untraced."""
        environment = dict(self.environment(), **(variables or {}))
        if self.simulate and not name.endswith(".py"):
            # Examples time themselves by CUDA events. Without waiting these tell modelled time and nothing else: the same in
            # every run, on a loaded machine too. A Python program looks at its own clock.
            environment.setdefault("UVMTRACE_SIM_TIME_SCALE", "0")
        return self._run(name, arguments, label, environment, list(prefix))

    def trace(self, name, arguments, label, variables=None):
        """(rows, report) of a traced run."""
        trace = self.out / "traces" / f"{slug(label)}.pb"
        trace.parent.mkdir(exist_ok=True)
        environment = dict(self.environment(), LD_PRELOAD=str(self.build / "lib" / "libuvmtrace.so"),
                           UVMTRACE_OUT=str(trace), UVMTRACE_LOG="quiet", **(variables or {}))
        if self.simulate:
            # A busy machine's simulator runs a prefetch well after its call: the default detail, which lays migrations by the
            # times of the calls, would miss some.
            environment.setdefault("UVMTRACE_DETAIL", "full")
        rows = self._run(name, arguments, label, environment, [])
        done = subprocess.run([str(self.build / "bin" / "uvmtrace-report"), "--format", "json", str(trace)],
                              capture_output=True, text=True, timeout=self.timeout, check=False)
        trace.unlink(missing_ok=True)  # large, and the report has it all
        if done.returncode != 0:
            self.failures.append(f"uvmtrace-report on {label}")
            raise Failed(f"uvmtrace-report on {label}: {done.stderr.strip()[-300:]}")
        return rows, json.loads(done.stdout)

    def _run(self, name, arguments, label, environment, prefix):
        self.require_time(1)
        left = self.timeout if self.deadline is None else self.deadline - time.monotonic()
        result = self.out / "json" / f"{slug(label)}.json"
        result.parent.mkdir(exist_ok=True)
        result.unlink(missing_ok=True)
        command = prefix + self.program(name) + [*[str(word) for word in arguments], "--json", str(result)]
        self.commands.append(" ".join([name] + [str(word) for word in arguments]))
        print(f"  {self.commands[-1]}", file=sys.stderr, flush=True)
        start = time.monotonic()
        self.seconds.append(None)
        try:
            done = subprocess.run(command, env=environment, capture_output=True, text=True,
                                  timeout=min(self.timeout, left), check=False)
        except subprocess.TimeoutExpired as expired:
            if left < self.timeout:
                raise Failed("given up: no time was left", self._written(result)) from expired
            self.failures.append(f"{self.commands[-1]}: timeout")
            said = (expired.stdout or b"").decode(errors="replace").strip().splitlines()[-1:] or ["nothing"]
            raise Failed(f"{self.commands[-1]}: took longer than {self.timeout} s; it last said: {said[0]}",
                         self._written(result)) from expired
        if done.returncode != 0:
            last_words = done.stderr.strip().splitlines()[-1:] or ["no message"]
            if done.returncode != 2:  # 2: the example refused, as on a machine with one NUMA node
                self.failures.append(f"{self.commands[-1]}: {last_words[0]}")
            raise Failed(f"{self.commands[-1]}: exit {done.returncode}: {last_words[0]}", self._written(result))
        self.seconds[-1] = time.monotonic() - start
        rows = self._written(result)
        if not rows:
            raise Failed(f"{self.commands[-1]}: wrote no rows")
        return rows

    def _written(self, result):
        """The rows in an example's JSON; none if it has written none."""
        if not result.exists():
            return []
        data = json.loads(result.read_text())
        self.setup = self.setup or data.get("setup")
        return data["rows"]


def slug(label):
    return re.sub(r"[^A-Za-z0-9]+", "_", label).strip("_").lower()


def first_finding(report):
    """What the report would have its reader change first."""
    for finding in report.get("findings", []):
        gain = finding.get("gain_ns")
        saves = f" (would save {int(gain) / 1e6:.3g} ms)" if gain is not None else ""
        return f"{finding.get('title', finding.get('id'))}{saves}"
    return "none"


def headline(report):
    """The report's first sentence: what cost most."""
    if report.get("headline"):
        return report["headline"]
    sentences = [sentence for sentence in report.get("verdict", []) if not sentence.startswith("SIMULATED")]
    return (sentences or ["nothing"])[0]


def compare_bytes(rows, report):
    """(equal, sentence): the traced migrations against the example's own ledger."""
    totals = report.get("totals", {})
    words = []
    equal = True
    for key, name in (("host_to_device_bytes", "to the GPU"), ("device_to_host_bytes", "to the host")):
        expected = sum(int(row.get(key, 0)) for row in rows if row.get("managed", True))
        traced = int(totals.get(key, 0))
        equal = equal and expected == traced
        words.append(f"{name} {traced}" + ("" if expected == traced else f", the ledger says {expected}"))
    return equal, ("equal: " if equal else "DIFFERENT: ") + "; ".join(words)


def faults(report):
    totals = report.get("totals", {})
    return totals.get("gpu_fault_entries", totals.get("gpu_fault_groups", 0))


def bh_seconds(report):
    threads = [row for row in report.get("bh_threads", []) if "cpu_ns" in row]
    return sum(int(row["cpu_ns"]) for row in threads) / 1e9 if threads else None
