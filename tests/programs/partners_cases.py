"""What shares a process with the recorder: each behaves the same with and without it, and its calls are still seen.

  partners_cases.py --case NAME     run one
  partners_cases.py --list          print the names
"""

import os
import sys

import run_program
import runner
from runner import SIMULATED, both, nothing, report
from traces import check, names


def calls(*wanted):
    """The calls of the trace are these, in order: (function, bytes, result)."""
    def expect(run):
        got = [(call["function"], call["bytes"], call["result"]) for call in run.trace().calls]
        got = [row for row in got if row[0] not in ("cuInit", "cuDevicePrimaryCtxRetain")]
        check(got == list(wanted), got)
    return expect


REFUSED = ("cuMemAlloc_v2", 1 << 20, 2)
GRANTED = ("cuMemAlloc_v2", 1 << 10, 0)
STUB = calls(("cuMemAlloc_v2", 321, 0), ("cuMemAlloc_v2", 321, 0))


def quota_is_in_force(*wanted):
    def expect(run):
        lines = run.process.stdout.splitlines()
        check(all(line.endswith(": 2 0") for line in lines[1:]), f"the quota is off: {lines}")
        calls(*wanted)(run)
    return expect


def linked(run):
    trace = run.trace()
    got = [(call["function"], call["door"], call["bytes"]) for call in trace.calls]
    check(got == [("cuInit", "DRIVER_SYMBOL", 0), ("cudaMalloc", "RUNTIME_SYMBOL", 101),
                  ("cudaMalloc", "RUNTIME_SYMBOL", 102), ("cudaMalloc", "RUNTIME_SYMBOL", 103),
                  ("cuMemAlloc_v2", "DRIVER_SYMBOL", 104), ("cudaFree", "RUNTIME_SYMBOL", 0)], got)


def managed(run):
    allocated = [call for call in run.trace().calls if call["memory_kind"] != "UNKNOWN"]
    check([(call["bytes"], call["memory_kind"]) for call in allocated] == [(8 << 20, "MANAGED")], allocated)
    check(run.trace().cpu_faults > 0, "no CPU fault: the sources did not start")
    rows = [row for row in report(run)["allocations"] if row.get("bytes") == str(8 << 20)]
    check([row["kind"] for row in rows] == ["managed"], report(run)["allocations"])


def drivers_own(run):
    lines = run.process.stdout.splitlines()
    check(any("libcuda.so" in line for line in lines), lines)
    check(not any("libuvmtrace" in line for line in lines), lines)


def first_call_by_the_driver(run):
    """The files were loaded where no scan could follow: the next call that passes a door makes up for it."""
    got = [(call["function"], call["bytes"]) for call in run.trace().calls if call["bytes"] != 0]
    check(got == [("cuMemAlloc_v2", 77), ("cudaMalloc", 77)], got)


def goes_on_after_a_jump(run):
    trace = run.trace()
    check(names(trace).count("cuMemAlloc_v2") == 11, names(trace))
    check(any("longjmp" in reason for reason in map(str, trace.losses)), trace.losses)


def cost_of_call_sites(run):
    with open(os.path.join(run.folder, "cost")) as file:
        few, many = map(float, file.read().split())
    print(f"{few} ns a call from 64 places, {many} ns from 8192")
    check(many < 4 * few + 200, f"{few} ns a call from 64 places, {many} ns from 8192")


def cost_of_ioctl(run):
    with open(os.path.join(run.folder, "cost")) as file:
        without, with_it = map(float, file.read().split())
    print(f"{without} ns a call behind the recorder, {with_it} ns through it")
    check(with_it - without < 15, f"{without} ns a call behind the recorder, {with_it} ns through it")


def watched(run):
    lines = [line for line in run.process.stdout.splitlines() if line.startswith("seen by the tool ")]
    check(len(lines) == 1 and int(lines[0].split()[-1]) >= 7, run.process.stdout)


def library(name):
    return "{libraries}/lib" + name + ".so"


