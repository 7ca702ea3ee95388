"""A PyTorch inference loop that uses no managed memory at all: it must not notice that it is traced.

  python3 torch_loop.py [--steps 1000] [--repeats 7]

Prints one line of JSON like uvmtrace_overhead_bench; wall_ns is the median over the repeats. Exit code 77: no PyTorch, or
no GPU for it.
"""

import argparse
import json
import statistics
import sys
import time


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    try:
        import torch
    except ImportError as error:
        print(f"torch_loop: {error}", file=sys.stderr)
        return 77
    if not torch.cuda.is_available():
        print("torch_loop: this PyTorch sees no GPU", file=sys.stderr)
        return 77

    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(1024, 4096), torch.nn.GELU(), torch.nn.Linear(4096, 1024)).half().cuda()
    data = torch.randn(32, 1024, device="cuda", dtype=torch.half)
    times = []
    with torch.inference_mode():
        for repeat in range(-1, arguments.repeats):  # the first one warms up
            torch.cuda.synchronize()
            cpu, start = time.process_time_ns(), time.monotonic_ns()
            for _ in range(arguments.steps):
                result = model(data)
            torch.cuda.synchronize()
            if repeat >= 0:
                times.append((time.monotonic_ns() - start, time.process_time_ns() - cpu))
    if not torch.isfinite(result).all():
        print("torch_loop: the result is not finite", file=sys.stderr)
        return 1
    print(json.dumps({"workload": "pytorch", "wall_ns": int(statistics.median(wall for wall, _ in times)),
                      "process_cpu_ns": int(statistics.median(cpu for _, cpu in times)), "bottom_half_cpu_ns": None,
                      "host_to_device_bytes": 0, "device_to_host_bytes": 0, "repeats_ns": [wall for wall, _ in times],
                      "torch": torch.__version__}))
    sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
