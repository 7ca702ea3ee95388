"""The doors and the memory surface, as cases of runner.py.

  doors_cases.py --case NAME     run one
  doors_cases.py --list          print the names
"""

import json
import os
import re
import subprocess
import sys

import run_program
import runner
from runner import PYTHON, SIMULATED, nothing, report
from traces import check, names


def rows(trace, *fields):
    return [tuple(call[field] for field in fields) for call in trace.calls]

CALLS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../preload/calls")


def every_call(run):
    """The trace says what the program printed: every row, in order, by the door it was called through."""
    trace = run.trace()
    # Calls that make contexts, streams, modules and graphs have a row only where they fail.
    listed = "".join(open(os.path.join(CALLS, name)).read() for name in ("calls_making.inc", "calls_making_driver.inc"))
    making = set(re.findall(r"^UVMTRACE_CALL\w*\(\w+, (\w+), Make", listed, re.M))
    made = lambda name: re.sub(r"_pt[ds][sz]$", "", name) in making
    wanted = [name for name in run.process.stdout.splitlines() if not made(name)]
    check(len(wanted) > 100, f"only {len(wanted)} calls")
    got = [name for name in names(trace) if not made(name)]
    check(got == wanted, f"first difference: {next(((w, g) for w, g in zip(wanted, got) if w != g), 'length')}, "
                         f"{len(wanted)} called, {len(got)} in the trace")
    check(not trace.losses, trace.losses)


def twins(run):
    every_call(run)
    check({call["door"] for call in run.trace().calls} == {"GET_PROC_ADDRESS"}, "a twin passed another door")


def every_failure(run):
    """A call that fails is an event, and nothing that its arguments point to is read."""
    every_call(run)
    driver = [call for call in run.trace().calls if call["function"].startswith("cu") and call["function"][2] != "d"]
    check(all(call["result"] == 100 for call in driver), [c for c in driver if c["result"] != 100][:3])


def early_pointers(run):
    traces = run.traces()
    check(len(traces) == 2, run.files())
    for trace in traces:
        check(rows(trace, "function", "door", "bytes") == [("cuInit", "GET_PROC_ADDRESS", 0), ("cuMemAlloc_v2", "DRIVER_SYMBOL", 321),
                                                ("cuMemFree_v2", "GET_PROC_ADDRESS", 0)], rows(trace, "function", "door", "bytes"))


def versioned_lookups(run):
    check(rows(run.trace(), "function", "door", "bytes") == [("cudaMalloc", "RUNTIME_SYMBOL", 555)], run.trace().calls)


def two_runtimes(run):
    trace = run.trace()
    wanted = [("cudaMemPrefetchAsync", 6, 0x5555, 111), ("cudaMemPrefetchAsync", 7, 0x5555, 111)] * 2
    check(rows(trace, "function", "location", "stream", "bytes") == wanted, trace.calls)
    state, reason = trace.states["doors.runtimes"]
    check(state == "ACTIVE" and "libcudart.so.12" in reason and "libcudart.so.13" in reason, (state, reason))


def one_runtime(run):
    trace = run.trace()
    check(rows(trace, "function", "driver_function", "bytes") ==
          [("cudaMalloc", "cuMemAlloc_v2", 77), ("cudaFree", "cuMemFree_v2", 0)], trace.calls)
    check("doors.runtimes" not in trace.states, trace.states)


def three_runtimes(run):
    trace = run.trace()
    # The third one's call is seen where it meets the driver.
    check([name for name in names(trace) if "Malloc" in name or "MemAlloc" in name] ==
          ["cudaMalloc", "cudaMalloc", "cuMemAlloc_v2"], names(trace))
    check("libcudart.so.11" in trace.states["doors.third_runtime"][1], trace.states)


def told(source, library):
    def expect(run):
        trace = run.trace()
        state, reason = trace.states[source]
        check(state == "UNAVAILABLE" and library in reason, (state, reason))
        # The user reads it in the report, without asking for it.
        check(library in json.dumps(report(run)), "the report does not name the library")
        text = subprocess.run([run.args.report, os.path.join(run.folder, "trace.pb")],
                              stdout=subprocess.PIPE, check=True, text=True).stdout
        check(library in text, "the report's text does not name the library")
    return expect


