#!/usr/bin/env python3
"""The whole road on the simulator: a workload under uvmtrace, its trace, its report, and what they must say.

  tests/programs/end_to_end.py --build BUILD --source SOURCE CASE
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

MIB = 1 << 20


def expect(condition, message):
    if not condition:
        sys.exit(f"FAILED: {message}")


def equal(seen, expected, what):
    expect(int(seen) == expected, f"{what} is {seen}, not {expected}")


class Road:
    """The built programs, and a folder of its own to run them in."""

    def __init__(self, build, source, folder):
        self.build = build
        self.source = source
        self.folder = folder
        self.trace = folder / "trace.pb"
        self.bin = build / "bin"

    def run(self, command, **environment):
        done = subprocess.run([str(word) for word in command], cwd=self.folder, capture_output=True, text=True,
                              env=dict(os.environ, **environment), timeout=120)
        expect(done.returncode == 0, f"{command} exited with {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def record(self, program, *arguments, options=()):
        self.run([self.bin / "uvmtrace", "run", "--simulate=tiny", "-o", self.trace, *options, "--",
                  self.bin / "examples" / program, *arguments])
        return self.report()

    def report(self, *options):
        return json.loads(self.run([self.bin / "uvmtrace-report", "--format", "json", "--top", "0", *options, self.trace]))


def balanced(report, cupti=False):
    """Every total is the sum of its rows. Faults are counted in fault groups by CUPTI, in entries by the driver's queue."""
    totals = report["totals"]
    faults, others = "gpu_fault_entries", "gpu_fault_groups"
    if cupti:
        faults, others = others, faults
    expect(others not in totals, f"{others} are printed though their source was off")
    for name in ("host_to_device_bytes", "device_to_host_bytes", faults, "cpu_faults"):
        rows = sum(int(row.get(name, 0)) for row in report["allocations"])
        equal(rows, int(totals[name]), f"sum of allocations[].{name}")
    for direction in ("host_to_device", "device_to_host"):
        rows = sum(int(row["bytes"]) for row in report["migrations"] if row["direction"] == direction)
        equal(rows, int(totals[direction + "_bytes"]), f"sum of migrations[] {direction}")
    expect("lost" not in report["capture"], f"lost: {report['capture'].get('lost')}")
    expect(report["capture"]["clean_end"], "no clean end")
    expect(report["capture"]["simulated"], "the trace is not marked as simulated")


EXACT, FULL, CUPTI = (), ("--detail", "full"), ("--source", "cupti")


def told_every_byte(report, options):
    """At the default detail the faults explain every byte that the driver counted; else every byte was delivered."""
    capture = report["capture"]
    if options != EXACT:
        expect(capture["delivered_share"] == 1, "not every byte was delivered")
        expect("reconstruction" not in capture, "recorded migrations are called reconstructed")
        return
    expect(capture["detail"] == "exact", f"the default detail is {capture['detail']}")
    told = capture["reconstruction"]
    expect(told["explained_share"] == 1, f"the faults do not explain every byte: {told}")
    equal(told["unexplained_bytes"], 0, "unexplained_bytes")
    expect("delivered_share" not in capture, "reconstructed bytes are called delivered")
    sources = {row["source"] for row in capture["accounts"] if row["quantity"].endswith("_bytes")}
    expect(sources == {"reconstructed"}, f"bytes come from {sources}")
    # What a window caught was told alike.
    equal(told.get("window_agreed_bytes", 0), int(told.get("window_bytes", 0)), "window_agreed_bytes")
    expect("bh_samples" not in {row["name"] for row in capture["sources"] if row["state"] == "active"},
           "the BH thread's stacks are sampled at the default detail")


def known_bytes(road):
    for options in (EXACT, FULL, CUPTI):
        check_known_bytes(road.record("known_bytes", options=options), options)


def check_known_bytes(report, options):
    balanced(report, options == CUPTI)
    told_every_byte(report, options)
    equal(report["totals"]["host_to_device_bytes"], 64 * MIB, "host_to_device_bytes")
    equal(report["totals"]["device_to_host_bytes"], 64 * MIB, "device_to_host_bytes")
    equal(report["totals"]["evicted_bytes"], 0, "evicted_bytes")


def oversubscribed(road):
    cycles, k, m, chunk = 2, 4, 8, 14 * MIB
    for options in (EXACT, FULL, CUPTI):
        report = road.record("oversub", "--mode", "uvm", "-k", k, "-m", m, options=options)
        check_oversubscribed(report, options, cycles, k, m, chunk)


