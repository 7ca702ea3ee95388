"""Every call of CUDA's headers that has to do with memory is in preload/calls/calls.inc or, with a reason, in calls_left_out.txt.

  calls_of_headers.py COMPILER INCLUDE-FOLDER PRELOAD-FOLDER
"""

import os
import re
import subprocess
import sys

# Words by which a call's name is about memory. Broad: a call too many costs a line in calls_left_out.txt, a call too few
# is lost to users.
MEMORY = re.compile(r"Mem|Alloc|Free(?!ze)|Array|[Cc]opy|cpy|Prefetch|Advise|Discard|Register|Ipc|Managed|Global|Symbol|"
                    r"Multicast|Pool|Peer|Map|Reset|GraphAdd|Export|Import|Attach|WriteValue|Load|CtxCreate|CtxDestroy|"
                    r"Decompress|Checkpoint|Malloc|Texture|Surface|External")
# Of those, what is not about memory whatever its name.
NOT_MEMORY = re.compile(r"cu(da)?(Stream|Graph|KernelNode|GraphKernelNode)\w*CopyAttributes|cu(da)?\w*AsyncNotification|"
                        r"cuLogs(Unr|R)egisterCallback|cudaLogs(Unr|R)egisterCallback|cu(da)?(Ctx|Device)Resource\w*|"
                        r"cuGetExportTable|cudaGetExportTable|cudaFuncGetName")


def declared(compiler, include, *definitions):
    """The names that the libraries export, as a program that includes the headers binds them."""
    source = "#include <cuda.h>\n#include <cuda_runtime_api.h>\n"
    command = [compiler, "-E", "-P", "-x", "c++", "-I", include, *definitions, "-"]
    text = subprocess.run(command, input=source, stdout=subprocess.PIPE, text=True, check=True).stdout
    return set(re.findall(r"\b(?:CUresult|cudaError_t)\s+(cu(?:da)?[A-Z]\w*)\s*\(", text))


def rows(preload):
    found = set()
    for name in ("calls/calls_driver_memory.inc", "calls/calls_driver_objects.inc", "calls/calls_runtime_memory.inc",
                 "calls/calls_runtime_objects.inc", "calls/calls_making.inc", "calls/calls_making_driver.inc", "doors/lookups.inc"):
        with open(os.path.join(preload, name)) as file:
            for twin, symbol in re.findall(r"^UVMTRACE_(?:CALL|LOOKUP)(?:_UNCHECKED)?(_PT[DS][SZ])?\(\w+, (\w+)", file.read(), re.M):
                found.add(symbol)
                if twin:
                    found.add(symbol + twin.lower())
    return found


def left_out(preload):
    patterns = []
    with open(os.path.join(preload, "calls/calls_left_out.txt")) as file:
        for line in file:
            line = line.strip()
            if line and not line.startswith("#"):
                pattern, reason = re.split(r"\s{3,}", line, maxsplit=1)
                patterns.append((re.compile(pattern), reason))
    return patterns


def plain(symbol):
    return re.sub(r"(_v\d+)?(_pt[ds][sz])?$", "", symbol)


def main():
    compiler, include, preload = sys.argv[1:]
    calls = declared(compiler, include) | declared(compiler, include, "-DCUDA_API_PER_THREAD_DEFAULT_STREAM")
    listed, excused = rows(preload), left_out(preload)
    failures = []
    if len(calls) < 500 or not {"cuMemAlloc_v2", "cuMemcpyAsync_ptsz", "cudaMallocManaged"} <= calls:
        failures.append(f"only {len(calls)} calls were found in {include}: the headers are not read as they should")
    memory = {call for call in calls if MEMORY.search(call) and not NOT_MEMORY.fullmatch(plain(call))}
    for call in sorted(memory - listed):
        if not any(pattern.fullmatch(plain(call)) for pattern, _ in excused):
            failures.append(f"{call} is neither in calls.inc nor in calls_left_out.txt")
    for call in sorted(listed):
        for pattern, reason in excused:
            if pattern.fullmatch(plain(call)) and reason != "a door, in lookups.inc":
                failures.append(f"{call} is in calls.inc and also left out: {reason}")
    print("\n".join(failures) or f"{len(memory)} of {len(calls)} calls have to do with memory: "
                                  f"{len(memory & listed)} in the list, {len(memory - listed)} left out for a reason")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
