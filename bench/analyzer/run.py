#!/usr/bin/env python3
"""What a report costs, beside another uvmtrace-report, as ratios: runs of both alternate, the medians are compared.

    run.py MAKE_TRACE UVMTRACE_REPORT [OTHER_REPORT] [--events 1e6,1e7] [--rounds 5] [--threads 1] [--folder DIR]

CPU time is the child's own, so that other work on the machine disturbs little; memory is its peak.
"""
import argparse, os, resource, statistics, subprocess, tempfile, time


def run(report, trace, threads):
    command = [report, "--format=json", trace] + (["--threads", str(threads)] if threads else [])
    began = time.monotonic()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = status
    if status: raise SystemExit(f"{' '.join(command)}: status {status}")
    return used.ru_utime + used.ru_stime, time.monotonic() - began, used.ru_maxrss / 1024


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("make"); arguments.add_argument("report"); arguments.add_argument("other", nargs="?")
    arguments.add_argument("--events", default="1e6,1e7"); arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--threads", type=int, default=1); arguments.add_argument("--folder")
    a = arguments.parse_args()
    print(f"{'trace':26} {'B/event':>7} {'M events/s/core':>15} {'MiB':>6}" + (f" {'before':>9} {'MiB':>6} {'ratio':>7}" if a.other else ""))
    cases = [(f"{int(float(n)):,} events", [n, "0", "0"]) for n in a.events.split(",")] + \
            [("1,000,000 managed ranges", ["1e5", "1e6", "0"]), ("1,000,000 pool calls", ["1e5", "0", "1e6"])]
    for name, numbers in cases:
        counts = [str(int(float(n))) for n in numbers]
        with tempfile.NamedTemporaryFile(suffix=".pb", dir=a.folder) as trace:
            subprocess.run([a.make, trace.name, *counts], check=True)
            events = int(counts[0]) + 2 * int(counts[1]) + 2 * int(counts[2])
            times = {report: [] for report in (a.report, a.other) if report}
            for _ in range(a.rounds):
                for report in times: times[report].append(run(report, trace.name, a.threads if report == a.report else 0))
            def rate(report): return events / statistics.median(t[0] for t in times[report]) / 1e6
            def memory(report): return max(t[2] for t in times[report])
            line = f"{name:26} {os.path.getsize(trace.name) / events:7.1f} {rate(a.report):15.1f} {memory(a.report):6.0f}"
            if a.other:
                pairs = [old[0] / new[0] for new, old in zip(times[a.report], times[a.other])]
                line += f" {rate(a.other):9.1f} {memory(a.other):6.0f} {statistics.median(pairs):7.1f}"
            print(line, flush=True)


if __name__ == "__main__": main()
