"""torch.compile from nothing: the caches are empty, so compilers run as children of the traced process.

Inductor starts a pool of worker processes, Triton runs ptxas and a C compiler; all of them inherit LD_PRELOAD.
"""

import os
import shutil
import tempfile

import workload

if not any(shutil.which(name) for name in (os.environ.get("CC", "cc"), "gcc", "clang")):
    workload.skip("there is no C compiler, and Triton needs one")
CACHE = tempfile.mkdtemp(prefix="uvmtrace-matrix-inductor-")
os.environ["TORCHINDUCTOR_CACHE_DIR"] = os.path.join(CACHE, "inductor")
os.environ["TRITON_CACHE_DIR"] = os.path.join(CACHE, "triton")
torch = workload.torch_with_gpus()


def function(values, weights):
    return torch.relu(values * 3 - weights).sum(dim=-1) + values.amax(dim=-1)


def main():
    values = (torch.arange(1 << 20, device="cuda", dtype=torch.float32) % 61).view(1024, 1024)
    weights = (torch.arange(1024, device="cuda", dtype=torch.float32) % 17)
    expected = function(values, weights)
    try:
        with workload.timed(synchronize=torch.cuda.synchronize):
            compiled = torch.compile(function)
            for _ in range(100):
                result = compiled(values, weights)
    except Exception as error:  # whatever the compiler is missing here. A traced run that fails alone is a difference.
        shutil.rmtree(CACHE, ignore_errors=True)
        workload.skip(f"torch.compile: {type(error).__name__}: {str(error).strip().splitlines()[0]}")
    print(f"as in eager mode: {torch.equal(result, expected)}")
    workload.show("output", result.cpu().numpy())
    shutil.rmtree(CACHE, ignore_errors=True)


if __name__ == "__main__":
    main()
