"""How much later a program starts that has libuvmtrace.so preloaded and never calls CUDA: at most 2 ms.

Pairs of /bin/true with and without, interleaved so that what else the machine does falls on both alike. The median of the
differences is judged; its spread is printed beside it.
"""

import os
import statistics
import subprocess
import sys
import time

PAIRS = 60
LIMIT_MS = 2.0


def run_ms(environment):
    start = time.perf_counter()
    subprocess.run(["/bin/true"], env=environment, check=True)
    return (time.perf_counter() - start) * 1e3


def main():
    without = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
    preloaded = {**without, "LD_PRELOAD": sys.argv[1]}
    pairs = []
    for i in range(PAIRS + 5):
        if i % 2 == 0:
            pair = (run_ms(without), run_ms(preloaded))
        else:
            pair = tuple(reversed((run_ms(preloaded), run_ms(without))))
        if i >= 5:
            pairs.append(pair)
    differences = [b - a for a, b in pairs]
    quartiles = statistics.quantiles(differences, n=4)
    median = quartiles[1]
    base = statistics.median(a for a, _ in pairs)
    print(f"/bin/true {base:.2f} ms, preloaded {median:+.2f} ms later (quartiles {quartiles[0]:+.2f} .. {quartiles[2]:+.2f}), "
          f"ratio {(base + median) / base:.2f}, {PAIRS} pairs")
    return 0 if median <= LIMIT_MS else 1


if __name__ == "__main__":
    sys.exit(main())
