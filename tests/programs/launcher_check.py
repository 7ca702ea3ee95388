#!/usr/bin/env python3
"""The launcher's verbs beside run, on the simulator: check with each thing taken away, demo, and profiles that there are not.

  tests/programs/launcher_check.py --build BUILD CASE
"""

import argparse
import json
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import tempfile

# What is taken away: the row of check that must say so, a part of its cure, and what the trace is said to lack.
LACKS = {
    "gpu": ("gpu", "nvidia-smi", "calls"),
    "managed": ("gpu", "enable_uvm", "faults"),
    "device_node": ("driver_queue", "nvidia-modprobe", "exact totals"),
    "queue_permission": ("driver_queue", "chmod", "exact totals"),
    "branch": ("driver_queue", "uvmtrace that knows this driver", "exact totals"),
    "cupti": ("cupti", "NVreg_RestrictProfilingToAdminUsers=0", "kernels"),
    "bh_threads": ("bh_threads", "--pid=host", "BH threads"),
    "nvml": ("link_counters", "NVIDIA_DRIVER_CAPABILITIES", "link"),
}


def expect(condition, message):
    if not condition:
        sys.exit(f"FAILED: {message}")


class Launcher:
    def __init__(self, build, folder):
        self.program = build / "bin" / "uvmtrace"
        self.folder = folder

    def run(self, *arguments, status, prepare=None, **environment):
        variables = {name: value for name, value in os.environ.items() if not name.startswith(("UVMTRACE_", "LD_"))}
        done = subprocess.run([self.program, *arguments], cwd=self.folder, capture_output=True, text=True, timeout=150,
                              env={**variables, "TMPDIR": str(self.folder), **environment}, preexec_fn=prepare)
        expect(done.returncode == status, f"{arguments} ended with {done.returncode}, not {status}\n{done.stdout}{done.stderr}")
        return done

    def check(self, *arguments, status, **options):
        answer = json.loads(self.run("check", "--json", *arguments, status=status, **options).stdout)
        expect(answer["complete"] == (status == 0), f"complete is {answer['complete']}")
        answer["rows"] = {row["name"]: row for row in answer["checks"]}
        return answer


def whole(launcher):
    """A simulated machine has everything but real stacks, in ten lines, and nothing is left behind."""
    answer = launcher.check("--simulate=tiny", status=0)
    lacking = [row["name"] for row in answer["checks"] if row["state"] != "ok"]
    expect(lacking == ["bh_samples"], f"lacking: {lacking}")
    text = launcher.run("check", "--simulate=tiny", status=0).stdout
    expect(len(text.splitlines()) == 10, text)
    # The user's own settings are those of other programs.
    launcher.check("--simulate=tiny", status=0, UVMTRACE_DETAIL="calls", UVMTRACE_OUT="/nonexistent/trace.pb")
    hmm = launcher.check("--simulate=hmm", status=0)["rows"]["system_memory"]["text"]
    expect(hmm.startswith("HMM"), hmm)
    left = [path.name for path in launcher.folder.iterdir()]
    expect(left == [], f"left behind: {left}")


def lacks(launcher):
    for lack, (key, cure, missing) in LACKS.items():
        answer = launcher.check("--simulate=tiny", status=1, UVMTRACE_SIM_LACKS=lack)
        row = answer["rows"][key]
        expect(row["state"] == "lack" and cure in row["cure"], f"{lack}: {row}")
        expect(any(missing in what for what in answer["not_recorded"]), f"{lack}: {answer['not_recorded']}")
        for other in answer["checks"]:
            expect(other["state"] == "ok" or other["cure"], f"{lack}: no cure in {other}")
    branch = launcher.check("--simulate=tiny", status=1, UVMTRACE_SIM_LACKS="branch")["rows"]["gpu"]["text"]
    expect("branch 900" in branch and "515 to 595" in branch, branch)


def no_libcuda(launcher):
    folder = launcher.folder / "broken"
    folder.mkdir()
    (folder / "libcuda.so.1").touch()
    answer = launcher.check(status=1, LD_LIBRARY_PATH=str(folder))
    row = answer["rows"]["gpu"]
    expect(row["state"] == "lack" and "install NVIDIA's driver" in row["cure"] and "libcuda.so.1" in row["text"], f"{row}")
    expect(answer["recorded"] == [], f"recorded: {answer['recorded']}")


def low_memlock(launcher):
    """Named with its cure; the default detail locks nothing, and is complete."""
    def lower():
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (64 << 10, resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]))

    row = launcher.check("--simulate=tiny", status=0, prepare=lower)["rows"]["limits"]
    expect(row["state"] == "lack" and "ulimit -l" in row["cure"] and "64 KiB" in row["text"], f"{row}")


def wrong_usage(launcher):
    """A profile that there is not is refused at once, with those that there are, whatever the program does."""
    for arguments in (("run", "--simulate=foo", "-o", "out.pb", "--", "touch", "ran"), ("check", "--simulate=foo")):
        done = launcher.run(*arguments, status=2)
        for profile in ("tiny", "hmm", "a100-80g", "h200"):
            expect(profile in done.stderr, done.stderr)
    expect(not (launcher.folder / "ran").exists(), "the program ran")
    launcher.run("run", "--simulate=h200", "--", "touch", "ran", status=0)
    expect((launcher.folder / "ran").exists(), "the program did not run")
    launcher.run("check", "--nonsense", status=2)
    launcher.run("check", "--", "program", status=2)


def demo(launcher):
    done = launcher.run("demo", "-o", "demo.pb", status=0)
    expect("oversub" in done.stdout and "uvmtrace-report demo.pb" in done.stdout, done.stdout)
    expect((launcher.folder / "demo.pb").exists(), "no trace")
    expect("simulated" in done.stdout.lower(), done.stdout)


def demo_installed(launcher):
    """From the folders of an installation; where one is not there, it says which."""
    build = launcher.program.parent.parent
    installed = launcher.folder / "prefix"
    launcher.program = installed / "bin" / "uvmtrace"
    (installed / "bin").mkdir(parents=True)
    (installed / "lib" / "uvmtrace" / "examples").mkdir(parents=True)
    shutil.copy(build / "bin" / "uvmtrace", installed / "bin")
    shutil.copy(build / "lib" / "libuvmtrace.so", installed / "lib")

    def missing(part):
        stderr = launcher.run("demo", status=2).stderr
        expect(part in stderr and "not installed" in stderr, stderr)

    missing("the workloads")
    shutil.copy(build / "bin" / "examples" / "oversub", installed / "lib" / "uvmtrace" / "examples")
    missing("the simulator")
    shutil.copytree(build / "lib" / "uvmtrace" / "sim", installed / "lib" / "uvmtrace" / "sim")
    missing("the report")
    shutil.copy(build / "bin" / "uvmtrace-report", installed / "bin")
    done = launcher.run("demo", status=0)
    expect(str(installed / "lib" / "uvmtrace" / "examples" / "oversub") in done.stdout, done.stdout)


CASES = (whole, lacks, no_libcuda, low_memlock, wrong_usage, demo, demo_installed)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, required=True)
    parser.add_argument("case", choices=[case.__name__ for case in CASES])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        next(case for case in CASES if case.__name__ == arguments.case)(
            Launcher(arguments.build.resolve(), pathlib.Path(folder)))
    print(f"{arguments.case}: ok")


if __name__ == "__main__":
    main()
