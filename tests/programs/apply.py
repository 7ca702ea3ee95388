"""The road from a finding to a change that helped, on the simulator: record, advise, apply, tune.

  apply.py --build BUILD CASE
  apply.py --list
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile


class Failure(Exception):
    pass


def check(good, what):
    if not good:
        raise Failure(what)


class Machine:
    """A build, and a folder to work in."""

    def __init__(self, build, folder):
        self.build, self.folder = os.path.abspath(build), folder

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)
        return self.path(name)

    def execute(self, *command, status=0, memory="256MiB"):
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("UVMTRACE_", "LD_"))}
        environment["UVMTRACE_SIM_MEMORY"] = memory
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=300)
        check(done.returncode == status, f"{command}: exit status {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
        return done

    def run(self, trace, *command, apply=None, **options):
        extra = ["--apply", apply] if apply else []
        return self.execute(f"{self.build}/bin/uvmtrace", "run", "--simulate=tiny", "-o", trace, *extra, "--", *command, **options)

    def report(self, trace):
        return json.loads(self.execute(f"{self.build}/bin/uvmtrace-report", "--format", "json", "--top", "0", trace).stdout)

    def advise(self, trace, out):
        self.execute(f"{self.build}/bin/uvmtrace-report", "advise", trace, "-o", out)
        with open(self.path(out), encoding="utf-8") as file:
            return file.read()

    @property
    def steps(self):
        """Writes, works and reads again and again, in managed memory of two sites."""
        return [f"{self.build}/bin/uvmtrace_step_loop_shared", "3", "8"]

    @property
    def oversub(self):
        """Twice as much managed memory as the GPU has, of which the driver evicts what it must."""
        return [f"{self.build}/bin/examples/oversub", "--mode", "uvm", "-k", "4", "-m", "8", "--readonly"]


def number(row, name):
    return int(row.get(name, 0))


def applied(report, change=1):
    rows = {row["name"]: row for row in report["capture"]["sources"]}
    check("apply" in rows and rows["apply"]["state"] == "active", rows.get("apply"))
    return rows[f"apply.{change}"]


def advise_and_apply(machine):
    """What the findings suggest takes the faults away, the answer is the same, and each call is in the trace."""
    base = machine.run("base.pb", *machine.steps)
    text = machine.advise("base.pb", "base.apply")
    check("action  prefetch gpu\n" in text, text)
    check("uvmtrace_step_loop_shared!" in text, "no path by symbol")
    check("reason  " in text and "site    managed:" in text and "gain    " in text, text)
    changed = machine.run("changed.pb", *machine.steps, apply="base.apply")
    check(changed.stdout == base.stdout, f"{base.stdout} and {changed.stdout}")
    before, after = machine.report("base.pb"), machine.report("changed.pb")
    check(number(before["totals"], "gpu_fault_entries") > 0, before["totals"])
    check(number(after["totals"], "gpu_fault_entries") == 0, f"faults are left: {after['totals']}")
    made = [row for row in after["calls"] if row["name"] == "uvmtrace: cuMemPrefetchAsync"]
    check(made and number(made[0], "count") > 0, "the calls are not in the trace")
    check(applied(after)["state"] == "active" and "allocation" in applied(after)["reason"], applied(after))
    check("APPLIED" in machine.execute(f"{machine.build}/bin/uvmtrace-report", "changed.pb").stdout, "the report does not tell of it")


def oversubscribed_in_place(machine):
    """More managed memory than the GPU has: read in place, none of it moves, as the model of the driver says."""
    machine.run("base.pb", *machine.oversub, memory="64MiB")
    text = machine.advise("base.pb", "base.apply")
    check("oversubscribed_streaming" in text, text)
    site = re.search(r"  (path .*)\n", text).group(1)
    file = machine.write("place.apply", f"version 1\nchange in_place\n  {site}\n  action advise preferred-host\n  action advise accessed-by\n")
    machine.run("changed.pb", *machine.oversub, apply=file, memory="64MiB")
    before, after = machine.report("base.pb")["totals"], machine.report("changed.pb")["totals"]
    check(number(before, "host_to_device_bytes") > 100 << 20, before)
    check(number(before, "evicted_bytes") > 0, before)
    check(number(after, "host_to_device_bytes") == 0 and number(after, "evicted_bytes") == 0, after)


def read_mostly_is_not_written_back(machine):
    """Read-mostly memory keeps its copy on the host, so that evictions move nothing: only the way in is left."""
    machine.run("base.pb", *machine.oversub, memory="64MiB")
    site = re.search(r"  (path .*)\n", machine.advise("base.pb", "base.apply")).group(1)
    file = machine.write("read.apply", f"version 1\nchange read_mostly\n  {site}\n  action advise read-mostly\n")
    machine.run("changed.pb", *machine.oversub, apply=file, memory="64MiB")
    before, after = machine.report("base.pb")["totals"], machine.report("changed.pb")["totals"]
    check(number(before, "device_to_host_bytes") > 0, before)
    check(number(after, "device_to_host_bytes") == 0, after)
    check(number(after, "host_to_device_bytes") == number(before, "host_to_device_bytes"), f"{before} and {after}")


def suppresses_what_is_there(machine):
    """Kernels one after the other, without a wait between them, bring the memory once."""
    machine.run("base.pb", *machine.steps)
    text = machine.advise("base.pb", "base.apply")
    machine.run("changed.pb", f"{machine.build}/bin/uvmtrace_step_loop_shared", "3", "8", "4", apply="base.apply")
    reason = applied(machine.report("changed.pb"))["reason"]
    check(re.search(r"9 further calls were left out", reason), f"{reason}\n{text}")


def matches_nothing(machine):
    """An entry without an allocation is said, and the program runs as it is."""
    base = machine.run("base.pb", *machine.steps)
    file = machine.write("no.apply", "version 1\nchange x\n  path nowhere!_Z4Makev < nowhere!main\n  action prefetch gpu\n")
    changed = machine.run("changed.pb", *machine.steps, apply=file)
    check((changed.stdout, changed.stderr) == (base.stdout, base.stderr), changed.stderr)
    row = applied(machine.report("changed.pb"))
    check(row["state"] == "idle" and "matched nothing" in row["reason"], row)


def does_not_fit(machine):
    """An allocation larger than the GPU is left alone, and that is said."""
    program = [f"{machine.build}/bin/uvmtrace_step_loop_shared", "1", "24"]
    base = machine.run("base.pb", *program, memory="16MiB")
    file = machine.write("all.apply", "version 1\nchange x\n  path ...\n  action prefetch gpu\n")
    changed = machine.run("changed.pb", *program, apply=file, memory="16MiB")
    check(changed.stdout == base.stdout, changed.stdout)
    row = applied(machine.report("changed.pb"))
    check("no room on the GPU" in row["reason"], row)


def hostile_files(machine):
    """What is no apply file is one line with its line number, and changes nothing."""
    base = machine.run("base.pb", *machine.steps)
    for name, text, said in (("a", "version 9\n", "a:1: "), ("b", "version 1\nchange x\n  path a!b\n  action fly\n", "b:4: an unknown action"),
                             ("c", "\0\1\2", "c:1: a control character"), ("d", "version 1\n" + "x" * 70000 + "\n", "d:2: "),
                             ("e", "", "is no file of 1 byte")):
        changed = machine.run(f"{name}.pb", *machine.steps, apply=machine.write(name, text))
        check(changed.stdout == base.stdout, changed.stdout)
        lines = changed.stderr.splitlines()
        check(len(lines) == 1 and said in lines[0] and lines[0].startswith("uvmtrace: nothing is applied: "), changed.stderr[:500])
        rows = {row["name"]: row for row in machine.report(f"{name}.pb")["capture"]["sources"]}
        check(rows["apply"]["state"] == "unavailable" and said in rows["apply"]["reason"], rows["apply"])


def tunes(machine):
    """tune finds the changes, keeps what helps, and leaves a file that does the same once more."""
    done = machine.execute(f"{machine.build}/bin/uvmtrace", "tune", "--simulate=tiny", "--rounds", "1", "-o", "tuned.apply", "--keep", "runs",
                           "--", *machine.steps)
    check("The program printed the same with the kept changes." in done.stdout, done.stdout)
    check("kept" in done.stdout and re.search(r"change 1: prefetch gpu", done.stdout), done.stdout)
    with open(machine.path("tuned.apply"), encoding="utf-8") as file:
        check("prefetch gpu" in file.read(), done.stdout)
    machine.run("tuned.pb", *machine.steps, apply="tuned.apply")
    totals = machine.report("tuned.pb")["totals"]
    check(number(totals, "gpu_fault_entries") == 0, f"{totals}\n{done.stdout}")


def tune_says_what_is_wrong(machine):
    """A program that fails, or does not exist, is no table."""
    done = machine.execute(f"{machine.build}/bin/uvmtrace", "tune", "--simulate=tiny", "--keep", "runs", "--", "/nonexistent", status=1)
    check("left no trace" in done.stderr and "127" in done.stderr, done.stderr)
    machine.execute(f"{machine.build}/bin/uvmtrace", "tune", status=2)


def what_if(machine, trace, *question):
    return json.loads(machine.execute(f"{machine.build}/bin/uvmtrace-report", "what-if", "--format", "json", trace, *question).stdout)


def near(told, recorded, share, what):
    check(abs(told - recorded) <= share * max(recorded, 1), f"{what}: told {told}, recorded {recorded}")


GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden")


def what_if_replays_golden_traces(machine):
    """Without a change the replay of a recorded trace has its bytes and its faults, within 5 %."""
    names = ("h200_queue_oversub_uvm", "h200_queue_known_bytes", "h200_light_known_bytes", "h200_sampled_oversub_uvm", "h100_exact_oversub_uvm")
    for name in names:
        answer = what_if(machine, os.path.join(GOLDEN, name + ".pb"), "--capacity", "64GiB")
        check(answer["bytes_error"] <= 0.05 and answer["faults_error"] <= 0.05, f"{name}: {answer}")
        near(answer["unchanged"]["stall_ns"], answer["recorded"]["stall_ns"], 0.05, name)
        check(answer["changed"] == answer["unchanged"], f"{name}: more room changed something: {answer}")
    print(f"{len(names)} traces")


def what_if_tells_the_recorded_prefetch(machine):
    """What a prefetch would do to oversub on an H200 is what the H200 did with oversub's own prefetches."""
    answer = what_if(machine, os.path.join(GOLDEN, "h200_queue_oversub_uvm.pb"), "--prefetch", "oversub")
    recorded = machine.report(os.path.join(GOLDEN, "h200_oversub_prefetch.pb"))
    changed = answer["changed"]
    check(changed["fault_entries"] == 0 and changed["stall_ns"] == 0, changed)
    near(changed["called_bytes"], number(recorded["totals"], "host_to_device_bytes"), 0.15, "to the GPU")
    near(changed["to_host_bytes"], number(recorded["totals"], "device_to_host_bytes"), 0.15, "to the host")
    copies = [row for row in recorded["migrations"] if (row["direction"], row["cause"]) == ("host_to_device", "user")]
    near(changed["call_copy_ns"], number(copies[0], "busy_ns"), 0.15, "time of the copies")


