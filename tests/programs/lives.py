"""Programs that fork, end and run out of things, with and without libuvmtrace.so: the host must not notice, and the
report of what they left must say what they did. A case is one line in CASES; lives.cmake makes a test of each.

  lives.py --case NAME     run one
  lives.py --list          print the names
"""

import json
import os
import stat
import sys

import runner
from runner import PYTHON, SIMULATED, both, report
from traces import check, names

# What the report must say -------------------------------------------------------------------------------------------


def processes(count, works, clean=None, runs=1):
    """So many processes of one run made so many works together; `clean` of them ended by themselves."""
    def expect(run):
        result = report(run)
        rows = result.get("processes", [])
        check(len(run.files()) == len(rows) == count, f"{count} processes expected: {run.files()}, {rows}")
        check(len({row["pid"] for row in rows}) == count or count > len(rows), f"pids: {rows}")
        calls = int(result["totals"]["api_calls"])
        check(calls == 4 * works, f"{calls} calls, not {4 * works}: {rows}")
        ended = sum(row.get("clean_end", False) for row in rows)
        check(ended == (count if clean is None else clean), f"{ended} clean ends: {rows}")
        check(not result["capture"].get("losses"), result["capture"])
        for name in run.files():
            check(stat.S_IMODE(os.stat(os.path.join(run.folder, name)).st_mode) == 0o600, f"{name} is not private")
    return expect


def one(works=1):
    return processes(1, works)


def cut_off(works=1):
    """Died with everything in the file, but for the last word."""
    return processes(1, works, clean=0)


def some(count=1, clean=True):
    """Threads were at it: how many calls there are is not known, but they are all there or counted."""
    def expect(run):
        result = report(run)
        check(len(result["processes"]) == count, result["processes"])
        check(int(result["totals"]["api_calls"]) >= 4, result["totals"])
        for row in result["processes"]:
            check(row.get("clean_end", False) == clean, row)
    return expect


def readable(count, minimum_calls):
    def expect(run):
        result = report(run)
        check(len(result["processes"]) == count, result["processes"])
        check(int(result["totals"]["api_calls"]) >= minimum_calls, result["totals"])
    return expect


def workers(run):
    """Parent and workers; one worker may have got all the tasks."""
    rows = report(run)["processes"]
    check(len(rows) in (2, 3), rows)
    check(all(row["clean_end"] and int(row["api_calls"]) >= 2 for row in rows), rows)
    check(sum(int(row["api_calls"]) for row in rows) in (18, 20), rows)


def family(run):
    """Each process of a chain names its parent."""
    processes(4, 4)(run)
    rows = report(run)["processes"]
    pids = {row["pid"] for row in rows}
    check(sum(row["parent_pid"] in pids for row in rows) == 3, f"not a chain: {rows}")


def ranks(run):
    processes(3, 3)(run)
    rows = report(run)["processes"]
    check(sorted((row["rank"], row["local_rank"]) for row in rows) == [("0", "0"), ("1", "1"), ("2", "0")], rows)


def twice(run):
    """Two recorders in one process, each with the whole of it."""
    traces = run.traces()
    check(len(traces) == 2, run.files())
    for trace in traces:
        check(len(trace.calls) == 4 and trace.clean and not trace.losses, f"{names(trace)}, {trace.losses}")


def two_runs(run):
    check(len(run.files()) == 1, run.files())
    check(int(report(run)["totals"]["api_calls"]) == 4, "the child was not to be traced")


def lone_daemons(run):
    """Nobody can tell that they belong together: two runs, the older one's file kept aside."""
    check(len(run.files()) == 2, run.files())  # the older one may still have been ending
    for name in run.files():
        rows = report(run, os.path.join(run.folder, name))
        check(int(rows["totals"]["api_calls"]) == 4, rows["totals"])


def nothing_left(run):
    check(run.files() == [], run.files())


def nothing_recorded(run):
    """The file is there, and empty."""
    check([os.path.getsize(os.path.join(run.folder, name)) for name in run.files()] == [0], run.files())


def said(*lines):
    """Exactly so many lines on stderr, each with its words."""
    def expect(run):
        got = [line for line in run.process.stderr.splitlines() if line.startswith("uvmtrace: ")]
        check(len(got) == len(lines), f"stderr: {got}")
        for words, line in zip(lines, got):
            check(words in line, f"{words!r} is not in {line!r}")
    return expect


