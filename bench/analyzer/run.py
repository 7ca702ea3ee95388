#!/usr/bin/env python3
"""What a report costs, beside another uvmtrace-report, as ratios: runs of both alternate, pairs are compared.

    run.py BIN [OTHER_REPORT] [--events 1e6,1e7] [--rounds 5] [--threads 1] [--traces FOLDER] [--folder DIR]

BIN has uvmtrace-report, uvmtrace_repeat_trace and uvmtrace_make_trace. The traces: recorded ones of --traces that are run
again and again until they have so many events, at the detail "full" (migrations recorded) and at the default
(reconstructed from the faults); and two of a program that allocates a million times.
CPU time is the child's own, so that other work on the machine disturbs little; memory is its peak. A ratio is the other's
CPU time over this one's: its median, with the quartiles.
"""
import argparse, os, statistics, subprocess, tempfile, time

RECORDED = [("full", "h200_queue_oversub_uvm.pb", ["--migrations", "recorded"]),
            ("full", "h200_queue_known_bytes.pb", ["--migrations", "recorded"]),
            ("exact", "h100_exact_oversub_uvm.pb", [])]
# What is reconstructed stays below --max-memory up to here.
MOST_RECONSTRUCTED = 7_000_000
MADE = [("1,000,000 managed ranges", ["1e5", "1e6", "0"]), ("1,000,000 pool calls", ["1e5", "0", "1e6"])]


def run(report, trace, threads, options):
    command = [report, "--format=json", *options, trace] + (["--threads", str(threads)] if threads else [])
    began = time.monotonic()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = status
    if status: raise SystemExit(f"{' '.join(command)}: status {status}")
    return used.ru_utime + used.ru_stime, time.monotonic() - began, used.ru_maxrss / 1024


def quartiles(values):
    if len(values) < 2: return values[0], values[0]
    cut = statistics.quantiles(values, n=4)
    return cut[0], cut[2]


def row(name, trace, events, options, a):
    reports = [os.path.join(a.bin, "uvmtrace-report")] + ([a.other] if a.other else [])
    times = {report: [] for report in reports}
    for turn in range(a.rounds):
        for report in reports if turn % 2 else reports[::-1]: times[report].append(run(report, trace, a.threads, options))
    ours = times[reports[0]]
    cells = [name, f"{events:,}", f"{os.path.getsize(trace) / events:.1f}",
             f"{events / statistics.median(t[0] for t in ours) / 1e6:.1f}", f"{max(t[2] for t in ours):.0f}"]
    if a.other:
        pairs = [old[0] / new[0] for new, old in zip(ours, times[a.other])]
        low, high = quartiles(pairs)
        cells += [f"{events / statistics.median(t[0] for t in times[a.other]) / 1e6:.1f}",
                  f"{max(t[2] for t in times[a.other]):.0f}", f"{statistics.median(pairs):.2f} ({low:.2f}..{high:.2f})"]
    print("| " + " | ".join(cells) + " |", flush=True)


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("bin"); arguments.add_argument("other", nargs="?")
    arguments.add_argument("--events", default="1e6,1e7"); arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--threads", type=int, default=1); arguments.add_argument("--folder")
    arguments.add_argument("--traces", default=os.path.join(os.path.dirname(__file__), "..", "..", "tests", "golden"))
    a = arguments.parse_args()
    head = ["trace", "events", "B/event", "M events/s/core", "MiB"] + (["before", "MiB", "ratio"] if a.other else [])
    print("| " + " | ".join(head) + " |\n|---|" + "---:|" * (len(head) - 1))
    with tempfile.TemporaryDirectory(dir=a.folder) as folder:
        trace = os.path.join(folder, "trace.pb")
        for events in (int(float(n)) for n in a.events.split(",")):
            for detail, recorded, options in RECORDED:
                if detail == "exact" and events > MOST_RECONSTRUCTED: continue
                subprocess.run([os.path.join(a.bin, "uvmtrace_repeat_trace"), os.path.join(a.traces, recorded), trace,
                                str(events)], check=True)
                row(f"{detail}: {recorded[:-3]}", trace, events, options, a)
        for name, numbers in MADE:
            counts = [str(int(float(n))) for n in numbers]
            subprocess.run([os.path.join(a.bin, "uvmtrace_make_trace"), trace, *counts], check=True)
            row(name, trace, int(counts[0]) + 2 * int(counts[1]) + 2 * int(counts[2]), [], a)


if __name__ == "__main__": main()