def what_if_tells_recorded_pairs(machine):
    """Pairs that an H100 recorded: the program as it is, and with the change made by its own mode."""
    pairs = os.path.join(os.path.dirname(os.path.abspath(__file__)), "pairs")
    for name, question in (("prefetch", ["--prefetch", "oversub"]),
                           ("preferred_host", ["--advise", "oversub=preferred-host", "--advise", "oversub=accessed-by"])):
        answer = what_if(machine, os.path.join(pairs, "h100_base.pb"), *question)
        recorded = machine.report(os.path.join(pairs, f"h100_{name}.pb"))["totals"]
        check(answer["recorded"]["fault_entries"] > 0 and answer["bytes_error"] <= 0.05, answer)
        changed = answer["changed"]
        near(changed["called_bytes"] + changed["faulted_bytes"], number(recorded, "host_to_device_bytes"), 0.15, f"{name}: to the GPU")
        # The mode that stays on the host makes no prefetch to the host; the calls of the other program find nothing to move.
        near(changed["to_host_bytes"], number(recorded, "device_to_host_bytes"), 0.15, f"{name}: to the host")
        near(changed["fault_entries"], number(recorded, "gpu_fault_entries"), 0.15, f"{name}: faults")


def what_if_tells_what_applying_does(machine):
    """The same change, asked and made."""
    machine.run("base.pb", *machine.steps)
    machine.advise("base.pb", "base.apply")
    answer = what_if(machine, "base.pb", "--prefetch", "step_loop.cu")
    machine.run("changed.pb", *machine.steps, apply="base.apply")
    totals = machine.report("changed.pb")["totals"]
    check(answer["recorded"]["fault_entries"] > 0 and answer["changed"]["fault_entries"] == 0, answer)
    near(answer["changed"]["called_bytes"] + answer["changed"]["faulted_bytes"], number(totals, "host_to_device_bytes"), 0.15, "to the GPU")
    near(answer["changed"]["to_host_bytes"], number(totals, "device_to_host_bytes"), 0.15, "to the host")