BEHIND = {"partner": "quota"}
BEFORE = {"before": "quota"}
SYMBOL_BEHIND = {"partner": "quota_symbol"}
SYMBOL_BEFORE = {"before": "quota_symbol"}
FORCE_BEHIND = {"partner": "force_managed", "env": SIMULATED}
FORCE_BEFORE = {"before": "force_managed", "env": SIMULATED}

CASES = {
    # The recorder answers for nobody else.
    "probe": ("probe_host", [], run_program.no_file, {}),
    "probe_beside_a_driver": ("probe_host", ["libcuda.so.1", "local"], run_program.no_file, {}),
    "probe_with_a_driver": ("probe_host", ["libcuda.so.1", "global"], run_program.no_file, {}),
    "probe_beside_a_runtime": ("probe_host", ["libcudart.so.13", "local"], run_program.no_file, {}),
    "probe_with_a_runtime": ("probe_host", ["libcudart.so.13", "global"], run_program.no_file, {}),
    "stub_opened": ("works_host", [library("stub")], STUB, {}),
    "stub_opened_globally": ("works_host", [library("stub"), "global"], STUB, {}),
    "stub_linked": ("works_stub_host", [], STUB, {}),
    "pointer_variables_opened": ("works_host", [library("pointer_variables")], STUB, {}),
    "pointer_variables_opened_globally": ("works_host", [library("pointer_variables"), "global"], STUB, {}),
    "pointer_variables_linked": ("works_pointers_host", [], STUB, {}),
    "pointer_variables_bound_at_once": ("works_pointers_now_host", [], STUB, {}),
    "registration_elsewhere": ("works_host", [library("wraps_registration")], run_program.no_file, {}),
    "patcher": ("works_host", [library("ucm_patcher")], both(drivers_own, run_program.no_file), {}),
    # Asked before this library is relocated.
    **{f"resolver_{way}": (f"chosen_by_{way}_host", [], run_program.no_file, {})
       for way in ("getenv", "dlsym", "cuda_name", "dlvsym", "dlopen", "ioctl")},
    # Bound by the linker, in each way.
    "linked_lazily": ("linked_lazy_host", [], linked, {}),
    "linked_at_once": ("linked_now_host", [], linked, {}),
    "linked_without_plt": ("linked_no_plt_host", [], linked, {}),
    "linked_at_a_fixed_address": ("linked_fixed_host", [], linked, {}),
    "opened_by_bare_name": ("works_host", [library("opens_by_name")], first_call_by_the_driver, {}),
    # Other preloaded tools.
    "quota_behind": ("quota_host", [], quota_is_in_force(REFUSED, GRANTED, REFUSED, GRANTED), BEHIND),
    "quota_before": ("quota_host", [], quota_is_in_force(GRANTED, GRANTED), BEFORE),
    "quota_by_symbol_behind": ("quota_linked_host", [], calls(REFUSED[:2] + (0,), GRANTED, REFUSED[:2] + (0,), GRANTED, GRANTED),
                               SYMBOL_BEHIND),
    "quota_by_symbol_before": ("quota_linked_host", [], calls(REFUSED[:2] + (0,), GRANTED, REFUSED[:2] + (0,), GRANTED, GRANTED),
                               SYMBOL_BEFORE),
    "force_managed_behind": ("force_managed_host", [], managed, FORCE_BEHIND),
    "force_managed_before": ("force_managed_host", [], managed, FORCE_BEFORE),
    "ioctl": ("ioctl_host", [], nothing, {}),
    "ioctl_watched_behind": ("ioctl_host", [], watched, {"partner": "ioctl_watcher"}),
    "ioctl_watched_before": ("ioctl_host", [], watched, {"before": "ioctl_watcher"}),
    "ioctl_cost": ("ioctl_host", ["cost"], cost_of_ioctl, {"partner": "ioctl_watcher"}),
    # What else the program does.
    "call_left_by_longjmp": ("jumping_host", [], goes_on_after_a_jump, {}),
    "call_sites": ("call_sites_host", ["cost"], cost_of_call_sites, {}),
}

if __name__ == "__main__":
    sys.exit(runner.main(CASES, __doc__))
