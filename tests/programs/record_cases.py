"""What a trace holds besides calls and faults, as cases of runner.py: ranges, the profiler's switch, what there was when
memory ran out, bytes over the link. All on the simulator.

  record_cases.py --case NAME     run one
  record_cases.py --list          print the names
"""

import os
import subprocess
import sys

import runner
from runner import SIMULATED, report
from traces import check, names

MIB = 1 << 20


def annotations(trace):
    name = lambda row: trace.strings.get(row.get("name", 0))
    domain = lambda row: trace.strings.get(row.get("domain", 0))
    return [(row["kind"].replace("ANNOTATION_KIND_", ""), name(row), domain(row))
            for row in trace.rows_of("annotations")]


RANGES = [("PUSH", "load", None), ("START", "w\u00e4rmen", None), ("PUSH", "step", "engine"), ("MARK", "step", "engine"),
          ("POP", None, "engine"), ("END", None, None), ("MARK", "x" * 256, None), ("POP", None, None)]


def ranges(run):
    trace = run.trace()
    check(annotations(trace) == RANGES, f"ranges: {annotations(trace)}")
    rows = trace.rows_of("annotations")
    check(rows[1]["range"] == rows[5]["range"] != 0, f"the range that is ended is another: {rows}")
    check(len({row["tid"] for row in rows}) == 1, rows)
    times = [row["time_ns"] for row in rows]
    check(times == sorted(times), times)
    check(trace.states["nvtx"][0] == "ACTIVE", trace.states["nvtx"])
    check(not trace.losses, trace.losses)
    phases = {row["name"]: row["origin"] for row in report(run)["phases"]}
    check(phases == {"load": "nvtx", "w\u00e4rmen": "nvtx", "engine/step": "nvtx"}, phases)


def ranges_of_another_tool(run):
    """NVTX_INJECTION64_PATH names a library: it gets the ranges, and the trace says so."""
    trace = run.trace()
    check(annotations(trace) == [], f"ranges: {annotations(trace)}")
    check(trace.states["nvtx"][0] == "UNAVAILABLE", trace.states["nvtx"])


def profiler(run):
    calls = names(run.trace())
    check(calls == ["cudaFree", "cudaProfilerStart", "cudaMalloc", "cudaFree", "cudaProfilerStop"], calls)
    phases = [(row["name"], row["origin"], int(row["count"])) for row in report(run)["phases"]]
    check(("profiler", "profiler", 1) in phases, phases)


