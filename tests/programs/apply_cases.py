"""The programs of run_program.py once more, with an apply file that changes everything: the host must not notice.

  apply_cases.py --case NAME     run one
  apply_cases.py --list          print the names
"""

import os
import sys

import run_program
import runner
from traces import check

EVERYTHING = os.path.join(os.path.dirname(os.path.abspath(__file__)), "everything.apply")
# What a case is about that has nothing to do with changes: a file that cannot be written, a library that is not ours.
LEFT_OUT = {"sanitizer_finds_a_fault", "read_only_folder", "full_disk", "foreign_file", "static_launched", "no_stacks",
            "file_size_limit", "closefrom"}


def applied(run):
    """Where managed memory was allocated, it got its advice; a trace with an end says what became of the file."""
    for name in run.files():
        if os.path.getsize(os.path.join(run.folder, name)) == 0:
            continue
        trace = run.trace(name)
        if not trace.clean:
            continue
        check(trace.states.get("apply", ("", ""))[0] == "ACTIVE", trace.states.get("apply"))
        check("apply.1" in trace.states, trace.states)
        made = [call for call in trace.calls if call["result"] == 0 and call["memory_kind"] == "MANAGED" and call["bytes"] > 0]
        advised = trace.called("uvmtrace: cuMemAdvise")
        # The stand-in for the driver knows no context: that nothing could be done is then counted.
        refused = " failed=0 " not in trace.states["apply.1"][1] and not trace.process.get("simulated")
        check(not made or advised or refused, f"{len(made)} managed allocations, and no advice: {trace.states['apply.1']}")


def case(original):
    program, arguments, _, options = original
    options = {**options, "env": {**options.get("env", {}), "UVMTRACE_APPLY": EVERYTHING}}
    options.pop("versions", None)
    return program, arguments, applied, options


CASES = {name: case(original) for name, original in run_program.CASES.items() if name not in LEFT_OUT}

if __name__ == "__main__":
    sys.exit(runner.main(CASES, __doc__))
