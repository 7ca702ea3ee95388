#!/usr/bin/env python3
"""Mistakes on the simulator, each beside a program that looks like it and is right: the report must name the one, with its
place in the code, and say nothing of the other.

  tests/programs/hazards.py --build BUILD --source SOURCE CASE
  tests/programs/hazards.py --list
"""

import argparse
import pathlib
import sys
import tempfile

import end_to_end
from end_to_end import MIB, equal, expect

# Scenario of hazards_host.cu -> the hazard, the function that makes the mistake, words of what is said; None: no alarm.
CASES = {
    "double_free": ("double_free", "DoubleFree", "cudaFree of 2.00 MiB of managed memory that had been freed failed"),
    "free_of_reused": None,
    "interior_free": ("interior_free", "InteriorFree", "4.00 KiB into 2.00 MiB of managed memory"),
    "use_after_free": ("use_after_free", "UseAfterFree", "cudaMemcpy used 4.00 MiB of device memory"),
    "use_of_reused": None,
    "free_under_kernel": ("free_waited", "FreeUnderKernel", "found a kernel running or about to, and waited"),
    "free_after_kernel": None,
    "unmap_under_kernel": ("unmap_under_kernel", "Unmap", "a kernel"),
    "unmap_after_kernel": None,
    "unused_prefetch": ("unused_prefetch", "Prefetch", "brought 8.00 MiB to GPU 0, of which 8.00 MiB moved"),
    "used_prefetch": None,
    "refused_hint": ("refused_hint", "Prefetch", "device memory, which does not migrate"),
    "accepted_hint": None,
    "ranges": None,
    "reset": None,
}


def check_alarm(rows, hazard, function, words):
    named = [row for row in rows if row["hazard"] == hazard]
    expect(named, f"no {hazard} among {rows}")
    expect(len(named) == len(rows), f"more than {hazard}: {rows}")
    expect(any(words in row["what"] for row in named), f"'{words}' is not said: {[row['what'] for row in named]}")
    expect(all(function in row.get("site", row.get("freed_site", "")) for row in named), f"not {function}: {named}")
    expect(all(row["advice"] for row in named), "nobody is told what to do")


def check_ranges(report):
    """Three owners of one address: each has the bytes that moved while it was the owner."""
    owners = sorted((int(row["bytes"]), int(row["host_to_device_bytes"])) for row in report["allocations"]
                    if row.get("kind") == "managed")
    expect(owners == [(2 * MIB, 2 * MIB), (4 * MIB, 4 * MIB), (6 * MIB, 6 * MIB)] or
           owners == [(2 * MIB, MIB), (4 * MIB, 3 * MIB), (6 * MIB, 5 * MIB)], f"bytes of the owners: {owners}")
    addresses = {row["address"] for row in report["allocations"] if row.get("kind") == "managed"}
    expect(len(addresses) == 1, f"the simulator did not use the address again: {addresses}")
    physical = next(row for row in report["memory"] if row["kind"] == "physical")
    equal(physical["peak_bytes"], 4 * MIB, "physical memory at its peak")
    equal(physical["live_bytes"], 0, "physical memory at the end")
    expect(not any("whose allocation was not seen" in line for line in report.get("not_seen", [])), report["not_seen"])


def check_reset(report):
    for row in report["memory"]:
        equal(row["live_bytes"], 0, f"{row['kind']} memory after a reset")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path)
    parser.add_argument("--source", type=pathlib.Path)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("case", nargs="?", choices=CASES)
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(CASES))
        return
    with tempfile.TemporaryDirectory() as folder:
        road = end_to_end.Road(arguments.build.resolve(), arguments.source.resolve(), pathlib.Path(folder))
        program = arguments.build.resolve() / "tests" / "programs" / "hazards_host"
        road.run([road.bin / "uvmtrace", "run", "--simulate=tiny", "-o", road.trace, "--", program, arguments.case])
        report = road.report()
        rows = report["hazards"].get("rows", [])
        expect(len(report["hazards"]["checks"]) == 8, report["hazards"]["checks"])
        if CASES[arguments.case] is not None:
            check_alarm(rows, *CASES[arguments.case])
        else:
            expect(not rows, f"false alarm: {rows}")
            for check in report["hazards"]["checks"]:
                expect(check["reason"], f"{check['hazard']} does not say why there is none")
        if arguments.case == "ranges":
            check_ranges(report)
        if arguments.case == "reset":
            check_reset(report)
    print(f"{arguments.case}: ok")


if __name__ == "__main__":
    main()