def entry_points(run):
    got = [row for row in rows(run.trace(), "function", "location") if row[0] not in ("cuInit", "cuDevicePrimaryCtxRetain")]
    check(got == [("cuMemAdvise", 3), ("cuMemAdvise_v2", 4), ("cuMemFreeAsync_ptsz", 0)], got)


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at


def fields(data, at, end):
    """(number, value or (start, end)) of each field: enough of protobuf for counting."""
    while at < end:
        tag, at = varint(data, at)
        kind = tag & 7
        if kind == 0:
            value, at = varint(data, at)
        elif kind == 1:
            value, at = None, at + 8
        elif kind == 5:
            value, at = None, at + 4
        else:
            length, at = varint(data, at)
            value, at = (at, at + length), at + length
        yield tag >> 3, value


def thread_stress(run):
    """Every call is in the trace or counted as lost: by the counts alone, for the trace may have millions."""
    wanted = int(run.process.stdout.split()[0])
    with open(os.path.join(run.folder, "trace.pb"), "rb") as file:
        data = memoryview(file.read())
    written = lost = 0
    clean = False
    for _, (start, end) in fields(data, 0, len(data)):
        for number, value in fields(data, start, end):
            if number == 18:
                loss = dict(fields(data, *value))
                source = bytes(data[slice(*loss[1])]).decode()
                if source != "cupti":
                    lost += loss[3]
            elif number == 7:
                last = dict(fields(data, *value))
                clean, written = last.get(1) == 1, last.get(3, 0)
    print(f"{wanted} calls: {written} in the trace, {lost} counted as lost, {run.seconds:.1f} s, {len(data)} bytes")
    check(clean, "the end is not clean")
    check(written + lost == wanted, f"{wanted} calls, {written} in the trace and {lost} lost")


def managed_pool(run):
    trace = run.trace()
    created, attribute, allocated, freed, trimmed, destroyed, plain, plain_allocated = trace.calls
    check((created["function"], created["location"], created["other_address"], created["memory_kind"]) ==
          ("cuMemPoolCreate", 1, 0x900, "MANAGED"), created)
    check((attribute["flags"], attribute["bytes"], attribute["other_address"]) == (4, 1 << 20, 0x900), attribute)
    check((allocated["memory_kind"], allocated["bytes"], allocated["stream"], allocated["other_address"]) ==
          ("MANAGED", 4096, 0x10, 0x900), allocated)
    check(freed["address"] == allocated["address"] != 0, freed)
    check((trimmed["bytes"], trimmed["other_address"]) == (77, 0x900), trimmed)
    check(plain_allocated["memory_kind"] == "POOL", "a pool's handle that was used before")
    check(trace.states["cupti"][0] != "IDLE", f"managed memory from a pool did not start the sources: {trace.states}")


def module_global(run):
    trace = run.trace()
    check(sorted(names(trace)) == ["__managed__ variable", "cuDevicePrimaryCtxRetain", "cuInit", "cuModuleGetGlobal_v2",
                                   "cuModuleGetGlobal_v2"], names(trace))
    variable = next(call for call in trace.calls if call["function"] == "__managed__ variable")
    check((variable["bytes"], variable["memory_kind"]) == (8192, "MANAGED"), variable)
    check(variable["address"] in [call["address"] for call in trace.calls if call["function"] == "cuModuleGetGlobal_v2"] and variable["stack"] != 0, variable)
    check(trace.states["cupti"][0] != "IDLE", trace.states)


def sources_started(run):
    check(run.trace().states["cupti"][0] != "IDLE", run.trace().states)


def first_touch_seen(run):
    sources_started(run)
    trace = run.trace()
    check(trace.cpu_faults == 1, f"{trace.cpu_faults} CPU faults: the variable is touched once, before any call; "
                                 f"lost: {trace.losses}; states: {trace.states}")


def sources_idle(run):
    check(run.trace().states["cupti"][0] == "IDLE", run.trace().states)


