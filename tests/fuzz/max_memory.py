#!/usr/bin/env python3
"""uvmtrace-report keeps to --max-memory, says what it left out for it, and its totals stay whole.

    max_memory.py UVMTRACE_REPORT UVMTRACE_MAKE_TRACE FOLDER

A program that allocates and frees a million managed ranges, and one that takes 100,000 pieces from a pool each second,
are read with the default and with little memory. Memory is the peak that the kernel counted.
"""
import json, os, subprocess, sys

# Events, managed ranges, pool calls.
TRACES = {"managed": (100_000, 1_000_000, 0), "pool": (100_000, 0, 1_000_000)}
DEFAULT_MIB = 512
# Less than the ranges need, more than the program itself.
SMALL_MIB = 128


def run(report, trace, *options):
    child = subprocess.Popen([report, "--sysroot", "/nonexistent", "--format", "json", *options, trace],
                             stdout=subprocess.PIPE)
    text = child.stdout.read()
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = status
    return status, json.loads(text) if status == 0 else {}, used.ru_maxrss / 1024


def main():
    report, make, folder = sys.argv[1:]
    os.makedirs(folder, exist_ok=True)
    problems = []
    for name, numbers in TRACES.items():
        trace = os.path.join(folder, name + ".pb")
        subprocess.run([make, trace, *map(str, numbers)], check=True)
        totals = []
        for limit, options in ((DEFAULT_MIB, ()), (SMALL_MIB, ("--max-memory", f"{SMALL_MIB}M")),
                               (DEFAULT_MIB, ("--migrations", "reconstructed"))):
            status, data, peak = run(report, trace, *options)
            said = [line for line in data.get("not_seen", []) if "--max-memory" in line]
            print(f"{name:8} at most {limit} MiB {' '.join(options):28} peak {peak:.0f} MiB, {len(said)} line(s) of what was left out")
            if status: problems.append(f"{name} {options}: status {status}")
            if peak > limit: problems.append(f"{name} {options}: {peak:.0f} MiB")
            if options and options[0] == "--max-memory":
                if name == "managed" and not said: problems.append(f"{name}: nothing is said of what was left out")
            elif said and not options: problems.append(f"{name}: left out at the default: {said}")
            if not options or options[0] == "--max-memory": totals.append(data.get("totals"))
        if totals[0] != totals[1]: problems.append(f"{name}: totals differ: {totals}")
        os.remove(trace)
    status, _, _ = run(report, "nothing.pb", "--max-memory", "none")
    if os.waitstatus_to_exitcode(status) != 2: problems.append("--max-memory none: is no size")
    for problem in problems: print("FAILED:", problem)
    return 1 if problems else 0


if __name__ == "__main__": sys.exit(main())