def nothing_lost_uncounted(calls):
    def expect(run):
        trace = run.trace()
        lost = sum(int(loss["count"]) for loss in trace.losses if loss["source"] == "api_calls")
        check(len(trace.calls) + lost == calls, f"{len(trace.calls)} calls and {lost} lost are not {calls}")
        check(trace.clean, "the end is not clean")
    return expect


def lost_for(reason):
    def expect(run):
        trace = run.trace()
        check(any(reason in loss["reason"] for loss in trace.losses), f"no loss for {reason!r}: {trace.losses}")
    return expect


def victim_untouched(run):
    victim = os.path.join(run.folder, "victim")
    with open(victim) as file:
        check(file.read() == "precious\n", "somebody else's file was written to")


def python_stacks(run):
    """Every allocation has the stack that Python itself saw."""
    trace = run.trace()
    check(trace.states["python_stacks"][0] == "ACTIVE", trace.states["python_stacks"])
    strings = {s["id"]: s["value"] for c in trace.chunks for s in c.get("string", [])}
    codes = {c["id"]: c for chunk in trace.chunks for c in chunk.get("code", [])}
    stacks = {s["id"]: s for c in trace.chunks for s in c.get("stack", [])}
    with open(os.path.join(run.folder, "expected.json")) as file:
        expected = dict(json.load(file))
    seen = 0
    for call in trace.called("cudaMallocManaged"):
        stack = stacks[call["stack"]]
        frames = [[strings[codes[code]["function"]], strings[codes[code]["file"]], line]
                  for code, line in zip(stack["code"], stack["line"])]
        check(frames[0][0] == "work", frames)
        check(frames[1:] == expected[call["bytes"]], f"{call['bytes']}: {frames[1:]}\nis not {expected[call['bytes']]}")
        seen += 1
    check(seen == len(expected) == 12, f"{seen} allocations")
    # The report names the first function that is the program's own.
    sites = {row["site"] for row in report(run)["allocations"]}
    check(any(site.startswith("work (cuda_work.py:") for site in sites), sites)


def deep_stack(run):
    trace = run.trace()
    stacks = {s["id"]: s for c in trace.chunks for s in c.get("stack", [])}
    depths = [len(stacks[call["stack"]].get("code", [])) for call in trace.calls]
    check(max(depths) == 32, f"depths: {depths}")


def free_threaded(run):
    one()(run)
    state = run.trace().states["python_stacks"]
    check(state[0] == "UNAVAILABLE" and "free-threaded" in state[1], state)


def python_314(run):
    one()(run)
    trace = run.trace()
    check(trace.states["python_stacks"] == ("ACTIVE", "CPython 3.14"), trace.states["python_stacks"])
    strings = {s["id"]: s["value"] for c in trace.chunks for s in c.get("string", [])}
    codes = {c["id"]: c for chunk in trace.chunks for c in chunk.get("code", [])}
    stacks = {s["id"]: s for c in trace.chunks for s in c.get("stack", [])}
    for call in trace.calls:
        stack = stacks[call["stack"]]
        frames = [(strings[codes[code]["function"]], strings[codes[code]["file"]], line)
                  for code, line in zip(stack["code"], stack["line"])]
        check(frames == [("Model.load", "/srv/model.py", 205), ("main", "/srv/model.py", 103)], frames)


def python_314_ends(run):
    one()(run)
    trace = run.trace()
    stacks = {s["id"]: s for c in trace.chunks for s in c.get("stack", [])}
    depths = [len(stacks[call["stack"]].get("code", [])) for call in trace.calls]
    check(depths == [2, 0, 0, 0], f"depths: {depths}")


def python_314_refused(run):
    one()(run)
    state = run.trace().states["python_stacks"]
    check(state[0] == "UNAVAILABLE" and "3.14" in state[1], state)


def no_python_stacks(run):
    state = run.trace().states["python_stacks"]
    check(state[0] == "DISABLED", state)


def prepare_link(folder):
    with open(os.path.join(folder, "victim"), "w") as file:
        file.write("precious\n")
    os.symlink("victim", os.path.join(folder, "link.pb"))


def prepare_fifo(folder):
    os.mkfifo(os.path.join(folder, "fifo.pb"))