def batches(run):
    got = [(c["function"], c["address"], c["bytes"], c["location"], c["flags"] >> 32, c["flags"] & 0xffffffff)
           for c in run.trace().calls]
    start, discard = 0x40000000, 0x100
    check(got == [
        ("cuMemPrefetchBatchAsync", start, 10, 2, 3, 0),
        ("cuMemPrefetchBatchAsync", start + 0x1000, 20, 2, 3, 0),
        ("cuMemPrefetchBatchAsync", start + 0x2000, 30, -1, 3, 0),
        ("cuMemDiscardBatchAsync", start, 10, -2, 2, discard),
        ("cuMemDiscardBatchAsync", start + 0x1000, 20, -2, 2, discard),
        ("cuMemDiscardAndPrefetchBatchAsync", start, 10, 2, 1, discard),
        ("cuMemcpyBatchAsync", start, 60, 0, 3, 0),
        ("cuMemcpyBatchAsync_v2", start, 30, 0, 2, 0),
        ("cuMemPrefetchBatchAsync", 0, 0, -2, 0, 0),
    ], got)
    calls = run.trace().calls
    check(all(call["stream"] == 0x77 for call in calls), [call["stream"] for call in calls])
    check(all(call["stack"] != 0 for call in calls[:6]), "a range of a batch has no stack")


def graphs(run):
    allocated, freed, begin, end, launch = run.trace().calls
    check((allocated["address"], allocated["bytes"], allocated["memory_kind"], allocated["other_address"]) ==
          (0x700000, 5000, "POOL", 0x66), allocated)
    check((freed["function"], freed["address"]) == ("cuGraphAddMemFreeNode", 0x700000), freed)
    check((begin["function"], begin["flags"], end["function"]) ==
          ("cuStreamBeginCapture_v2", 2, "cuStreamEndCapture"), begin)
    check((launch["other_address"], launch["stream"]) == (0x67, 0x20), launch)


def graph_nodes(run):
    fields = ("function", "address", "bytes", "other_address")
    got = rows(run.trace(), *fields)
    check(got[0] == ("allocation node of a graph", 0x700000, 6000, 0x66), got[0])
    check(run.trace().calls[0]["memory_kind"] == "POOL" and run.trace().calls[0]["stack"] != 0, run.trace().calls[0])
    check([row[:3] for row in got[1:]] ==
          [("cuGraphAddNode_v2", 0, 0), ("cuGraphAddNode", 0x700000, 120), ("cuGraphAddNode_v2", 0x700000, 32),
           ("cuGraphAddNode_v2", 0x700000, 0), ("cudaGraphAddNode", 0x5000, 200), ("cudaGraphAddNode", 0x5000, 200),
           ("cudaGraphAddNode_v2", 0x5000, 200)], got)


def multicast(run):
    check(rows(run.trace(), "function", "other_address", "address", "bytes", "location") ==
          [("cuMulticastCreate", 0x4343, 0, 4 << 20, 0), ("cuMulticastAddDevice", 0x4343, 0, 0, 1),
           ("cuMulticastBindMem", 0x4343, 0x4242, 2 << 20, 0),
           ("cuMulticastBindAddr", 0x4343, 0x40000000, 2 << 20, 0), ("cuMulticastUnbind", 0x4343, 0, 2 << 20, 1)],
          rows(run.trace(), "function", "other_address", "address", "bytes", "location"))
    check(report(run), "no report")


def decompression(run):
    check(rows(run.trace(), "address", "other_address", "bytes", "stream", "flags") ==
          [(0x40000000, 0x7000, 123, 0x77, 2 << 32)], run.trace().calls)


def external(run):
    check(rows(run.trace(), "function", "other_address", "address", "bytes", "flags") ==
          [("cuImportExternalMemory", 0, 0, 1 << 20, 1), ("cuDestroyExternalMemory", 0x88, 0, 0, 0),
           ("cuMemGetHandleForAddressRange", 0, 0x40000000, 4096, 1)],
          rows(run.trace(), "function", "other_address", "address", "bytes", "flags"))


def mappings(run):
    trace = run.trace()
    check([(c["function"], c["address"], c["other_address"]) for c in trace.called("cuMemMap")] ==
          [("cuMemMap", 0x40000000, 0x4242), ("cuMemMap", 0x40200000, 0x4242)], trace.calls)
    imported, = trace.called("cuMemImportFromShareableHandle")
    check(imported["memory_kind"] == "IMPORTED", imported)
    check(report(run), "no report")


