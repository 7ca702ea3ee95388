"""The offset table of kv_remap never waits on the host, however many steps it takes; mapping inline waits at each swap.

  examples_waits.py --build BUILD --counter LIBRARY

Two runs of each design, one with twice the steps: the calls that wait (LIBRARY counts them) and, in the trace, the calls that
block may not become more for the tables and for unified memory.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile


def run(build, folder, design, steps, preload):
    environment = dict(os.environ, LD_LIBRARY_PATH=str(build / "lib" / "uvmtrace" / "sim"), UVMTRACE_SIM_PROFILE="tiny",
                       UVMTRACE_OUT=str(folder / "trace.pb"), UVMTRACE_LOG="quiet", LD_PRELOAD=str(preload))
    done = subprocess.run([build / "bin" / "examples" / "kv_remap", "--blocks", "40", "--slots", "8", "--window", "3", "--fresh",
                           "1", "--steps", str(steps), "--block-bytes", "2MiB" if design.startswith("vmm") else "64KiB",
                           "--design", design], env=environment,
                          capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{design}: exit {done.returncode}: {done.stderr}")
    return done.stderr


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, required=True)
    parser.add_argument("--counter", type=pathlib.Path, required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for design, waits in (("table", False), ("table-ahead", False), ("uvm-prefetch", False), ("vmm-inline", True)):
            counts = [int(re.search(r"waits: (\d+)", run(options.build, folder, design, steps, options.counter)).group(1))
                      for steps in (12, 24)]
            if (counts[1] > counts[0]) != waits:
                sys.exit(f"{design}: {counts[0]} waits in 12 steps, {counts[1]} in 24")
            if waits:
                continue
            blocking = []
            for steps in (12, 24):
                run(options.build, folder, design, steps, options.build / "lib" / "libuvmtrace.so")
                done = subprocess.run([options.build / "bin" / "uvmtrace-report", "--format", "json", folder / "trace.pb"],
                                      capture_output=True, text=True, check=True)
                calls = {row["name"]: int(row["count"]) for row in json.loads(done.stdout)["calls"]}
                blocking.append({name: count for name, count in calls.items()
                                 if "Async" not in name and ("Synchronize" in name or "Memcpy" in name)})
            if blocking[0] != blocking[1]:
                sys.exit(f"{design}: the trace's blocking calls depend on the steps: {blocking}")
            print(f"{design}: {counts[0]} waits, in 12 steps and in 24; blocking calls in the trace: {blocking[0]}")


if __name__ == "__main__":
    main()
