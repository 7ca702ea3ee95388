"""No file of preload/ includes one that stands above it.

  preload_floors.py PRELOAD-FOLDER
"""

import fnmatch
import os
import re
import sys

# From the bottom up. A file may include what stands on its own floor or below.
FLOORS = [
    ("base", ["base/*"]),
    ("the list of calls", ["calls/calls.inc", "calls/calls_*.inc", "calls/functions.*", "calls/cuda_api.h", "doors/lookups.inc"]),
    ("doors", ["doors/*"]),
    ("stacks", ["stacks/*"]),
    ("apply", ["apply/*"]),
    ("session", ["session/*"]),
    ("hooks", ["calls/*"]),
]
# A program of its own.
APART = ["launcher/*"]


def floor_of(path):
    for number, (_, patterns) in enumerate(FLOORS):
        if any(fnmatch.fnmatch(path, pattern) for pattern in patterns):
            return number
    return None


def main():
    preload, = sys.argv[1:]
    failures = []
    includes = 0
    for folder, _, names in os.walk(preload):
        for name in sorted(names):
            path = os.path.relpath(os.path.join(folder, name), preload)
            if not name.endswith((".h", ".cc", ".inc", ".S")) or any(fnmatch.fnmatch(path, pattern) for pattern in APART):
                continue
            floor = floor_of(path)
            if floor is None:
                failures.append(f"{path} stands on no floor: give its folder one in {__file__}")
                continue
            with open(os.path.join(preload, path)) as file:
                for included in re.findall(r'#include "preload/([^"]+)"', file.read()):
                    includes += 1
                    other = floor_of(included)
                    if other is None or other > floor:
                        above = "no floor" if other is None else FLOORS[other][0]
                        failures.append(f"{path} ({FLOORS[floor][0]}) includes {included} ({above})")
    if includes < 50:
        failures.append(f"only {includes} includes were found in {preload}")
    print("\n".join(failures) or f"{includes} includes, none of them upwards")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
