"""What a program that uses CUDA may do to the library by doing it in the usual ways, as cases of runner.py.

  run_program.py --case NAME     run one
  run_program.py --list          print the names
"""

import glob
import os
import sys

import runner
from runner import PYTHON, SIMULATED, both, nothing
from traces import check, names

# What the trace must say --------------------------------------------------------------------------------------------

WORK = ["cudaMalloc", "cudaMallocManaged", "cudaFree", "cudaFree"]


def one_clean_work(run, device="Fake GPU"):
    trace = run.trace()
    check(run.files() == ["trace.pb"], f"files: {run.files()}")
    check(names(trace) == WORK, f"calls: {names(trace)}")
    check(trace.clean, "the end is not clean")
    check(not trace.losses, f"losses: {trace.losses}")
    check(trace.states["calls"][0] == "ACTIVE", trace.states)
    check(trace.states["devices"][0] == "ACTIVE", trace.states)
    check(trace.devices[0]["name"] == device, trace.devices)
    check(int(trace.process["cuda_driver_version"]) == 13000, trace.process)
    malloc, managed, free, free_managed = trace.calls
    check((malloc["bytes"], malloc["memory_kind"], malloc["door"]) == (1000, "DEVICE", "RUNTIME_SYMBOL"), malloc)
    check((managed["bytes"], managed["memory_kind"], managed["flags"]) == (1 << 20, "MANAGED", 1), managed)
    check(malloc["driver_function"] == "cuMemAlloc_v2", malloc)
    check(managed["driver_function"] == "cuMemAllocManaged", managed)
    check(free["address"] == malloc["address"] != 0, free)
    check(free_managed["address"] == managed["address"] != 0, free_managed)
    check(all(call["stack"] != 0 for call in trace.calls), "a call has no stack")
    return trace


def simulated_work(run):
    trace = one_clean_work(run, "Simulated Tiny GPU")
    check(trace.process.get("simulated"), "the trace does not say that it is simulated")
    check(trace.states["cupti"][0] == "ACTIVE", trace.states)
    check(trace.cpu_faults == 1, f"{trace.cpu_faults} CPU faults: the program touches one page of managed memory")


def system_memory(run):
    """Memory that came from malloc faults and migrates; no managed memory exists, and the sources are on."""
    trace = run.trace()
    check(trace.devices[0].get("pageable_memory_access"), trace.devices)
    check(trace.states["driver_queue"][0] == "ACTIVE", trace.states)
    check(trace.states["exact_counters"][0] == "ACTIVE", trace.states)
    check(trace.states["memory_areas"][0] == "ACTIVE", trace.states)
    check(not trace.losses, f"losses: {trace.losses}")
    areas = [area for chunk in trace.chunks for area in chunk.get("memory_area", [])
             if area.get("kind") == "MEMORY_AREA_KIND_ANONYMOUS"]
    migrations = []
    for chunk in trace.chunks:
        for columns in chunk.get("migrations", []):
            address = 0
            for delta, size in zip(columns["address_delta"], columns["bytes"]):
                address += int(delta)
                migrations.append((address, int(size)))
    moved = sum(size for _, size in migrations)
    check(moved >= SYSTEM_MEMORY_BYTES, f"{moved} bytes migrated")
    inside = max((sum(size for address, size in migrations if int(area["start"]) <= address < int(area["end"]))
                  for area in areas), default=0)
    # The driver moves 64 KiB at a time, so the first piece may begin before the mapping.
    check(inside >= SYSTEM_MEMORY_BYTES - (1 << 20), f"{inside} bytes of {moved} lie in one mapping: {areas}")


def simulated_death(run):
    unclean_work(run)
    check(run.trace().cpu_faults == 1, "what happened 250 ms before the end is lost")


def whole_process_version(run):
    trace = one_clean_work(run)
    # What the library itself says that starting took would be in the first call's time: no figure of a quiet machine.
    started = max(int(ns) for chunk in trace.chunks
                  for samples in chunk.get("tool_samples", []) for ns in samples.get("start_ns", []))
    managed = trace.calls[1]
    check(int(managed["duration_ns"]) < started, f"starting the sources ({started} ns) counts as the call's time: {managed}")
    check(int(trace.process["cuda_runtime_version"]) == 13000, trace.process)


def unclean_work(run):
    trace = run.trace()
    check(names(trace) == WORK, f"calls: {names(trace)}")
    check(not trace.clean, "a process that was killed cannot end cleanly")


