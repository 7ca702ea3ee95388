"""Runs one test program with and without libuvmtrace.so and compares.

The host must not notice: same exit status or signal, same stdout, same stderr. What the trace must say is a function per
case, below. A case is one line in CASES; tests/programs/CMakeLists.txt makes a test of each.

  run_program.py --case NAME     run one
  run_program.py --list          print the names
"""

import argparse
import glob
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time


EXIT_LIMIT_SECONDS = 2.5  # an exit may be delayed by two


class Failure(Exception):
    pass


def check(good, what):
    if not good:
        raise Failure(what)


class Run:
    """One execution of a program, in a folder of its own."""

    def __init__(self, args, folder, command, environment, preload, timeout=50):
        self.folder = folder
        self.args = args
        variables = {k: v for k, v in os.environ.items() if not k.startswith(("UVMTRACE_", "LD_"))}
        libraries = [args.fake, os.path.join(args.fake, "13"), os.path.join(args.fake, "12"),
                     os.path.join(args.fake, "11")]
        if "UVMTRACE_SIM_PROFILE" in environment:
            libraries = [args.simulator]
        variables["LD_LIBRARY_PATH"] = ":".join(libraries)
        variables.update({name: value.replace("{fake}", args.fake) for name, value in environment.items()})
        if preload:
            variables["LD_PRELOAD"] = ":".join(preload)
        start = time.monotonic()
        self.process = subprocess.run(command, cwd=folder, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                      text=True, timeout=timeout)
        self.seconds = time.monotonic() - start

    @property
    def outcome(self):
        return self.process.returncode, self.process.stdout, self.process.stderr

    def files(self):
        return sorted(os.path.basename(f) for f in glob.glob(os.path.join(self.folder, "*.pb*")))

    def trace(self, name="trace.pb"):
        return Trace(self.args, os.path.join(self.folder, name))

    def traces(self):
        return [self.trace(name) for name in self.files()]


class Trace:
    """A trace with its columns turned into rows again."""

    def __init__(self, args, path):
        check(os.path.exists(path), f"{path} does not exist")
        output = subprocess.run([args.trace_to_json, path], stdout=subprocess.PIPE, check=True).stdout
        self.chunks = json.loads(output).get("chunk", [])
        check(self.chunks, "the trace has no chunk")
        self.functions = {}
        self.states = {}
        self.calls = []
        self.losses = []
        self.devices = []
        self.process = {}
        self.audit = {}
        self.cpu_faults = 0
        for chunk in self.chunks:
            self.process.update(chunk.get("process", {}))
            for function in chunk.get("function", []):
                self.functions[function["id"]] = function["name"]
            for state in chunk.get("source_state", []):
                self.states[state["name"]] = (state.get("state", "").replace("STATE_", ""), state.get("reason", ""))
            # NVIDIA's CUPTI, if installed, cannot work on the stand-in driver.
            self.losses += [loss for loss in chunk.get("loss", []) if loss["source"] != "cupti"]
            self.devices += chunk.get("device", [])
            for count in chunk.get("audit_count", []):
                self.audit[count["function"]] = (int(count.get("happened", 0)), int(count.get("seen", 0)))
            self.cpu_faults += sum(len(columns["start_delta_ns"]) for columns in chunk.get("cpu_faults", []))
            for columns in chunk.get("api_calls", []):
                self.calls += self.rows(columns)
        self.clean = self.chunks[-1].get("end", {}).get("clean", False)

    DELTAS = {"start_delta_ns": "start_ns", "address_delta": "address", "other_address_delta": "other_address"}

    def rows(self, columns):
        count = len(columns["start_delta_ns"])
        rows = [{"driver_function": None, "stack": 0, "flags": 0, "stream": 0, "location": 0, "bytes": 0, "result": 0,
                 "memory_kind": "UNKNOWN"} for _ in range(count)]
        for name, values in columns.items():
            check(len(values) == count, f"column {name} has {len(values)} of {count} rows")
            total = 0
            for row, value in zip(rows, values):
                value = int(value) if isinstance(value, str) and value.lstrip("-").isdigit() else value
                if name in self.DELTAS:
                    total += value
                    row[self.DELTAS[name]] = total & (2**64 - 1)
                elif name in ("function", "driver_function"):
                    row[name] = self.functions.get(value)
                elif name == "door":
                    row[name] = value.replace("DOOR_", "")
                elif name == "memory_kind":
                    row[name] = value.replace("MEMORY_KIND_", "")
                else:
                    row[name] = value
        return rows

    def called(self, function):
        return [call for call in self.calls if call["function"] == function]


