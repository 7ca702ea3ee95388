"""Runs test programs with and without libuvmtrace.so and compares: the one runner of all lists of cases.

The host must not notice: same exit status or signal, same stdout, same stderr, no hang. What the trace must say is a
function per case. A list of cases is a dictionary:

  name: (program, arguments, expectation, options)

program      in the build's folder of test programs, or PYTHON with a script of python/ or -c as the first argument
expectation  called with the traced Run; raises Failure
options
  env        more variables; {fake} is the stand-ins' folder, in arguments {libraries} that of the test libraries; UVMTRACE_SIM_PROFILE runs on the simulator instead of them
  stderr     the library may print there: the expectation says what
  partner    another library is preloaded as well, behind ours: its name
  before     the same, before ours
  twice      two copies of libuvmtrace.so are preloaded
  slow_disk  milliseconds that every write to the trace takes
  launcher   run by uvmtrace run; a name: installed in a folder of that name
  inject     loaded by the program, as CUDA_INJECTION64_PATH does, instead of preloaded
  prepare    called with the folder of each run before it
  sanitized  variables that make less of it where a sanitizer makes everything slow
  optional   the program is not built everywhere
  seconds    more than the two that an exit may take
  finding    the sanitizer must find this: a check of the runner itself
  versions   with each version of CPython that is installed
"""

import argparse
import glob
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

from sanitizer import Sanitizer
from traces import Failure, Trace, check

HERE = os.path.dirname(os.path.abspath(__file__))
PYTHON = "python3"
SIMULATED = {"UVMTRACE_SIM_PROFILE": "tiny"}
EXIT_LIMIT_SECONDS = 2.5  # an exit may be delayed by two
RUN_LIMIT_SECONDS = 50
SKIP = 77  # a program's exit status, and the runner's own, for what is not permitted here


class Skipped(Exception):
    pass


class Run:
    """One execution of a program, in a folder of its own."""

    def __init__(self, args, folder, command, environment, preload):
        self.folder = folder
        self.args = args
        # What the sanitizer says must outlive a program that removes its own folder.
        self.findings_folder = folder + ".findings"
        os.mkdir(self.findings_folder)
        variables = {k: v for k, v in os.environ.items() if not k.startswith(("UVMTRACE_", "LD_"))}
        libraries = [args.fake, os.path.join(args.fake, "13"), os.path.join(args.fake, "12"),
                     os.path.join(args.fake, "11")]
        if "UVMTRACE_SIM_PROFILE" in environment:
            libraries = [args.simulator]
        variables["LD_LIBRARY_PATH"] = ":".join([*libraries, args.libraries])
        variables.update({name: value.replace("{fake}", args.fake) for name, value in environment.items()})
        variables.update(args.sanitizer.environment(self.findings_folder))
        preload = args.sanitizer.preload() + preload
        if preload:
            variables["LD_PRELOAD"] = ":".join(preload)
        command = [word.replace("{libraries}", args.libraries) for word in command]
        limit = RUN_LIMIT_SECONDS * (4 if args.sanitizer else 1)
        start = time.monotonic()
        self.process = subprocess.run(args.emulator + command, cwd=folder, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                      text=True, timeout=limit)
        self.seconds = time.monotonic() - start

    @property
    def outcome(self):
        return self.process.returncode, self.process.stdout, self.process.stderr

    def findings(self):
        return self.args.sanitizer.findings(self.findings_folder)

    def files(self):
        return sorted(os.path.basename(f) for f in glob.glob(os.path.join(self.folder, "*.pb*")))

    def trace(self, name="trace.pb"):
        return Trace(self.args, os.path.join(self.folder, name))

    def traces(self):
        return [self.trace(name) for name in self.files()]


