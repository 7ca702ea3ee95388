"""What the programs of the matrix share: how they say that they cannot run here, what they print, and their time.

A program prints a digest of the numbers that it has computed and nothing that changes from run to run, so that its
output under a tracer can be compared with its output without one, byte for byte. Times go to the file that
MATRIX_TIME names, as one JSON object: region -> seconds. Numbers are chosen so that the digest does not
depend on the order of a sum: small integers, exact in any floating-point format that is used.
"""

import contextlib
import hashlib
import importlib
import json
import os
import sys
import time

SKIPPED = 77  # exit status: this program cannot run here, the last line of stderr says why

_regions = {}


def skip(reason):
    print(f"skipped: {' '.join(str(reason).split())[:300]}", file=sys.stderr, flush=True)
    sys.exit(SKIPPED)


def require(*modules):
    """The modules of these names. Without one of them there is nothing to show."""
    found = []
    for name in modules:
        try:
            found.append(importlib.import_module(name))
        except ImportError as error:
            skip(f"{name}: {error}")
    return found[0] if len(found) == 1 else found


def torch_with_gpus(count=1):
    torch = require("torch")
    if torch.cuda.device_count() < count:
        skip(f"PyTorch sees {torch.cuda.device_count()} GPUs, {count} are needed")
    return torch


def record_seconds(region, seconds):
    _regions[region] = seconds
    path = os.environ.get("MATRIX_TIME")
    if path:
        with open(path, "w", encoding="utf-8") as file:
            json.dump(_regions, file)


@contextlib.contextmanager
def timed(region="region", synchronize=lambda: None):
    synchronize()
    start = time.perf_counter()
    yield
    synchronize()
    record_seconds(region, time.perf_counter() - start)


def show(name, data):
    """Prints a digest of `data`: bytes, or anything that holds them (a NumPy array, contiguous)."""
    print(f"{name}: sha256 {hashlib.sha256(memoryview(data).cast('B')).hexdigest()}", flush=True)
