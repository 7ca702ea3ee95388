#!/usr/bin/env python3
"""What an intercepted call costs a Python program when its native and its Python stack are recorded.

  bench/python_call_bench.py --library libuvmtrace.so --cuda FOLDER_OF_A_LIBCUDA_THAT_DOES_NOTHING [--python PYTHON ...]

Like call_bench: pairs of processes with and without the library, in turns, so that whatever else the machine does falls
on both. Each calls cuMemHostUnregister by ctypes, 20 Python functions deep, in batches that a ring holds. Printed for
each interpreter: nanoseconds that the library adds to a call, the median of the pairs, their quartiles, and the Python
frames that the trace then has. Exit code 1: more than --limit-ns, or the frames are not there.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

FRAMES = 20

CHILD = """
import ctypes, time
cuda = ctypes.CDLL("libcuda.so.1")
unregister = cuda.cuMemHostUnregister
unregister.argtypes = [ctypes.c_void_p]

def batch():
    start = time.perf_counter_ns()
    for _ in range(200):
        unregister(None)
    return (time.perf_counter_ns() - start) / 200

def deeper(left):
    return batch() if left == 0 else deeper(left - 1)

times = []
for _ in range(40):
    time.sleep(0.06)  # the writer drains every 50 ms
    times.append(deeper(%d))
times.sort()
print(times[len(times) // 2])
""" % (FRAMES - 3)  # the module, batch() and the deepest deeper() are frames too


def run(python, arguments, trace):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("UVMTRACE_", "LD_PRELOAD"))}
    environment["LD_LIBRARY_PATH"] = str(arguments.cuda)
    if trace is not None:
        environment.update(LD_PRELOAD=str(arguments.library), UVMTRACE_OUT=str(trace), UVMTRACE_LOG="quiet")
    done = subprocess.run([python, "-c", CHILD], env=environment, capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        sys.exit(f"python_call_bench: {python} failed with {done.returncode}: {done.stderr.strip()[-500:]}")
    return float(done.stdout)


def frames_in(trace, trace_to_json):
    """How many Python frames the deepest stack of the trace has."""
    done = subprocess.run([trace_to_json, trace], capture_output=True, check=True)
    return max((len(stack.get("code", [])) for chunk in json.loads(done.stdout)["chunk"]
                for stack in chunk.get("stack", [])), default=0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", type=pathlib.Path, required=True)
    parser.add_argument("--cuda", type=pathlib.Path, required=True)
    parser.add_argument("--trace-to-json", type=pathlib.Path, required=True, help="the tests' trace_to_json")
    parser.add_argument("--python", nargs="+", default=[sys.executable])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--limit-ns", type=float, default=5000)
    arguments = parser.parse_args()
    failed = False
    for python in arguments.python:
        with tempfile.TemporaryDirectory() as folder:
            trace = pathlib.Path(folder) / "trace.pb"
            added, base = [], []
            for pair in range(arguments.pairs):
                times = {traced: run(python, arguments, trace if traced else None)
                         for traced in ((False, True) if pair % 2 == 0 else (True, False))}
                added.append(times[True] - times[False])
                base.append(times[False])
            frames = frames_in(trace, arguments.trace_to_json)
        low, median, high = statistics.quantiles(added, n=4)
        print(f"{python}: {statistics.median(base):.0f} ns a call {median:+.0f} ns (quartiles {low:+.0f} .. {high:+.0f}, "
              f"{arguments.pairs} pairs, limit {arguments.limit_ns:.0f}), {frames} Python frames")
        failed = failed or median > arguments.limit_ns or frames < FRAMES
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
