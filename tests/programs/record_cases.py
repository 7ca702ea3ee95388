"""What a trace holds besides calls and faults, as cases of runner.py: ranges, the profiler's switch, what there was when
memory ran out, bytes over the link. All on the simulator.

  record_cases.py --case NAME     run one
  record_cases.py --list          print the names
"""

import sys

import runner
from runner import SIMULATED
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


def ranges_of_another_tool(run):
    """NVTX_INJECTION64_PATH names a library: it gets the ranges, and the trace says so."""
    trace = run.trace()
    check(annotations(trace) == [], f"ranges: {annotations(trace)}")
    check(trace.states["nvtx"][0] == "UNAVAILABLE", trace.states["nvtx"])


def profiler(run):
    calls = names(run.trace())
    check(calls == ["cudaFree", "cudaProfilerStart", "cudaMalloc", "cudaFree", "cudaProfilerStop"], calls)


def failed(function, byte_count, **more):
    """A record for each failure; the process was killed just after the last, without a chance to write."""
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


def case(name, expectation, **environment):
    return ("record_host", [name], expectation, {"env": {**SIMULATED, **environment}})


CASES = {
    "ranges": case("ranges", ranges),
    "ranges_of_another_tool": case("ranges", ranges_of_another_tool, NVTX_INJECTION64_PATH="libm.so.6"),
    "profiler": case("profiler", profiler),
    "no_memory.pool": case("pool", failed("cudaMalloc", 20 * MIB, free_bytes=lambda free: free < 20 * MIB)),
    "no_memory.workspace": case("workspace", failed("cudaMalloc", 16 * MIB, free_bytes=lambda free: free < 16 * MIB)),
    "no_memory.vmm": case("vmm", failed("cuMemCreate", 32 * MIB, free_bytes=lambda free: free < 32 * MIB)),
    "no_memory.pinned": case("pinned", failed("cudaMallocHost", 64 * MIB,
                                              address_limit_bytes=lambda limit: limit > 0)),
    "no_memory.fragments": case("fragments", failed("cudaMalloc", 16 * MIB)),
    "no_memory.stream": case("stream", failed("cudaStreamCreate", 0, free_bytes=lambda free: free < 2 * MIB)),
    "link": case("link", link),
}

if __name__ == "__main__":
    sys.exit(runner.main(CASES, __doc__))
