#!/usr/bin/env python3
"""Pinned zero-copy on a real GPU: are the link's bytes in the trace, and what does it cost to look?

  tests/gpu/link_check.py --build build/default [--nvcc nvcc]

Compiles link_check.cu, runs it with and without libuvmtrace.so, reads the traces with libprotobuf and prints a table. Exits
1 if the bytes are off by more than 3 %, or if kernels, copies, launches or samples of the driver's threads are missing.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "programs"))
from traces import Trace  # noqa: E402

# Packet headers, as measured on an H100 (PCIe 5.0): of 128-byte reads in place and of 256-byte copies.
IN_PLACE, COPIED = 1.156, 1.078


def run(program, mode, library=None, trace=None, **settings):
    environment = dict(os.environ)
    if library:
        environment.update(LD_PRELOAD=str(library), UVMTRACE_OUT=str(trace), **settings)
    done = subprocess.run([program, mode], env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default="build/default")
    parser.add_argument("--nvcc", default=os.path.join(os.environ.get("CUDA_HOME", "/usr/local/cuda"), "bin/nvcc"))
    args = parser.parse_args()
    build = args.build.resolve()
    library = build / "lib" / "libuvmtrace.so"
    args.trace_to_json = build / "tests" / "programs" / "bin" / "trace_to_json"
    failures = []

    def row(what, value, good=True):
        print(f"{what:44} {value}{'' if good else '   <-- FAILED'}")
        if not good:
            failures.append(what)

    with tempfile.TemporaryDirectory() as folder:
        program = os.path.join(folder, "link_check")
        subprocess.run([args.nvcc, "-O2", "-cudart", "shared", "-o", program, str(HERE / "link_check.cu")], check=True)
        path = os.path.join(folder, "trace.pb")
        truth = run(program, "read", library, path, UVMTRACE_KERNELS="1")
        trace = Trace(args, path)
        links = trace.rows_of("link_samples")
        row("state of link_counters", " ".join(trace.states.get("link_counters", ("missing",))),
            trace.states.get("link_counters", ("",))[0] == "ACTIVE")
        if links:
            expected = truth["in_place"] * IN_PLACE + truth["copied"] * COPIED
            received = links[-1].get("received_bytes", 0)
            row("link, received / expected with headers", f"{received / expected:.4f}", abs(received / expected - 1) < 0.03)
            in_place = (received - truth["copied"] * COPIED) / IN_PLACE
            row("read in place, GiB (true: 8)", f"{in_place / 2**30:.3f}", abs(in_place / truth["in_place"] - 1) < 0.03)
            gaps = [(b["time_ns"] - a["time_ns"]) / 1e6 for a, b in zip(links, links[1:])]
            row("samples; longest gap, ms", f"{len(links)}; {max(gaps, default=0):.1f}")
            row("unsure, ms", links[-1].get("unsure_ns", 0) / 1e6, links[-1].get("unsure_ns", 0) == 0)
        for kind, least in (("kernels", 4), ("copies", 1), ("launches", 4), ("synchronizations", 4), ("thread_samples", 2),
                            ("process_samples", 2), ("device_memory_samples", 1), ("host_memory_samples", 1)):
            count = len(trace.rows_of(kind))
            row(kind, count, count >= least)
        copies = [copy for copy in trace.rows_of("copies") if copy["kind"] == "COPY_KIND_HOST_TO_DEVICE"]
        row("bytes of the copy; its source", f"{sum(c['bytes'] for c in copies)}; {[c['source_memory'] for c in copies]}",
            sum(c["bytes"] for c in copies) >= truth["copied"])
        correlations = {launch["correlation"] for launch in trace.rows_of("launches")}
        joined = sum(kernel.get("correlation") in correlations for kernel in trace.rows_of("kernels"))
        row("kernels joined to a launch", f"{joined} of {len(trace.rows_of('kernels'))}", joined >= 4)
        for device in trace.devices:
            row("link of the device", " ".join(f"{key} {device.get(key, '-')}" for key in
                ("link_generation", "link_width", "link_generation_max", "link_width_max", "host_numa_node")))
        for name in ("cupti.launches", "cupti.synchronizations"):
            row(f"state of {name}", " ".join(trace.states.get(name, ("missing",))))
        # Interleaved, because the machine may do other things.
        ways = {"untraced": None, "kernels and copies (default)": {}, "launches and waits too": {"UVMTRACE_KERNELS": "1"},
                "no kernels": {"UVMTRACE_KERNELS": "0"}, "calls alone": {"UVMTRACE_DETAIL": "calls"}}
        spins = {way: [] for way in ways}
        for _ in range(3):
            for way, settings in ways.items():
                traced = () if settings is None else (library, path)
                spins[way].append(run(program, "spin", *traced, **(settings or {}))["launch_us"])
        untraced = sorted(spins["untraced"])[1]
        for way, values in spins.items():
            values.sort()
            row(f"launch and wait, {way}", f"{values[1]:.2f} us ({(values[1] / untraced - 1) * 100:+.1f} %; "
                f"{values[0]:.2f}..{values[-1]:.2f})")
        # Of the sampler thread: what starting costs, and what each second costs after that.
        run(program, "wait", library, path)
        tools = Trace(args, path).rows_of("tool_samples")
        first, last = next(tool for tool in tools if tool.get("sampler_ns")), tools[-1]
        seconds = (last["time_ns"] - first["time_ns"]) / 1e9
        spent = last["sampler_ns"] - first["sampler_ns"]
        row("sampler thread, to start, ms", f"{first['sampler_ns'] / 1e6:.1f}")
        row("sampler thread after that, % of a core", f"{spent / 1e7 / seconds:.2f} over {seconds:.1f} s")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