def prepare_folder(folder):
    os.mkdir(os.path.join(folder, "folder.pb"))


CASES = {
    # Processes.
    "fork_from_thread": ("process_host", ["fork_from_thread"], readable(7, 7 * 4), {}),
    "fork_while_starting": ("process_host", ["fork_while_starting"], readable(7, 7 * 3), {}),
    "fork_chain": ("process_host", ["fork_chain"], family, {}),
    "many_children": ("process_host", ["many_children"], processes(13, 13), {}),
    "fork_beside_the_loader": ("process_host", ["fork_beside_the_loader"], processes(21, 40),
                               {"before": "slow_loader", "seconds": 10}),
    "fork_beside_starting_threads": ("process_host", ["daemon_after_work"], processes(2, 2),
                                     {"before": "slow_thread_start", "env": {"THREAD_START_MS": "60"}}),
    "daemon_after_work": ("process_host", ["daemon_after_work"], processes(2, 2), {}),
    "daemons_before_work": ("process_host", ["daemons_before_work"], lone_daemons, {}),
    "parent_dies_first": ("process_host", ["parent_dies_first"], processes(2, 2), {}),
    "new_session": ("process_host", ["new_session"], processes(2, 2), {}),
    "spawn": ("process_host", ["spawn"], processes(2, 2), {}),
    "spawn_without_environment": ("process_host", ["spawn_without_environment"], two_runs, {}),
    "vfork_exec_of_cuda": ("process_host", ["vfork_exec"], processes(2, 3), {}),
    "shell": ("process_host", ["shell"], processes(3, 3), {}),
    "pipe": ("process_host", ["pipe"], processes(2, 2), {}),
    "exec_itself": ("process_host", ["exec_itself"], readable(2, 4), {}),
    "exec_from_thread": ("process_host", ["exec_from_thread"], readable(2, 4), {}),
    "ranks": ("process_host", ["ranks"], ranks, {}),
    "first_process_of_a_namespace": ("process_host", ["first_process"], processes(2, 2), {}),
    "close_all_and_fork": ("process_host", ["close_all_and_fork"], processes(2, 2), {}),
    "children_left_out": ("process_host", ["vfork_exec"], processes(1, 2), {"env": {"UVMTRACE_CHILDREN": "0"}}),
    "forked_children_left_out": ("process_host", ["many_children"], processes(1, 1), {"env": {"UVMTRACE_CHILDREN": "0"}}),
    "simulated_spawn": ("process_host", ["spawn"], processes(2, 2), {"env": SIMULATED}),
    "simulated_new_session": ("process_host", ["new_session"], processes(2, 2), {"env": SIMULATED}),
    "simulated_ranks": ("process_host", ["ranks"], ranks, {"env": SIMULATED}),
    # Endings.
    "crash_handled_by_exit": ("ending_host", ["crash_handled_by_exit"], one(), {}),
    "crash_survived": ("ending_host", ["crash_survived"], one(2), {}),
    "crash_reported": ("ending_host", ["crash_reported"], cut_off(), {}),
    "stack_overflow": ("ending_host", ["stack_overflow"], cut_off(), {}),
    "sigint": ("ending_host", ["sigint"], cut_off(), {}),
    "sigquit": ("ending_host", ["sigquit"], cut_off(), {}),
    "sigpipe": ("ending_host", ["sigpipe"], cut_off(), {}),
    "sigalrm": ("ending_host", ["sigalrm"], cut_off(), {}),
    "sigterm_handled_by_exit": ("ending_host", ["sigterm_handled_by_exit"], one(), {}),
    "sigterm_handled_by__exit": ("ending_host", ["sigterm_handled_by__exit"], one(), {}),
    "sigterm_handled_by_return": ("ending_host", ["sigterm_handled_by_return"], one(), {}),
    "exit_inside_a_call": ("ending_host", ["exit_inside_a_call"], some(), {}),
    "_exit_inside_a_call": ("ending_host", ["_exit_inside_a_call"], some(), {}),
    "death_inside_a_call": ("ending_host", ["death_inside_a_call"], readable(1, 0), {}),
    "exit_while_threads_allocate": ("ending_host", ["exit_while_threads_allocate"], some(), {}),
    "_exit_while_threads_allocate": ("ending_host", ["_exit_while_threads_allocate"], some(), {}),
    "quick_exit_while_threads_allocate": ("ending_host", ["quick_exit_while_threads_allocate"], some(), {}),
    "abort_handled": ("ending_host", ["abort_handled"], cut_off(), {}),
    "terminate_handled": ("ending_host", ["terminate_handled"], one(), {}),
    "device_reset": ("ending_host", ["device_reset"], readable(1, 8), {}),
    "unload": ("ending_host", ["unload"], readable(1, 6), {}),
    "quick_exit_handler": ("ending_host", ["quick_exit_handler"], one(2), {}),
    "main_thread_ends_first": ("ending_host", ["main_thread_ends_first"], one(2), {}),
    "raw_exit": ("ending_host", ["raw_exit"], cut_off(), {}),
    "exit_in_an_exit_handler": ("ending_host", ["exit_in_an_exit_handler"], one(), {}),
    "static_destructor": ("ending_host", ["static_destructor"], one(2), {}),
    "stopped_and_continued": ("ending_host", ["stopped_and_continued"], one(2), {}),
    "core_dump": ("ending_host", ["core_dump"], readable(3, 0), {}),
    "killed_by_somebody_else": ("ending_host", ["killed_by_somebody_else"], cut_off(), {}),
    "thread_cancelled": ("ending_host", ["thread_cancelled"], some(), {}),
    "simulated_exit_while_threads_allocate": ("ending_host", ["exit_while_threads_allocate"], some(), {"env": SIMULATED}),
    "simulated_device_reset": ("ending_host", ["device_reset"], readable(1, 8), {"env": SIMULATED}),
    "simulated_crash_survived": ("ending_host", ["crash_survived"], one(2), {"env": SIMULATED}),
    # Resources.
    "no_descriptors_at_the_start": ("resource_host", ["no_descriptors_at_the_start"], readable(1, 0), {"stderr": True}),
    "no_descriptors_later": ("resource_host", ["no_descriptors_later"], one(2), {}),
    "no_standard_streams": ("resource_host", ["no_standard_streams"], one(2), {}),
    "no_memory_at_the_start": ("resource_host", ["no_memory_at_the_start"], lambda run: None, {"stderr": True}),
    "no_memory_later": ("resource_host", ["no_memory_later"], nothing_lost_uncounted(2), {}),
    "small_stack": ("resource_host", ["small_stack"], one(4), {}),
    "disk_fills_up": ("resource_host", ["disk_fills_up"], readable(1, 100),
                      {"stderr": True, "env": {"UVMTRACE_OUT": "small/trace.pb"}}),
    "read_only_disk": ("resource_host", ["read_only_disk"], both(nothing_left, said("Read-only file system")),
                       {"stderr": True, "env": {"UVMTRACE_OUT": "small/trace.pb"}}),
    "hidden_proc": ("resource_host", ["hidden_proc"], one(), {}),
    "file_is_removed": ("resource_host", ["folder_is_removed"], nothing_left, {}),
    "file_size_limit_later": ("resource_host", ["file_size_limit_later"],
                              both(nothing_lost_uncounted(52 * 4), lost_for("file size limit"), said("file size limit")),
                              {"stderr": True}),
    "many_threads": ("resource_host", ["many_threads"], nothing_lost_uncounted(64 * 4000), {"seconds": 10}),
    "slow_disk": ("resource_host", ["many_threads"], lambda run: None, {"slow_disk": 400, "stderr": True, "seconds": 10}),
    "dead_disk": ("resource_host", ["work"], both(readable(1, 0), said("lacks its end")),
                  {"slow_disk": 60_000, "stderr": True}),
    "disk_dead_from_the_start": ("resource_host", ["work"],
                                 both(nothing_recorded, said("is not begun", "nothing of process")),
                                 {"slow_disk": 60_000, "stderr": True, "env": {"SLOW_DISK_AFTER": "0"}, "seconds": 4.5}),
    "late_writer": ("resource_host", ["work"], both(one(), said("is not begun")),
                    {"before": "slow_thread_start", "stderr": True, "env": {"THREAD_START_MS": "2200"}, "seconds": 4.5}),
    "writer_that_never_runs": ("resource_host", ["work"],
                               both(nothing_recorded, said("is not begun", "nothing of process")),
                               {"before": "slow_thread_start", "stderr": True, "env": {"THREAD_START_MS": "60000"},
                                "seconds": 4.5}),
    "symbolic_link": ("resource_host", ["work"], both(victim_untouched, said("a symbolic link")),
                      {"stderr": True, "prepare": prepare_link, "env": {"UVMTRACE_OUT": "link.pb"}}),
    "fifo": ("resource_host", ["work"], said("a fifo"),
             {"stderr": True, "prepare": prepare_fifo, "env": {"UVMTRACE_OUT": "fifo.pb"}}),
    "folder": ("resource_host", ["work"], said("a folder"),
               {"stderr": True, "prepare": prepare_folder, "env": {"UVMTRACE_OUT": "folder.pb"}}),
    "missing_folder": ("resource_host", ["work"], both(nothing_left, said("its folder does not exist")),
                       {"stderr": True, "env": {"UVMTRACE_OUT": "missing/%h/%p.pb"}}),
    # Beside others.
    "twice": ("resource_host", ["work"], twice, {"twice": True}),
    "simulated_twice": ("resource_host", ["work"], twice, {"twice": True, "env": SIMULATED}),
    # The library's code runs before the sanitizer's runtime has made itself ready.
    "asan_host": ("asan_host", ["work"], one(),
                  {"optional": True, "env": {"ASAN_OPTIONS": "verify_asan_link_order=0:detect_leaks=0"}}),
    "static_asan_host": ("static_asan_host", ["work"], one(),
                         {"optional": True, "env": {"ASAN_OPTIONS": "detect_leaks=0"}}),
    # Python.
    "workers_fork": (PYTHON, ["workers.py", "fork"], workers, {}),
    "workers_spawn": (PYTHON, ["workers.py", "spawn"], workers, {}),
    "workers_forkserver": (PYTHON, ["workers.py", "forkserver"], workers, {}),
    "python_os__exit": (PYTHON, ["ends.py", "os__exit"], readable(1, 2), {}),
    "python_sys_exit": (PYTHON, ["ends.py", "sys_exit"], readable(1, 2), {}),
    "python_exception": (PYTHON, ["ends.py", "exception"], readable(1, 2), {}),
    "python_interrupt": (PYTHON, ["ends.py", "interrupt"], readable(1, 0), {}),
    "python_daemon_threads": (PYTHON, ["ends.py", "daemon_threads"], some(), {}),
    "python_os_fork": (PYTHON, ["ends.py", "os_fork"], readable(2, 4), {}),
    "python_subprocess": (PYTHON, ["ends.py", "subprocess"], readable(2, 4), {}),
    "python_finalizers": (PYTHON, ["ends.py", "finalizers"], readable(1, 4), {}),
    "python_traced": (PYTHON, ["ends.py", "traced"], readable(1, 4), {}),
    "python_deep": (PYTHON, ["ends.py", "deep"], deep_stack, {}),
    "python_no_stacks": (PYTHON, ["ends.py", "normal"], no_python_stacks, {"env": {"UVMTRACE_STACKS": "0"}}),
    "free_threaded_python": ("resource_host", ["work"], free_threaded, {"before": "free_threaded"}),
    "python_314_by_layout": ("resource_host", ["work"], python_314, {"before": "python_314"}),
    "python_314_finalizes_meanwhile": ("resource_host", ["work"], python_314_ends,
                                       {"before": "python_314", "env": {"PYTHON_314_FINALIZES": "3"}}),
    "python_314_of_another_layout": ("resource_host", ["work"], python_314_refused,
                                     {"before": "python_314", "env": {"PYTHON_314_STRINGS": "alpha"}}),
    "python_stacks": (PYTHON, ["stacks.py"], python_stacks, {"versions": True}),
    "simulated_python_stacks": (PYTHON, ["stacks.py"], python_stacks, {"env": SIMULATED}),
    "simulated_workers_spawn": (PYTHON, ["workers.py", "spawn"], workers, {"env": SIMULATED}),
}

# Those whose failure is a matter of timing: what soak.py runs over and over.
SOAK = [name for name, (program, _, _, options) in CASES.items()
        if program in ("process_host", "ending_host") and "env" not in options and name not in ("fork_chain",)]
SOAK += ["python_daemon_threads", "workers_fork", "python_os_fork"]

if __name__ == "__main__":
    sys.exit(runner.main(CASES, __doc__))