def report(run, *paths):
    """The JSON report of these files, or of the folder's newest run, as a user gets it."""
    done = subprocess.run([run.args.report, "--format", "json", "--sysroot", "/nonexistent", *(paths or [run.folder])],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    check(done.returncode == 0, f"uvmtrace-report: {done.stderr}")
    return json.loads(done.stdout)


# Expectations that every list needs.


def both(*expectations):
    def expect(run):
        for expectation in expectations:
            expectation(run)
    return expect


def nothing(run):
    pass


def interpreters():
    """One executable of each supported version of CPython that is installed."""
    found = {}
    candidates = sorted(glob.glob(os.path.expanduser("~/.pyenv/versions/3.*/bin/python3")))
    candidates += [path for folder in ("/usr/bin", "/usr/local/bin") for path in sorted(glob.glob(f"{folder}/python3.*"))
                   if path.split("python3.")[1].removesuffix("-dbg").isdigit()]
    for path in candidates:
        done = subprocess.run([path, "-c", "import sys; print(sys.version_info[1], hasattr(sys, 'gettotalrefcount'))"],
                              stdout=subprocess.PIPE, text=True)
        minor, debug = done.stdout.split() if done.returncode == 0 else ("0", "")
        if 9 <= int(minor) <= 14:
            found.setdefault((int(minor), debug), path)
    return [found[key] for key in sorted(found)]


def run_case(args, name, case):
    """How many programs were run; Failure or Skipped otherwise."""
    program, arguments, expectation, options = case
    reason = args.sanitizer.cannot_run(name)
    if reason is None and options.get("optional") and not os.path.exists(os.path.join(args.programs, program)):
        reason = f"{program} could not be built here"
    if reason is None and "finding" in options and not args.sanitizer:
        reason = "this build has no sanitizer"
    if reason is not None:
        raise Skipped(reason)
    if program == PYTHON and args.emulator:
        raise Skipped("the interpreter here is not of the processor that is emulated")
    if program == PYTHON and arguments[0] != "-c":
        arguments = [os.path.join(HERE, "python", arguments[0])] + arguments[1:]
    paths = [os.path.join(args.programs, program)]
    if program == PYTHON:
        paths = interpreters() if options.get("versions") else [sys.executable]
    for path in paths:
        run_once(args, name, [path] + arguments, expectation, options)
    return len(paths)


def preloads(args, options):
    """The libraries before ours and those behind it."""
    file = lambda name: os.path.join(args.libraries, f"lib{name}.so")
    before = [file(options["before"])] if "before" in options else []
    if "slow_disk" in options:
        before.append(file("slow_disk"))
    return before, [file(options["partner"])] if "partner" in options else []


def run_once(args, name, command, expectation, options):
    environment = {"PYTHONDONTWRITEBYTECODE": "1", **options.get("env", {})}
    if args.sanitizer:
        environment.update(options.get("sanitized", {}))
    if "slow_disk" in options:
        environment["SLOW_DISK_MS"] = str(options["slow_disk"])
    before, behind = preloads(args, options)
    base = tempfile.mkdtemp(prefix=f"uvmtrace-{name}-")
    try:
        folders = [os.path.join(base, which) for which in ("without", "with")]
        for folder in folders:
            os.mkdir(folder)
            options.get("prepare", nothing)(folder)
        without = Run(args, folders[0], command, environment, before + behind)
        if options.get("twice"):
            behind = [shutil.copy(args.library, os.path.join(base, "libuvmtrace_again.so"))] + behind
        if without.process.returncode == SKIP:
            raise Skipped("not permitted here")
        if options.get("launcher"):
            traced = Run(args, folders[1], [launcher_in(args, base, options["launcher"]), "run", "--"] + command,
                         environment, before + behind)
        elif options.get("inject"):
            traced = Run(args, folders[1], command, {**environment, "TEST_LIBRARY": args.library}, before + behind)
        else:
            traced = Run(args, folders[1], command, environment, before + [args.library] + behind)
        if "finding" in options:
            check(options["finding"][args.sanitizer.kind] in traced.findings(), f"not found: {traced.findings()}")
            return
        check(traced.findings() == "", ends(traced.findings()))
        compare(without, traced, options, args.sanitizer)
        try:
            expectation(traced)
        except Failure as failure:
            raise Failure(f"{command}: {failure}\nstderr: {traced.process.stderr}") from failure
    finally:
        if not args.keep:
            shutil.rmtree(base)


def launcher_in(args, base, folder):
    """The launcher as it is, or, with a name, installed in a folder of that name."""
    if folder is True:
        return args.launcher
    for source, name in ((args.launcher, "bin"), (args.library, "lib")):
        os.makedirs(os.path.join(base, folder, name))
        shutil.copy(source, os.path.join(base, folder, name))
    return os.path.join(base, folder, "bin/uvmtrace")


def ends(value, most=3000):
    """What is printed of something long."""
    text = str(value)
    return text if len(text) <= most else text[:most // 2] + " ... " + text[-most // 2:]


def compare(without, traced, options, sanitizer):
    expected, got = without.outcome, traced.outcome
    if options.get("stderr"):
        expected, got = expected[:2], got[:2]
    check("FAILED" not in expected[1], f"the program itself fails: {without.outcome}")
    check(expected == got, f"the host noticed:\n  without: {ends(expected)}\n  with:    {ends(got)}\n{ends(traced.process.stderr)}")
    # On a machine with more to do than it has processors, everything takes as much longer; under a sanitizer as well.
    crowd = max(1, os.getloadavg()[0] / os.cpu_count()) * (4 if sanitizer else 1)
    check(traced.seconds - without.seconds < options.get("seconds", EXIT_LIMIT_SECONDS) * crowd,
          f"{without.seconds:.1f} s without, {traced.seconds:.1f} s with the library")


def emulated(args, program):
    """A program of the build, as one that can be run here."""
    if not args.emulator:
        return program
    script = program + ".emulated"
    with open(script, "w") as file:
        file.write(f"#!/bin/sh\nexec {' '.join(args.emulator)} {program} \"$@\"\n")
    os.chmod(script, 0o755)
    return script


def set_paths(args):
    build = args.build = os.path.abspath(args.build)
    args.library = os.path.join(build, "lib/libuvmtrace.so")
    args.launcher = os.path.join(build, "bin/uvmtrace")
    args.report = os.path.join(build, "bin/uvmtrace-report")
    args.programs = os.path.join(build, "tests/programs/bin")
    args.libraries = os.path.join(build, "tests/programs/libraries")
    args.fake = os.path.join(build, "tests/programs/fake")
    args.simulator = os.path.join(build, "lib/uvmtrace/sim")
    args.trace_to_json = os.path.join(args.programs, "trace_to_json")
    args.sanitizer = Sanitizer(build)
    # Of a cross build: what runs its programs.
    with open(os.path.join(build, "tests/programs/emulator.json")) as file:
        args.emulator = json.load(file)
    args.report, args.trace_to_json = emulated(args, args.report), emulated(args, args.trace_to_json)


def parser(description):
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--case", action="append", default=[], help="instead of all; may be repeated")
    made.add_argument("--build", default="build/default")
    made.add_argument("--keep", action="store_true", help="leave the folders of the runs")
    return made


def main(cases, description):
    made = parser(description)
    made.add_argument("--list", action="store_true", help="print the names")
    args = made.parse_args()
    if args.list:
        print("\n".join(cases))
        return 0
    set_paths(args)
    failed = skipped = 0
    for name in args.case or cases:
        try:
            runs = run_case(args, name, cases[name])
            print(f"passed {name}" + (f" ({runs} interpreters)" if runs > 1 else ""), flush=True)
        except Skipped as reason:
            print(f"skipped {name}: {reason}", flush=True)
            skipped += 1
        except (Failure, subprocess.SubprocessError, KeyError) as failure:
            print(f"FAILED {name}: {type(failure).__name__}: {failure}", flush=True)
            failed += 1
    if failed:
        return 1
    return SKIP if skipped and skipped == len(args.case or cases) else 0