def first_screen(run):
    done = subprocess.run([run.args.report, "--sysroot", "/nonexistent", os.path.join(run.folder, "trace.pb")],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    check(done.returncode == 0, f"uvmtrace-report: {done.stderr}")
    return " ".join(done.stdout.split())


def failed(function, byte_count, says, holder, **more):
    """A record for each failure; the process was killed just after the last, without a chance to write. `says` is in the
    report's cause and on its first screen, `holder` is the kind of memory that held most."""
    def expect(run):
        trace = run.trace()
        rows = trace.rows_of("allocation_failures")
        check(len(rows) == len([call for call in trace.calls if call["result"] == 2]) >= 1, f"records: {rows}")
        row = rows[-1]
        check(trace.functions[row["function"]] == function, f"{trace.functions[row['function']]}: {row}")
        check(row["result"] == 2 and row.get("bytes", 0) == byte_count, row)
        call = [call for call in trace.calls if call["result"] == 2][-1]
        check(call["function"] == function and call["start_ns"] == row["start_ns"] and call["tid"] == row["tid"], call)
        check(call["stack"] != 0, f"the failing call has no stack: {call}")
        check(row.get("device", 0) == 0 and row["total_bytes"] > 0, row)
        check(row["host_resident_bytes"] > 0 and row["host_available_bytes"] > 0, row)
        for name, test in more.items():
            check(test(row.get(name, 0)), f"{name} is {row.get(name, 0)}: {row}")
        told = report(run)["out_of_memory"][0]
        check(told["function"] == function and int(told.get("asked_bytes", 0)) == byte_count, told)
        check(says in told["cause"], f"the cause is: {told['cause']}")
        holders = told.get("holders", [])
        check([h["kind"] for h in holders[:1]] == [holder] * (holder is not None), holders)
        check([int(h["bytes"]) for h in holders] == sorted((int(h["bytes"]) for h in holders), reverse=True), holders)
        check(all(h.get("library", "record_host").endswith("record_host") for h in holders), holders)
        screen = first_screen(run)
        check("It did not fit" in screen and says in screen, f"the first screen: {screen}")
    return expect


def link(run):
    """The counters see what no fault, no migration and no copy shows."""
    trace = run.trace()
    rows = trace.rows_of("link_samples")
    check(len(rows) > 10, f"{len(rows)} samples of the link")
    received = rows[-1].get("received_bytes", 0)
    # 4 reads in place of 64 MiB in packets with 15.6 % of headers, one copy of 16 MiB with 7.8 %.
    expected = 4 * 64 * MIB * 1.156 + 16 * MIB * 1.078
    check(abs(received / expected - 1) < 0.01, f"{received} bytes, not {expected:.0f}")
    check(rows[-1].get("sent_bytes", 0) < MIB, rows[-1])
    series = [row.get("received_bytes", 0) for row in rows]
    check(series == sorted(series), f"not cumulative: {series}")
    check(trace.states["link_counters"][0] == "ACTIVE", trace.states)
    check(len(trace.rows_of("kernels")) == 4, f"kernels: {trace.rows_of('kernels')}")
    check(trace.rows_of("process_samples") and trace.rows_of("thread_samples"), "no samples of the process or threads")
    check(trace.rows_of("host_memory_samples")[-1]["resident_bytes"] > 64 * MIB, trace.rows_of("host_memory_samples"))
    memory = trace.rows_of("device_memory_samples")
    check(memory and memory[-1]["total_bytes"] > memory[-1]["free_bytes"], memory)
    rows = {(row["way"], row["direction"]): int(row["bytes"]) for row in report(run)["traffic"]}
    check(set(rows) == {("pinned_copy", "host_to_device"), ("in_place", "host_to_device")}, rows)
    check(rows["pinned_copy", "host_to_device"] == 16 * MIB, rows)
    check(abs(rows["in_place", "host_to_device"] / (4 * 64 * MIB) - 1) < 0.02, rows)


def case(name, expectation, **environment):
    return ("record_host", [name], expectation, {"env": {**SIMULATED, **environment}})


CASES = {
    "ranges": case("ranges", ranges),
    "ranges_of_another_tool": case("ranges", ranges_of_another_tool, NVTX_INJECTION64_PATH="libm.so.6"),
    "profiler": case("profiler", profiler),
    "no_memory.pool": case("pool", failed("cudaMalloc", 20 * MIB, "would have fitted", "device", free_bytes=lambda free: free < 20 * MIB)),
    "no_memory.workspace": case("workspace", failed("cudaMalloc", 16 * MIB, "would have fitted", "device", free_bytes=lambda free: free < 16 * MIB)),
    "no_memory.vmm": case("vmm", failed("cuMemCreate", 32 * MIB, "32.0 MiB too few", "physical", free_bytes=lambda free: free < 32 * MIB)),
    "no_memory.pinned": case("pinned", failed("cudaMallocHost", 64 * MIB, "(ulimit -v)", None,
                                              address_limit_bytes=lambda limit: limit > 0)),
    "no_memory.fragments": case("fragments", failed("cudaMalloc", 16 * MIB, "because they share pieces of", "device")),
    "no_memory.stream": case("stream", failed("cudaStreamCreate", 0, "needs memory of the GPU too", "device", free_bytes=lambda free: free < 2 * MIB)),
    "link": case("link", link),
}

if __name__ == "__main__":
    sys.exit(runner.main(CASES, __doc__))