def check_oversubscribed(report, options, cycles, k, m, chunk):
    balanced(report, options == CUPTI)
    told_every_byte(report, options)
    totals = report["totals"]
    # m chunks of which k fit, walked through in a circle: least recently used is always the next one needed.
    equal(totals["host_to_device_bytes"], cycles * m * chunk, "host_to_device_bytes")
    equal(totals["device_to_host_bytes"], (cycles * m - k) * chunk, "device_to_host_bytes")
    equal(totals["evicted_bytes"], (cycles * m - k) * chunk, "evicted_bytes")
    equal(report["oversubscription"]["refaulted_bytes"], (cycles - 1) * m * chunk, "refaulted_bytes")
    expect(report["oversubscription"]["peak_ratio"] > 1.5, "not reported as oversubscribed")
    faults = "gpu_fault_groups" if options == CUPTI else "gpu_fault_entries"
    expect(int(totals[faults]) > 0 and int(totals["gpu_faults"]) > 0 and int(totals["fault_batches"]) > 0, "no faults")
    for row in report["migrations"]:
        expect(("bytes_per_second" in row) == (options != EXACT), f"copies are timed only where they were recorded: {row}")
    bottom_half = [row for row in report["bh_threads"] if row["visible"]]
    expect(len(bottom_half) == 1 and bottom_half[0]["name"] == "UVM GPU1 BH", f"bh_threads: {report['bh_threads']}")
    expect(int(bottom_half[0]["cpu_ns"]) > 1_000_000 and bottom_half[0]["ns_per_batch"] > 0, "the BH thread cost nothing")
    sites = [row for row in report["allocations"] if row.get("kind") == "managed"]
    expect(len(sites) == m, f"{len(sites)} managed allocations")
    for row in sites:
        expect("managed_modes.cc:" in row["site"], f"the call site is {row['site']}")


def managed_variable(road):
    """Memory that no call allocates, touched by the program's first statement."""
    for options in (EXACT, FULL):
        check_managed_variable(road.record("managed_variable", options=options), options)


def check_managed_variable(report, options):
    balanced(report)
    told_every_byte(report, options)
    equal(report["totals"]["host_to_device_bytes"], 3 * 8 * MIB, "host_to_device_bytes")
    expect(int(report["totals"]["device_to_host_bytes"]) in (3 * 8 * MIB, 4 * 8 * MIB), "device_to_host_bytes")
    rows = [row for row in report["allocations"] if row.get("kind") == "managed"]
    expect(len(rows) == 1, f"{len(rows)} managed allocations")
    equal(rows[0]["bytes"], 8 * MIB, "the variable's bytes")
    equal(rows[0]["host_to_device_bytes"], 3 * 8 * MIB, "what moved of the variable")
    named = [row["name"] for row in report["sites"] if row.get("name")]
    expect(len(named) == 1, f"names of variables: {named}")


def prefetched(road):
    for options in (EXACT, FULL):
        check_prefetched(road.record("oversub", "--mode", "prefetch", "-k", 4, "-m", 8, options=options), options)


def check_prefetched(report, options):
    balanced(report)
    told_every_byte(report, options)
    equal(report["totals"]["host_to_device_bytes"], 2 * 8 * 14 * MIB, "host_to_device_bytes")
    equal(report["totals"]["gpu_fault_entries"], 0, "gpu_fault_entries")
    equal(report["totals"]["gpu_faults"], 0, "gpu_faults")


def reconstructed(road):
    """What the faults tell is what was recorded: every row of movement and of memory, from one and the same trace."""
    for program, *arguments in (("known_bytes",), ("managed_variable",), ("oversub", "--mode", "uvm", "-k", 4, "-m", 8),
                                ("oversub", "--mode", "prefetch", "-k", 4, "-m", 8)):
        road.record(program, *arguments, options=FULL)
        recorded, told = (moved(road.report(f"--migrations={which}")) for which in ("recorded", "reconstructed"))
        expect(recorded[0] and recorded == told, f"{program} {arguments}: recorded {recorded}, reconstructed {told}")


def moved(report):
    columns = ("host_to_device_bytes", "device_to_host_bytes", "evicted_bytes", "refaulted_bytes")
    return (sorted((row["direction"], row["cause"], row["bytes"]) for row in report["migrations"]),
            [(row.get("site"), [row.get(column) for column in columns]) for row in report["allocations"]],
            [report["totals"].get(column) for column in columns])


def zero_copy(road):
    report = road.record("zero_copy")
    balanced(report)
    pinned = [row for row in report["memory"] if row["kind"] == "pinned"]
    expect(pinned and int(pinned[0]["peak_bytes"]) >= MIB, "no pinned memory")
    # What no fault, no migration and no copy shows: the question of vLLM's issue #17062.
    rows = [row for row in report["traffic"] if row["way"] == "in_place" and row["direction"] == "host_to_device"]
    expect(len(rows) == 1 and int(rows[0]["bytes"]) >= 8 * MIB, f"read in place: {report['traffic']}")
    expect(rows[0]["bytes_per_second"] > 0, f"no rate: {rows}")
    page = " ".join(road.run([road.bin / "uvmtrace-report", road.trace]).split())
    expect("were read in place over the link in" in page, f"the first screen does not say it: {page}")