def what_if_of_advice(machine):
    """Read-mostly and preferred-host, asked of an oversubscribed run and really made."""
    machine.run("base.pb", *machine.oversub, memory="64MiB")
    path = re.search(r"  (path .*)\n", machine.advise("base.pb", "base.apply")).group(1)
    for asked, actions in ((["managed_modes.cc=read-mostly"], ["read-mostly"]),
                           (["managed_modes.cc=preferred-host", "managed_modes.cc=accessed-by"], ["preferred-host", "accessed-by"])):
        answer = what_if(machine, "base.pb", *[word for one in asked for word in ("--advise", one)])
        lines = "".join(f"  action advise {action}\n" for action in actions)
        machine.run("changed.pb", *machine.oversub, memory="64MiB", apply=machine.write("x.apply", f"version 1\nchange x\n  {path}\n{lines}"))
        totals = machine.report("changed.pb")["totals"]
        changed = answer["changed"]
        near(changed["called_bytes"] + changed["faulted_bytes"], number(totals, "host_to_device_bytes"), 0.15, f"{actions}: to the GPU")
        near(changed["to_host_bytes"], number(totals, "device_to_host_bytes"), 0.15, f"{actions}: to the host")
        check(answer["bytes_error"] <= 0.05, answer)


def what_if_refuses_what_it_cannot_know(machine):
    """A smaller GPU, where nothing was evicted; a site that there is not; an advice that there is not."""
    trace = os.path.join(GOLDEN, "h200_queue_known_bytes.pb")
    for question, said in ((["--capacity", "32MiB"], "no eviction"), (["--prefetch", "nowhere"], "no managed memory of a site"),
                           (["--advise", "known_bytes=fast"], "--advise takes"), (["--prefetch", "known_bytes@NoKernel"], "NoKernel")):
        done = machine.execute(f"{machine.build}/bin/uvmtrace-report", "what-if", trace, *question, status=2)
        check(said in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr)