def imported(run):
    opened, closed = run.trace().calls
    check((opened["bytes"], opened["memory_kind"], opened["flags"]) == (4242, "IMPORTED", 1), opened)
    check(closed["address"] == opened["address"] != 0, closed)


def arrays(run):
    created, copied, filled, destroyed = run.trace().calls
    check((created["bytes"], created["address"], created["memory_kind"]) == (100 * 10 * 8, 0, "DEVICE"), created)
    check((copied["bytes"], copied["address"]) == (64, 0x40000000), copied)
    check((filled["bytes"], filled["address"]) == (120, 0x40000000), filled)
    check(destroyed["function"] == "cuArrayDestroy", destroyed)


def reset(run):
    check(rows(run.trace(), "function", "location") == [("cuDevicePrimaryCtxReset_v2", 3), ("cudaDeviceReset", 5)],
          run.trace().calls)


def audit(run):
    trace = run.trace()
    check(trace.states["audit"][0] == "ACTIVE", trace.states)
    check(trace.audit == {"cuMemsetD8_v2": (7, 5), "cudaMemset2D": (1, 1), "cudaMemPrefetchAsync_ptsz": (1, 1)}, trace.audit)
    check(sum(name == "cuMemsetD8_v2" for name in names(trace)) == 6, names(trace))
    reporter = os.path.join(os.path.dirname(run.args.library), "../bin/uvmtrace-report")
    done = subprocess.run([reporter, "--format", "json", "--sysroot", "/nonexistent", run.folder],
                          stdout=subprocess.PIPE, text=True, check=True)
    coverage = json.loads(done.stdout)["capture"]["coverage"]
    apis = {row["api"]: (row["happened"], row["seen"], row["share"]) for row in coverage["apis"]}
    check(apis == {"runtime": ("2", "2", 1), "driver": ("7", "5", 5 / 7)}, coverage)
    check([row["function"] for row in coverage["gaps"]] == ["cuMemsetD8_v2"], coverage)


def no_audit(run):
    check("audit" not in run.trace().states and not run.trace().audit, run.trace().states)


def beside_another_tool(run):
    run_program.one_clean_work(run)
    check("the partner sees 1000 bytes" in run.process.stdout, run.process.stdout)


PYTHON_DOORS = """
import ctypes, os
driver = ctypes.CDLL("libcuda.so.1")
pointer = ctypes.c_void_p()
get = driver.cuGetProcAddress_v2
get.argtypes = [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_uint64, ctypes.c_void_p]
print(get(b"cuMemAllocManaged", ctypes.byref(pointer), 12000, 0, None))
allocate = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint)(pointer.value)
memory = ctypes.c_uint64()
print(allocate(ctypes.byref(memory), 12345, 1))
runtime = ctypes.CDLL("libcudart.so.12", mode=os.RTLD_NOW | os.RTLD_DEEPBIND)
pointer = ctypes.c_void_p()
print(runtime.cudaMalloc(ctypes.byref(pointer), ctypes.c_size_t(54321)))
"""


def python_doors(run):
    trace = run.trace()
    check(rows(trace, "function", "door", "bytes")[0] == ("cuMemAllocManaged", "GET_PROC_ADDRESS", 12345), trace.calls)
    check(("cudaMalloc", 54321) in rows(trace, "function", "bytes"), trace.calls)
    check("libcudart.so.12" in trace.states["doors.deepbind"][1], trace.states)


STRESS = {"STRESS_THREADS": "64", "STRESS_CALLS": "1000000"}
SHORT_STRESS = {"STRESS_CALLS": "10000"}
FAIL_ALL = {"FAKE_CUDA_FAIL": "all"}

