"""The report of each variant of offload names what bounds it, and the variant's own times bear that out.

  examples_bottlenecks.py --build BUILD

Read in place: bound by the link, with the bytes that its counters measured. On demand: bound by page faults. Prefetch of the
next layer: no faults, and what is sent back only to come again is named. The example's times are those of a run of its own on the
simulator's clock, which nothing else moves: the same on a loaded machine. The report's times are not looked at.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

LAYERS, PASSES = 5, 3  # of 16 MiB: from 64 MiB of page-locked memory on, kernels and the link are recorded


def check(condition, message):
    if not condition:
        sys.exit(f"examples_bottlenecks: {message}")


class Variant:
    """The example's row, and the report of another run with the report's row of the phase that is timed."""

    def __init__(self, build, folder, name):
        self.name = name
        self.build, self.folder = build, folder
        self.row = self.run(UVMTRACE_SIM_TIME_SCALE="0")
        self.run(LD_PRELOAD=str(build / "lib" / "libuvmtrace.so"), UVMTRACE_OUT=str(folder / "trace.pb"),
                 UVMTRACE_LOG="quiet", UVMTRACE_DETAIL="full")
        done = subprocess.run([build / "bin" / "uvmtrace-report", "--format", "json", folder / "trace.pb"],
                              capture_output=True, text=True, check=True)
        self.report = json.loads(done.stdout)
        self.headline = self.report["headline"]
        phases = [row for row in self.report.get("phases", []) if row["name"] == f"{name}: forward pass"]
        check(len(phases) == 1, f"{name}: {len(phases)} rows of its phase in the report")
        self.phase = phases[0]
        self.findings = [row["id"] for row in self.report.get("findings", [])]

    def run(self, **variables):
        environment = dict(os.environ, LD_LIBRARY_PATH=str(self.build / "lib" / "uvmtrace" / "sim"),
                           UVMTRACE_SIM_PROFILE="tiny", UVMTRACE_SIM_MEMORY="256MiB", **variables)
        done = subprocess.run([self.build / "bin" / "examples" / "offload", "--variant", self.name, "--layers", str(LAYERS),
                               "--layer-bytes", "16MiB", "--passes", str(PASSES), "--json", self.folder / "rows.json"],
                              env=environment, capture_output=True, text=True, check=False)
        check(done.returncode == 0, f"{self.name}: exit {done.returncode}: {done.stderr}")
        return json.loads((self.folder / "rows.json").read_text())["rows"][0]

    def of_phase(self, name):
        return int(self.phase.get(name, 0))

    def traffic(self, way):
        return sum(int(row.get("bytes", 0)) for row in self.report.get("traffic", []) if row["way"] == way)

    def check(self, condition, words):
        check(condition, f"{self.name}: {words}; findings {self.findings}, phase {self.phase}, row {self.row}")

    def check_names(self, *ids):
        self.check(any(name in self.findings for name in ids), f"the report names none of {ids}")
        self.check(self.headline, "the report has no headline")


def check_in_place(variant):
    variant.check_names("zero_copy_reuse", "zero_copy_link_bound")
    variant.check("read in place" in variant.headline, f"the headline is \"{variant.headline}\"")
    expected, measured = variant.row["in_place_bytes"], variant.traffic("in_place")
    variant.check(0.9 * expected < measured < 1.1 * expected, f"{measured} bytes were measured, {expected} were read")
    variant.check(variant.of_phase("gpu_fault_entries") == 0 == variant.of_phase("host_to_device_bytes"), "something moved")
    variant.check(0.7 < variant.row["share of link"] < 1.2, "the passes do not take what the link needs for their bytes")


def check_on_demand(variant, in_place):
    variant.check_names("prefetch_before_launch")
    variant.check(variant.of_phase("gpu_fault_entries") > 0 and variant.of_phase("gpu_waited_ns") > 0, "no faults in its phase")
    variant.check(variant.of_phase("host_to_device_bytes") == variant.row["host_to_device_bytes"], "not all came in its phase")
    variant.check(variant.row["share of link"] < 0.5, "the link is what bounds it")
    variant.check(variant.row["pass_seconds"] > 2 * in_place.row["pass_seconds"], "faults cost next to nothing")


def check_prefetch(variant, on_demand):
    variant.check(variant.of_phase("gpu_fault_entries") == 0 == variant.of_phase("gpu_waited_ns"), "page faults in its phase")
    variant.check_names("sent_back")
    variant.check("prefetch_before_launch" not in variant.findings, "it is told to do what it does")
    # A prefetch in an idle stream keeps its caller until its copies are done, so that one way follows the other: both together
    # take about what the link has one way, as on an H100.
    row = variant.row
    both_ways = row["share of link"] * (1 + row["device_to_host_bytes"] / row["host_to_device_bytes"])
    variant.check(0.6 < both_ways < 1.2, f"both ways together take {both_ways:.2f} of the link")
    variant.check(on_demand.row["pass_seconds"] > 1.5 * variant.row["pass_seconds"], "no faster than by page faults")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        variants = {each: Variant(options.build, pathlib.Path(name), each)
                    for each in ("zero-copy", "in-place", "on-demand", "prefetch")}
    check_in_place(variants["zero-copy"])
    check_in_place(variants["in-place"])
    check_on_demand(variants["on-demand"], variants["in-place"])
    check_prefetch(variants["prefetch"], variants["on-demand"])
    for variant in variants.values():
        print(f"{variant.name}: {variant.row['pass_seconds'] * 1e3:.2f} ms a pass, {', '.join(variant.findings)}\n"
              f"    {variant.headline}")


if __name__ == "__main__":
    main()