def what_if_without_the_prefetcher(machine):
    """Then every page faults by itself: as many as moved."""
    answer = what_if(machine, os.path.join(GOLDEN, "h200_queue_known_bytes.pb"), "--prefetch-off")
    near(answer["changed"]["faulted_bytes"], answer["recorded"]["faulted_bytes"], 0.05, "bytes")
    check(answer["changed"]["fault_entries"] > 3 * answer["recorded"]["fault_entries"], answer)
    check(answer["changed"]["cpu_faults"] > 3 * answer["recorded"]["cpu_faults"], answer)
    check(answer["changed"]["fault_batches"] >= answer["changed"]["fault_entries"] // 256, answer)
    check(answer["changed"]["stall_ns"] > answer["recorded"]["stall_ns"], answer)


def what_if_of_other_memory_and_links(machine):
    """Pinned memory does not fault and is read over the link; a slower link makes faults slower, by its bytes alone."""
    trace = os.path.join(GOLDEN, "h200_queue_oversub_uvm.pb")
    pinned = what_if(machine, trace, "--pinned", "oversub")
    check(pinned["changed"]["fault_entries"] == 0 and pinned["changed"]["in_place_bytes"] == 256 << 20, pinned)
    near(pinned["changed"]["call_copy_ns"], (256 << 20) * 1e9 / pinned["bulk_bytes_per_second"], 0.01, "time of the reads")
    slow = what_if(machine, trace, "--link", "25")
    extra = (256 << 20) * (1 / 25e9 - 1 / what_if(machine, trace, "--capacity", "64GiB")["bulk_bytes_per_second"]) * 1e9
    near(slow["changed"]["stall_ns"] - slow["recorded"]["stall_ns"], extra, 0.15, "what the slower link adds")


CASES = {case.__name__: case for case in (advise_and_apply, oversubscribed_in_place, read_mostly_is_not_written_back, suppresses_what_is_there,
                                          matches_nothing, does_not_fit, hostile_files, tunes, tune_says_what_is_wrong, what_if_replays_golden_traces,
                                          what_if_tells_the_recorded_prefetch, what_if_tells_recorded_pairs, what_if_tells_what_applying_does, what_if_of_advice,
                                          what_if_refuses_what_it_cannot_know, what_if_without_the_prefetcher,
                                          what_if_of_other_memory_and_links)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", nargs="*")
    parser.add_argument("--build", default="build/default")
    parser.add_argument("--list", action="store_true")
    args = parser.parse_args()
    if args.list:
        print("\n".join(CASES))
        return 0
    failed = 0
    for name in args.case or CASES:
        with tempfile.TemporaryDirectory(prefix="uvmtrace-apply-") as folder:
            try:
                CASES[name](Machine(args.build, folder))
                print(f"passed {name}", flush=True)
            except (Failure, subprocess.SubprocessError, KeyError, AttributeError) as failure:
                print(f"FAILED {name}: {type(failure).__name__}: {failure}", flush=True)
                failed += 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
