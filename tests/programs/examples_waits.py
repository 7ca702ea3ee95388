"""The offset table of kv_remap never waits on the host, however many steps it takes; mapping inline waits at each swap.

  examples_waits.py --build BUILD --counter LIBRARY

Two runs of each design, one with twice the steps. The waits that the trace holds (CUPTI's records of waits for an event, a
stream or the device, and calls that block) may not become more for the tables and for unified memory, and must for mapping
inline. LIBRARY counts the same calls without the tracer: both must agree on who waits.
"""

import argparse
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import traces

STEPS = (12, 24)
HOST_WAITS = {f"SYNCHRONIZATION_KIND_{name}" for name in ("EVENT", "STREAM", "CONTEXT")}


def run(build, folder, design, steps, preload):
    environment = dict(os.environ, LD_LIBRARY_PATH=str(build / "lib" / "uvmtrace" / "sim"), UVMTRACE_SIM_PROFILE="tiny",
                       UVMTRACE_SIM_MEMORY="256MiB", UVMTRACE_OUT=str(folder / "trace.pb"), UVMTRACE_LOG="quiet",
                       UVMTRACE_KERNELS="1", LD_PRELOAD=str(preload))  # with kernels come the waits
    done = subprocess.run([build / "bin" / "examples" / "kv_remap", "--blocks", "40", "--slots", "8", "--window", "3", "--fresh",
                           "1", "--steps", str(steps), "--block-bytes", "2MiB", "--kernel-us", "50", "--design", design],
                          env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{design}: exit {done.returncode}: {done.stderr}")
    return done.stderr


def waits_in_trace(options, folder):
    """(host waits that CUPTI recorded, blocking calls, kernels)"""
    trace = traces.Trace(options, str(folder / "trace.pb"))
    waits = [row for row in trace.rows_of("synchronizations") if row["kind"] in HOST_WAITS]
    calls = [call for call in trace.calls if "Async" not in call["function"]
             and ("Synchronize" in call["function"] or "Memcpy" in call["function"])]
    return len(waits), len(calls), len(trace.rows_of("kernels"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, required=True)
    parser.add_argument("--counter", type=pathlib.Path, required=True)
    options = parser.parse_args()
    options.trace_to_json = options.build / "tests" / "programs" / "bin" / "trace_to_json"
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for design, waits in (("table", False), ("table-ahead", False), ("table-defrag", False), ("uvm-prefetch", False),
                              ("vmm-inline", True)):
            counts = [int(re.search(r"waits: (\d+)", run(options.build, folder, design, steps, options.counter)).group(1))
                      for steps in STEPS]
            if (counts[1] > counts[0]) != waits:
                sys.exit(f"{design}: {counts[0]} waits in {STEPS[0]} steps, {counts[1]} in {STEPS[1]}")
            traced = []
            for steps in STEPS:
                run(options.build, folder, design, steps, options.build / "lib" / "libuvmtrace.so")
                traced.append(waits_in_trace(options, folder))
            (few, few_calls, few_kernels), (many, many_calls, many_kernels) = traced
            if many_kernels - few_kernels < STEPS[1] - STEPS[0]:
                sys.exit(f"{design}: the trace has {few_kernels} and {many_kernels} kernels: steps are missing")
            if few == 0:
                sys.exit(f"{design}: the trace has no wait at all, not even that for the end")
            if (many > few) != waits or (not waits and many_calls != few_calls):
                sys.exit(f"{design}: waits in the trace: {few} and {many}; blocking calls: {few_calls} and {many_calls}")
            print(f"{design}: waits in the trace: {few} in {STEPS[0]} steps, {many} in {STEPS[1]}; {counts} counted beside it")


if __name__ == "__main__":
    main()