def abrupt(run):
    """Died at once: whatever reached the file within the writer's period must be readable."""
    trace = run.trace()
    check(not trace.clean, "a process that was killed cannot end cleanly")


def static_runtime(run):
    trace = run.trace()
    check(names(trace) == ["cuInit", "cuDevicePrimaryCtxRetain", "cuMemAlloc_v2", "cuMemAllocManaged", "cuMemFree_v2",
                           "cuMemFree_v2"], names(trace))
    check({call["door"] for call in trace.calls} == {"GET_PROC_ADDRESS"}, trace.calls)
    check(trace.clean, "the end is not clean")


def processes(count, work_each, clean=True):
    def expect(run):
        traces = run.traces()
        check(len(traces) == count, f"files: {run.files()}")
        check("trace.pb" in run.files(), run.files())
        check(not any(name.endswith(".old") for name in run.files()), run.files())
        check(len({trace.chunks[0]["run_id"] for trace in traces}) == 1, "the files are of different runs")
        check(len({trace.process["pid"] for trace in traces}) == count, "two files of one process")
        for trace in traces:
            check(trace.clean == clean or not clean, f"process {trace.process['pid']} did not end cleanly")
            check(names(trace) and names(trace) == WORK * (len(trace.calls) // 4), names(trace))
        check(sum(len(trace.calls) for trace in traces) == 4 * work_each, [names(trace) for trace in traces])
        for trace in traces:
            tids = {call["tid"] for call in trace.calls}
            check(tids == {trace.process["pid"]}, f"tids {tids} in process {trace.process['pid']}: stale after fork")
    return expect


def busy_forks(run):
    check(len(run.traces()) == 6, run.files())
    for trace in run.traces():
        check(len(trace.calls) >= 4, names(trace))


def no_file(run):
    check(run.files() == [], f"files: {run.files()}")


def some_calls(run):
    trace = run.trace()
    check(len(trace.calls) >= 4, names(trace))
    check(trace.clean, "the end is not clean")


def eight_works(run):
    trace = run.trace()
    check(len(trace.calls) == 32, f"{len(trace.calls)} calls")
    check(len({call["tid"] for call in trace.calls}) == 8, "eight threads")


def two_works(run):
    trace = run.trace()
    check(names(trace) == WORK * 2, names(trace))
    check(trace.clean, "the end is not clean")


def atexit_calls(run):
    trace = run.trace()
    check(names(trace) == WORK * 2, names(trace))
    check(trace.clean, "the end is not clean")


def closed_file(run):
    for victim in glob.glob(os.path.join(run.folder, "victim.*")):
        check(os.path.getsize(victim) == 0, f"{victim} holds bytes of ours")
    trace = run.trace()
    check(names(trace)[:4] == WORK, names(trace))


def failing(run):
    trace = run.trace()
    check([(call["function"], call["result"] != 0) for call in trace.calls] ==
          [("cudaMalloc", True), ("cudaMalloc", True), ("cudaFree", True)], trace.calls)
    check(trace.calls[0]["address"] == 0, "an out-parameter of a failed call was read")


def init_fails(run):
    trace = run.trace()
    check(trace.states["devices"] == ("UNAVAILABLE", "cuInit failed: CUDA_ERROR_NO_DEVICE (100)"), trace.states)
    check(trace.states["cupti"][0] == "UNAVAILABLE", trace.states)


def calls_only(run):
    trace = one_clean_work(run)
    check(trace.states["cupti"][0] == "DISABLED", trace.states)
    check(trace.process["detail"] == "calls", trace.process)


def no_stacks(run):
    trace = run.trace()
    check(all(call["stack"] == 0 for call in trace.calls), trace.calls)
    check(trace.states["stacks"][0] == "DISABLED", trace.states)


def stack_is_the_hosts(run):
    """The innermost frame of every stack is in the program, not in our library; deep enough to reach main."""
    trace = run.trace()
    own = [m for c in trace.chunks for m in c.get("mapping", []) if "libuvmtrace" in m["path"]]
    host = [m for c in trace.chunks for m in c.get("mapping", []) if m["path"].endswith("/runtime_host")]
    stacks = {s["id"]: [int(pc) for pc in s["pc"]] for c in trace.chunks for s in c.get("stack", [])}
    check(host, "the program's mapping is missing")
    for call in trace.calls:
        frames = stacks[call["stack"]]
        inside = lambda maps, pc: any(int(m["start"]) <= pc < int(m["end"]) for m in maps)
        check(inside(host, frames[0]), f"innermost frame {frames[0]:x} is not the host's")
        check(not any(inside(own, pc) for pc in frames), "a frame of ours is in a stack")
        check(sum(inside(host, pc) for pc in frames) >= 3, f"only {len(frames)} frames")


def local_dlopen(run):
    trace = run.trace()
    check([(c["function"], c["door"], c["driver_function"]) for c in trace.calls] ==
          [("cudaMallocManaged", "RUNTIME_SYMBOL", "cuMemAllocManaged"), ("cudaFree", "RUNTIME_SYMBOL", "cuMemFree_v2")],
          trace.calls)


def driver_dlsym(run):
    trace = run.trace()
    check([(c["function"], c["door"]) for c in trace.calls] ==
          [(name, "DRIVER_SYMBOL") for name in ("cuInit", "cuMemAllocManaged", "cuMemFree_v2")], trace.calls)


def routing(run):
    trace = run.trace()
    check({call["door"] for call in trace.calls} == {"GET_PROC_ADDRESS"}, trace.calls)
    rows = [(c["function"], c["stream"], c["location"]) for c in trace.calls]
    check(rows == [("cuMemAlloc_v2", 0, 0), ("cuMemFreeAsync", 0x10, 0), ("cuMemFreeAsync_ptsz", 0x20, 0),
                   ("cuMemPrefetchAsync", 0x30, 3), ("cuMemPrefetchAsync_v2", 0x40, 4),
                   ("cuMemPrefetchAsync_v2", 0, -1)], rows)


def entry_point(run):
    trace = run.trace()
    check(names(trace) == ["cuInit", "cuDevicePrimaryCtxRetain", "cuMemCreate"], names(trace))
    call = trace.calls[2]
    check((call["address"], call["memory_kind"], call["location"], call["bytes"]) == (0x4242, "PHYSICAL", 2, 2 << 20), call)


def registers(run):
    trace = run.trace()
    prefetch, advise = trace.calls
    check((prefetch["function"], prefetch["location"], prefetch["stream"], prefetch["bytes"]) ==
          ("cudaMemPrefetchAsync", 6, 0x5555, 111), prefetch)
    check((advise["function"], advise["location"], advise["flags"], advise["bytes"]) == ("cudaMemAdvise", -1, 3, 222), advise)


def python_ctypes(run):
    trace = run.trace()
    check(names(trace) == ["cuInit", "cuMemAllocManaged", "cuMemFree_v2", "cudaMallocManaged", "cudaFree"], names(trace))


def some_calls_of_python(run):
    check(names(run.trace()) == ["cudaMallocManaged", "cudaFree"], names(run.trace()))


def injected(run):
    trace = run.trace()
    check(trace.states["calls"][0] == "UNAVAILABLE" and "LD_PRELOAD" in trace.states["calls"][1], trace.states)
    check(trace.states["devices"][0] == "ACTIVE", trace.states)
    check(trace.clean, "the end is not clean")


def warned(*lines):
    """stderr has one line more for each of these."""
    def expect(run):
        got = run.process.stderr.splitlines()
        for line in lines:
            check(sum(line in other for other in got) == 1, f"not exactly once on stderr: {line!r} in {got}")
        check(all(other.startswith("uvmtrace: ") for other in got), got)
    return expect


def foreign_file(folder):
    with open(os.path.join(folder, "trace.pb"), "w") as file:
        file.write("notes")


def foreign_file_untouched(run):
    check(run.files() == ["trace.pb"], run.files())
    with open(os.path.join(run.folder, "trace.pb")) as file:
        check(file.read() == "notes", "the file was overwritten")


def stops_growing(run):
    trace = run.trace()
    check(os.path.getsize(os.path.join(run.folder, "trace.pb")) <= 1 << 20, "the trace is larger than UVMTRACE_MAX_MB")
    check(trace.clean, "the end is not clean")
    check(trace.states["trace_file"][0] == "STOPPED", trace.states)
    lost = sum(int(loss["count"]) for loss in trace.losses)
    check(lost + len(trace.calls) >= 2 * 20 * 8192, f"{len(trace.calls)} written, {lost} lost: {trace.losses}")
    check(any("UVMTRACE_MAX_MB" in loss["reason"] for loss in trace.losses), trace.losses)


PYTHON_DRIVER = """
import ctypes
driver = ctypes.CDLL("libcuda.so.1")
pointer = ctypes.c_uint64()
print(driver.cuInit(0), driver.cuMemAllocManaged(ctypes.byref(pointer), ctypes.c_size_t(4096), 1), driver.cuMemFree_v2(pointer))
runtime = ctypes.CDLL("libcudart.so.13")
pointer = ctypes.c_void_p()
print(runtime.cudaMallocManaged(ctypes.byref(pointer), ctypes.c_size_t(8192), 1), runtime.cudaFree(pointer))
"""

PYTHON_RUNTIME = """
import ctypes
runtime = ctypes.CDLL("libcudart.so.13")
pointer = ctypes.c_void_p()
print(runtime.cudaMallocManaged(ctypes.byref(pointer), ctypes.c_size_t(8192), 1), runtime.cudaFree(pointer))
"""

INJECT = """
import ctypes, os, time
library = ctypes.CDLL(os.environ["TEST_LIBRARY"]) if "TEST_LIBRARY" in os.environ else None
driver = ctypes.CDLL("libcuda.so.1")
if library: print(library.InitializeInjection())
else: print(1)
time.sleep(0.3)
"""


SYSTEM_MEMORY_BYTES = 16 << 20

CASES = {
    "normal": ("runtime_host", ["normal"], whole_process_version, {}),
    "exit3": ("runtime_host", ["exit3"], one_clean_work, {}),
    "_exit4": ("runtime_host", ["_exit4"], one_clean_work, {}),
    "_Exit5": ("runtime_host", ["_Exit5"], one_clean_work, {}),
    "quick_exit6": ("runtime_host", ["quick_exit6"], one_clean_work, {}),
    "abort": ("runtime_host", ["abort"], abrupt, {}),
    "throw": ("runtime_host", ["throw"], abrupt, {}),
    "segv": ("runtime_host", ["segv"], unclean_work, {}),
    "sigterm": ("runtime_host", ["sigterm"], unclean_work, {}),
    "sigkill": ("runtime_host", ["sigkill"], unclean_work, {}),
    "fork_before": ("runtime_host", ["fork_before"], processes(2, 2), {}),
    "fork_after": ("runtime_host", ["fork_after"], processes(2, 3), {}),
    "fork_idle": ("runtime_host", ["fork_idle"], processes(1, 2), {}),
    "fork_busy": ("runtime_host", ["fork_busy"], busy_forks, {}),
    "fork_exec": ("runtime_host", ["fork_exec"], processes(2, 2), {}),
    "raw_clone": ("runtime_host", ["raw_clone"], processes(2, 3), {}),
    "vfork_exec": ("runtime_host", ["vfork_exec"], processes(1, 2), {}),
    "vfork_exit": ("runtime_host", ["vfork_exit"], processes(1, 2), {}),
    "thread_alive": ("runtime_host", ["thread_alive"], some_calls, {}),
    "thread_exits": ("runtime_host", ["thread_exits"], two_works, {}),
    "two_threads_exit": ("runtime_host", ["two_threads_exit"], one_clean_work, {}),
    "thread_local_destructor": ("runtime_host", ["thread_local_destructor"], some_calls, {}),
    "start_together": ("runtime_host", ["start_together"], eight_works, {}),
    "atexit": ("runtime_host", ["atexit"], atexit_calls, {}),
    "errno": ("runtime_host", ["errno"], nothing, {}),
    "closefrom": ("runtime_host", ["closefrom"], closed_file, {"stderr": True}),
    "file_size_limit": ("runtime_host", ["file_size_limit"], nothing, {"stderr": True}),
    "chdir": ("runtime_host", ["chdir"], two_works, {}),
    "failing": ("runtime_host", ["failing"], failing, {}),
    "signal_mask": ("runtime_host", ["signal_mask"], one_clean_work, {}),
    "init_fails": ("plain_host", ["driver_dlsym_init"], init_fails, {"env": {"FAKE_CUDA_FAIL": "cuInit"}}),
    "calls_only": ("runtime_host", ["normal"], calls_only, {"env": {"UVMTRACE_DETAIL": "calls"}}),
    "no_stacks": ("runtime_host", ["normal"], no_stacks, {"env": {"UVMTRACE_STACKS": "0"}}),
    "stacks": ("runtime_host", ["normal"], stack_is_the_hosts, {}),
    "static_runtime": ("static_runtime_host", ["normal"], static_runtime, {}),
    "no_cuda": ("plain_host", ["no_cuda"], no_file, {}),
    "look_only": ("plain_host", ["look_only"], no_file, {}),
    "local_dlopen": ("plain_host", ["local_dlopen"], local_dlopen, {}),
    "driver_dlsym": ("plain_host", ["driver_dlsym"], driver_dlsym, {}),
    "routing": ("plain_host", ["routing"], routing, {}),
    "entry_point": ("plain_host", ["entry_point"], entry_point, {}),
    "null_handle": ("plain_host", ["null_handle"], no_file, {}),
    "prefix_match": ("plain_host", ["prefix_match"], no_file, {}),
    "self_lookup": ("plain_host", ["self_lookup"], no_file, {}),
    "runpath": ("plain_host", ["runpath"], no_file, {}),
    "dlsym_partner": ("plain_host", ["runpath"], no_file, {"partner": "dlsym_partner"}),
    "deep_bind": ("plain_host", ["deep_bind"], nothing, {}),
    "registers_12": ("plain_host", ["registers_12"], registers, {}),
    "registers_13": ("plain_host", ["registers_13"], registers, {}),
    "missing_library": ("plain_host", ["missing_library"], no_file, {}),
    "protobuf_host": ("protobuf_host", [], nothing, {}),
    "python": (PYTHON, ["-c", PYTHON_DRIVER], python_ctypes, {}),
    "injected": (PYTHON, ["-c", INJECT], injected, {"inject": True}),
    "simulated_normal": ("runtime_host", ["normal"], simulated_work, {"env": SIMULATED}),
    "simulated__exit4": ("runtime_host", ["_exit4"], simulated_work, {"env": SIMULATED}),
    "simulated_quick_exit6": ("runtime_host", ["quick_exit6"], simulated_work, {"env": SIMULATED}),
    "simulated_system_memory": ("system_memory_host", [], system_memory, {"env": {"UVMTRACE_SIM_PROFILE": "hmm", "UVMTRACE_DETAIL": "full"}}),
    "simulated_sigkill": ("runtime_host", ["sigkill"], simulated_death, {"env": SIMULATED}),
    "simulated_fork_before": ("runtime_host", ["fork_before"], processes(2, 2), {"env": SIMULATED}),
    "simulated_fork_idle": ("runtime_host", ["fork_idle"], processes(1, 2), {"env": SIMULATED}),
    "simulated_fork_exec": ("runtime_host", ["fork_exec"], processes(2, 2), {"env": SIMULATED}),
    "simulated_thread_alive": ("runtime_host", ["thread_alive"], some_calls, {"env": SIMULATED}),
    "simulated_start_together": ("runtime_host", ["start_together"], eight_works, {"env": SIMULATED}),
    "simulated_atexit": ("runtime_host", ["atexit"], atexit_calls, {"env": SIMULATED}),
    "simulated_python": (PYTHON, ["-c", PYTHON_RUNTIME], some_calls_of_python, {"env": SIMULATED}),
    "unknown_variable": ("runtime_host", ["normal"],
                         both(warned("UVMTRACE_STAKCS", "UVMTRACE_LOG='loud'"), one_clean_work),
                         {"stderr": True, "env": {"UVMTRACE_STAKCS": "3", "UVMTRACE_LOG": "loud", "UVMTRACE_SIM_X": "1"}}),
    "quiet": ("runtime_host", ["normal"], one_clean_work, {"env": {"UVMTRACE_STAKCS": "3", "UVMTRACE_LOG": "quiet"}}),
    "read_only_folder": ("runtime_host", ["normal"], both(warned("/proc/no"), no_file),
                         {"stderr": True, "env": {"UVMTRACE_OUT": "/proc/no/trace.pb"}}),
    "full_disk": ("runtime_host", ["normal"], warned("/dev/full"), {"stderr": True, "env": {"UVMTRACE_OUT": "/dev/full"}}),
    "static_launched": ("static_host", [], both(warned("statically linked"), no_file), {"stderr": True, "launcher": True}),
    "launched": ("runtime_host", ["exit3"], one_clean_work, {"launcher": True}),
    "sanitizer_finds_a_fault": ("plain_host", ["no_cuda"], nothing,
                                {"before": "faulty", "finding": {"address": "global-buffer-overflow", "thread": "data race"}}),
    "launched_from_a_path_with_blanks": ("runtime_host", ["exit3"], one_clean_work, {"launcher": "a folder: mine"}),
    "foreign_file": ("runtime_host", ["normal"], both(warned("is not a trace"), foreign_file_untouched),
                     {"stderr": True, "prepare": foreign_file}),
    "file_size": ("call_sites_host", ["cost"], stops_growing, {"env": {"UVMTRACE_MAX_MB": "1", "UVMTRACE_BUFFER_MB": "1024"}}),
    "launched_sigterm": ("runtime_host", ["sigterm"], unclean_work, {"launcher": True}),
}

if __name__ == "__main__":
    sys.exit(runner.main(CASES, __doc__))
