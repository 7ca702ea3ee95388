"""`import torch` and an inference loop of 1,000 steps, no managed memory at all: it must not notice that it is traced.

Three times: the import; the import and the first 1,000 steps together, with what CUDA needs to start; and the median of
five further loops.
"""

import statistics
import time

started = time.perf_counter()
import workload  # noqa: E402  (the import is part of what is measured)

torch = workload.torch_with_gpus()
imported = time.perf_counter()

STEPS = 1000
REPEATS = 5


def main():
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(1024, 4096), torch.nn.GELU(), torch.nn.Linear(4096, 1024)).half().cuda()
    data = torch.randn(32, 1024).half().cuda()
    seconds = []
    with torch.inference_mode():
        for repeat in range(REPEATS + 1):
            torch.cuda.synchronize()
            start = time.perf_counter()
            for _ in range(STEPS):
                result = model(data)
            torch.cuda.synchronize()
            if repeat == 0:
                workload.record_seconds("import torch and 1,000 steps", time.perf_counter() - started)
            else:
                seconds.append(time.perf_counter() - start)
    workload.record_seconds("import torch", imported - started)
    workload.record_seconds("region", statistics.median(seconds))
    workload.show("output", result.cpu().numpy())


if __name__ == "__main__":
    main()
