"""Runs the programs that fork, exit and die again and again, and reports hangs, crashes and wrong traces.

  soak.py --runs 1000 [--case NAME ...] [--build build/default]
"""

import collections
import subprocess
import sys
import time

import lives
import runner
from traces import Failure


def main():
    parser = runner.parser(__doc__)
    parser.add_argument("--runs", type=int, default=1000, help="of all programs together")
    args = parser.parse_args()
    runner.set_paths(args)
    names = args.case or lives.SOAK
    failures = collections.Counter()
    done = 0
    start = time.monotonic()
    while done < args.runs:
        name = names[done % len(names)]
        done += 1
        try:
            runner.run_case(args, name, lives.CASES[name])
        except runner.Skipped:
            pass
        except subprocess.TimeoutExpired as hang:
            failures[name] += 1
            print(f"HANG in run {done}, {name}: {hang}", flush=True)
        except (Failure, subprocess.SubprocessError, KeyError) as failure:
            failures[name] += 1
            print(f"FAILED in run {done}, {name}: {type(failure).__name__}: {failure}", flush=True)
        if done % 100 == 0:
            print(f"{done} runs, {sum(failures.values())} failures, {time.monotonic() - start:.0f} s", flush=True)
    print(f"{done} runs of {len(names)} programs in {time.monotonic() - start:.0f} s: {sum(failures.values())} failures"
          + "".join(f", {name} {count}" for name, count in failures.most_common()))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