CASES = {
    # The crash classes of others, each by its name.
    "caller_identity_ompt": ("plain_host", ["self_lookup"], run_program.no_file, {}),
    "second_lookup": ("doors_host", ["second_lookup"], run_program.no_file, {}),
    "prefix_match": ("plain_host", ["prefix_match"], run_program.no_file, {}),
    "null_handle": ("plain_host", ["null_handle"], run_program.no_file, {}),
    "own_dlsym": ("doors_host", ["own_dlsym"], nothing, {}),
    "own_dlsym_beside_another_tool": ("doors_host", ["own_dlsym"], nothing, {"partner": "dlsym_partner"}),
    "runpath_of_dlopen": ("plain_host", ["runpath"], run_program.no_file, {}),
    "weak_self_lookup": ("doors_host", ["weak_self_lookup"], run_program.no_file, {}),
    # The doors.
    "versioned_lookups": ("doors_host", ["versioned_lookups"], versioned_lookups, {}),
    "bound_local_11": ("doors_host", ["bound_local_11"], one_runtime, {}),
    "bound_local_12": ("doors_host", ["bound_local_12"], one_runtime, {}),
    "bound_local_13": ("doors_host", ["bound_local_13"], one_runtime, {}),
    "two_runtimes": ("doors_host", ["two_runtimes"], two_runtimes, {}),
    "two_runtimes_global": ("doors_host", ["two_runtimes_global"], two_runtimes, {}),
    "three_runtimes": ("doors_host", ["three_runtimes"], three_runtimes, {}),
    "deep_bound": ("doors_host", ["deep_bound"], told("doors.deepbind", "libuses_runtime_13.so"), {}),
    "namespace": ("doors_host", ["namespace"], told("doors.namespace", "libuses_runtime_13.so"), {}),
    "entry_points": ("doors_host", ["entry_points"], entry_points, {}),
    "early_pointers": ("doors_host", ["early_pointers"], early_pointers, {"env": {"FETCH_EARLY": "1"}}),
    "early_pointers_unused": ("plain_host", ["no_cuda"], run_program.no_file, {"env": {"FETCH_EARLY": "1"}}),
    "python_doors": (PYTHON, ["-c", PYTHON_DOORS], python_doors, {}),
    "thread_stress": ("doors_host", ["stress"], thread_stress, {"env": STRESS, "sanitized": SHORT_STRESS, "seconds": 120}),
    "driver_internal": ("doors_host", ["driver_internal"], run_program.no_file, {}),
    "beside_another_runtime_tool": ("runtime_host", ["normal"], beside_another_tool, {"partner": "runtime_partner"}),
    "audit": ("doors_host", ["audit"], audit, {"env": {"UVMTRACE_AUDIT": "1", "CUDA_HOME": "{fake}/cuda_home"}}),
    "no_audit": ("doors_host", ["audit"], no_audit, {"env": {"CUDA_HOME": "{fake}/cuda_home"}}),
    # The memory surface.
    "every_call": ("every_call", ["symbols"], every_call, {}),
    "every_call_fails": ("every_call", ["symbols"], every_failure, {"env": FAIL_ALL}),
    "every_twin": ("every_call", ["twins"], twins, {}),
    "managed_pool": ("surface_host", ["managed_pool"], managed_pool, {}),
    "managed_variable_of_a_module": ("surface_host", ["module_global"], module_global, {}),
    "managed_variable": ("managed_variable_host", ["used"], sources_started, {}),
    "managed_variable_unused": ("managed_variable_host", ["unused"], run_program.no_file, {}),
    "managed_variable_simulated": ("managed_variable_host", ["used"], first_touch_seen,
                                   {"env": SIMULATED}),
    "pageable": ("surface_host", ["pageable"], sources_started, {"env": {"FAKE_CUDA_PAGEABLE": "1"}}),
    "not_pageable": ("surface_host", ["pageable"], sources_idle, {}),
    "batches": ("surface_host", ["batches"], batches, {}),
    "graphs": ("surface_host", ["graphs"], graphs, {}),
    "graph_nodes": ("surface_host", ["graph_nodes"], graph_nodes, {}),
    "multicast": ("surface_host", ["multicast"], multicast, {}),
    "decompression": ("surface_host", ["decompression"], decompression, {}),
    "external": ("surface_host", ["external"], external, {}),
    "mappings": ("surface_host", ["mappings"], mappings, {}),
    "imported": ("surface_host", ["imported"], imported, {}),
    "arrays": ("surface_host", ["arrays"], arrays, {}),
    "reset": ("surface_host", ["reset"], reset, {}),
}

if __name__ == "__main__":
    sys.exit(runner.main(CASES, __doc__))