def calls_only(road):
    report = road.record("known_bytes", options=("--detail", "calls"))
    expect("host_to_device_bytes" not in report["totals"], "a number that is not known is printed")
    expect(int(report["totals"]["api_calls"]) > 0, "no calls")
    reasons = {row["section"]: row["reason"] for row in report["empty_sections"]}
    expect("migrations" in reasons and "faults" in reasons, f"empty sections do not say why: {reasons}")


def text_report(road):
    road.record("oversub", "--mode", "uvm", "-k", 4, "-m", 8)
    text = " ".join(road.run([road.bin / "uvmtrace-report", road.trace]).split())
    expect("migrations are reconstructed from the faults; 100.00 % of the bytes explained" in text, "not said to be reconstructed")
    expect("delivered" not in text, "a reconstructed number is called delivered")
    road.record("oversub", "--mode", "uvm", "-k", 4, "-m", 8, options=FULL)
    text = road.run([road.bin / "uvmtrace-report", road.trace])
    expect("reconstructed" not in text, "a recorded number is called reconstructed")
    expect(text.startswith("SIMULATED: "), f"the first line is not that it is simulated:\n{text[:200]}")
    for word in ("MIGRATIONS", "eviction", "GB/s", "UVM GPU1 BH", "managed_modes.cc"):
        expect(word in text, f"'{word}' is missing from the text")


def protoc_reads_it(road):
    road.record("known_bytes", options=FULL)
    with open(road.trace, "rb") as trace:
        done = subprocess.run(["protoc", "--decode=uvmtrace.Trace", f"-I{road.source / 'proto'}", "uvmtrace.proto"],
                              stdin=trace, capture_output=True, text=True)
    expect(done.returncode == 0, done.stderr)
    expect("migrations {" in done.stdout and "clean: true" in done.stdout, "the decoded trace lacks events or its end")


def old_traces(road):
    """A further run keeps the trace before it; a further process of a run has a file of its own."""
    road.record("known_bytes", "--bytes", "2MiB")
    road.record("known_bytes", "--bytes", "4MiB")
    equal(road.report()["totals"]["host_to_device_bytes"], 4 * MIB, "the newer trace")
    old = road.folder / "trace.pb.old"
    expect(old.exists(), "the older trace is gone")
    program = road.bin / "examples" / "known_bytes"
    road.run([road.bin / "uvmtrace", "run", "--simulate=tiny", "-o", road.folder / "shell.pb", "--", "/bin/sh", "-c",
              f"{program} --bytes 2MiB && {program} --bytes 2MiB"])
    files = sorted(road.folder.glob("shell*.pb"))
    expect(len(files) == 2, f"two processes of one run left {files}")
    report = json.loads(road.run([road.bin / "uvmtrace-report", "--format", "json", *files]))
    equal(report["totals"]["host_to_device_bytes"], 4 * MIB, "the sum over both processes")
    expect(len(report["processes"]) == 2, "no row for each process")


def installed(road):
    """After an installation the two lines of the README work word for word."""
    prefix = road.folder / "prefix"
    road.run(["cmake", "--install", road.build, "--prefix", prefix])
    libraries = next(prefix.glob("lib*/**/libuvmtrace.so")).parent
    program = shutil.copy(road.bin / "examples" / "known_bytes", road.folder)
    search = f"{libraries / 'uvmtrace' / 'sim'}:{libraries}"
    road.run([program, "--bytes", "2MiB"], LD_PRELOAD="libuvmtrace.so", LD_LIBRARY_PATH=search)
    report = json.loads(road.run([prefix / "bin" / "uvmtrace-report", "--format", "json", "trace.pb"]))
    equal(report["totals"]["host_to_device_bytes"], 2 * MIB, "host_to_device_bytes")
    (road.folder / "elsewhere").mkdir()
    road.run([prefix / "bin" / "uvmtrace", "run", "--simulate=tiny", "-o", "launched.pb", "--", program, "--bytes", "2MiB"])
    expect((road.folder / "launched.pb").exists(), "the installed launcher did not find its library")
    road.run([prefix / "bin" / "uvmtrace", "check", "--simulate=tiny"])
    expect("128 MiB" in road.run([prefix / "bin" / "uvmtrace", "demo"]), "the installed demo did not run")


CASES = (known_bytes, oversubscribed, prefetched, reconstructed, zero_copy, managed_variable, calls_only,
         text_report, protoc_reads_it, old_traces, installed)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, required=True)
    parser.add_argument("--source", type=pathlib.Path, required=True)
    parser.add_argument("case", choices=[case.__name__ for case in CASES])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        road = Road(arguments.build.resolve(), arguments.source.resolve(), pathlib.Path(folder))
        next(case for case in CASES if case.__name__ == arguments.case)(road)
    print(f"{arguments.case}: ok")


if __name__ == "__main__":
    main()