# What the trace must say --------------------------------------------------------------------------------------------

WORK = ["cudaMalloc", "cudaMallocManaged", "cudaFree", "cudaFree"]


def names(trace):
    return [call["function"] for call in trace.calls]


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
    check(int(managed["duration_ns"]) < 2_000_000, f"starting the sources counts as the call's time: {managed}")
    check(all(call["stack"] != 0 for call in trace.calls), "a call has no stack")
    return trace


def simulated_work(run):
    trace = one_clean_work(run, "Simulated Tiny GPU")
    check(trace.process.get("simulated"), "the trace does not say that it is simulated")
    check(trace.states["cupti"][0] == "ACTIVE", trace.states)
    check(trace.cpu_faults == 1, f"{trace.cpu_faults} CPU faults: the program touches one page of managed memory")


def simulated_death(run):
    unclean_work(run)
    check(run.trace().cpu_faults == 1, "what happened 250 ms before the end is lost")


def whole_process_version(run):
    trace = one_clean_work(run)
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


def both(*expectations):
    def expect(run):
        for expectation in expectations:
            expectation(run)
    return expect


def nothing(run):
    pass


PYTHON = """
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

SIMULATED = {"UVMTRACE_SIM_PROFILE": "tiny"}

INJECT = """
import ctypes, os, time
library = ctypes.CDLL(os.environ["TEST_LIBRARY"]) if "TEST_LIBRARY" in os.environ else None
driver = ctypes.CDLL("libcuda.so.1")
if library: print(library.InitializeInjection())
else: print(1)
time.sleep(0.3)
"""


# name: (program, arguments, expectation, options)
#   env        more variables; {fake} is the stand-ins' folder; UVMTRACE_SIM_PROFILE runs on the simulator instead of them
#   stderr     the library may print there: the expectation says what
#   partner    another library is preloaded as well: its name, or one that interposes dlsym
#   launcher   run by uvmtrace run
#   slow       takes long with the library, for a reason that the expectation knows
#   inject     loaded by the program, as CUDA_INJECTION64_PATH does, instead of preloaded
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
    "dlsym_partner": ("plain_host", ["runpath"], no_file, {"partner": True}),
    "deep_bind": ("plain_host", ["deep_bind"], nothing, {}),
    "registers_12": ("plain_host", ["registers_12"], registers, {}),
    "registers_13": ("plain_host", ["registers_13"], registers, {}),
    "missing_library": ("plain_host", ["missing_library"], no_file, {}),
    "missing_driver": ("plain_host", ["missing_driver"], both(warned("cuMemAlloc_v2", "cudaMalloc was"), no_file),
                       {"stderr": True}),
    "protobuf_host": ("protobuf_host", [], nothing, {}),
    "python": ("python3", ["-c", PYTHON], python_ctypes, {}),
    "injected": ("python3", ["-c", INJECT], injected, {"inject": True}),
    "simulated_normal": ("runtime_host", ["normal"], simulated_work, {"env": SIMULATED}),
    "simulated__exit4": ("runtime_host", ["_exit4"], simulated_work, {"env": SIMULATED}),
    "simulated_quick_exit6": ("runtime_host", ["quick_exit6"], simulated_work, {"env": SIMULATED}),
    "simulated_sigkill": ("runtime_host", ["sigkill"], simulated_death, {"env": SIMULATED}),
    "simulated_fork_before": ("runtime_host", ["fork_before"], processes(2, 2), {"env": SIMULATED}),
    "simulated_fork_idle": ("runtime_host", ["fork_idle"], processes(1, 2), {"env": SIMULATED}),
    "simulated_fork_exec": ("runtime_host", ["fork_exec"], processes(2, 2), {"env": SIMULATED}),
    "simulated_thread_alive": ("runtime_host", ["thread_alive"], some_calls, {"env": SIMULATED}),
    "simulated_start_together": ("runtime_host", ["start_together"], eight_works, {"env": SIMULATED}),
    "simulated_atexit": ("runtime_host", ["atexit"], atexit_calls, {"env": SIMULATED}),
    "simulated_python": ("python3", ["-c", PYTHON_RUNTIME], some_calls_of_python, {"env": SIMULATED}),
    "unknown_variable": ("runtime_host", ["normal"],
                         both(warned("UVMTRACE_STAKCS", "UVMTRACE_LOG='loud'"), one_clean_work),
                         {"stderr": True, "env": {"UVMTRACE_STAKCS": "3", "UVMTRACE_LOG": "loud", "UVMTRACE_SIM_X": "1"}}),
    "quiet": ("runtime_host", ["normal"], one_clean_work, {"env": {"UVMTRACE_STAKCS": "3", "UVMTRACE_LOG": "quiet"}}),
    "read_only_folder": ("runtime_host", ["normal"], both(warned("/proc/no"), no_file),
                         {"stderr": True, "env": {"UVMTRACE_OUT": "/proc/no/trace.pb"}}),
    "full_disk": ("runtime_host", ["normal"], warned("/dev/full"), {"stderr": True, "env": {"UVMTRACE_OUT": "/dev/full"}}),
    "static_launched": ("static_host", [], both(warned("statically linked"), no_file), {"stderr": True, "launcher": True}),
    "launched": ("runtime_host", ["exit3"], one_clean_work, {"launcher": True}),
    "launched_sigterm": ("runtime_host", ["sigterm"], unclean_work, {"launcher": True}),
}


def run_case(args, name):
    program, arguments, expectation, options = CASES[name]
    path = program if program == "python3" else os.path.join(args.programs, program)
    command = [path] + arguments
    environment = options.get("env", {})
    partner = options.get("partner")
    partner = [os.path.join(args.libraries, f"lib{partner if partner is not True else 'dlsym_partner'}.so")] if partner else []
    base = tempfile.mkdtemp(prefix=f"uvmtrace-{name}-")
    try:
        folders = [os.path.join(base, which) for which in ("without", "with")]
        for folder in folders:
            os.mkdir(folder)
        without = Run(args, folders[0], command, environment, partner)
        if options.get("launcher"):
            traced = Run(args, folders[1], [args.launcher, "run", "--"] + command, environment, partner)
        elif options.get("inject"):
            traced = Run(args, folders[1], command, {**environment, "TEST_LIBRARY": args.library}, partner)
        else:
            traced = Run(args, folders[1], command, environment, [args.library] + partner)
        expected, got = without.outcome, traced.outcome
        if options.get("stderr"):
            expected, got = expected[:2], got[:2]
        check("FAILED" not in expected[1], f"the program itself fails: {expected}")
        check(expected == got, f"the host noticed:\n  without: {expected}\n  with:    {got}\n{traced.process.stderr}")
        check(options.get("slow") or traced.seconds - without.seconds < EXIT_LIMIT_SECONDS,
              f"{without.seconds:.1f} s without, {traced.seconds:.1f} s with the library")
        expectation(traced)
    finally:
        if not args.keep:
            shutil.rmtree(base)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--case", action="append", default=[])
    parser.add_argument("--build", default="build/default")
    parser.add_argument("--keep", action="store_true")
    args = parser.parse_args()
    if args.list:
        print("\n".join(CASES))
        return 0
    build = os.path.abspath(args.build)
    args.build = build
    args.library = os.path.join(build, "lib/libuvmtrace.so")
    args.launcher = os.path.join(build, "bin/uvmtrace")
    args.programs = os.path.join(build, "tests/programs/bin")
    args.libraries = os.path.join(build, "tests/programs/libraries")
    args.fake = os.path.join(build, "tests/programs/fake")
    args.simulator = os.path.join(build, "lib/uvmtrace/sim")
    args.trace_to_json = os.path.join(args.programs, "trace_to_json")
    failed = 0
    for name in args.case or CASES:
        try:
            run_case(args, name)
            print(f"passed {name}")
        except (Failure, subprocess.SubprocessError, KeyError) as failure:
            print(f"FAILED {name}: {type(failure).__name__}: {failure}")
            failed += 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
