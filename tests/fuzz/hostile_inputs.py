#!/usr/bin/env python3
"""Files that are small and ask for much: each once hung uvmtrace-report or took gigabytes. Writes them, reads each with a
limit on CPU time and memory, and says which went beyond.

    hostile_inputs.py UVMTRACE_REPORT FOLDER [--keep]

With --keep the files stay in FOLDER, as seeds for a fuzzer.
"""
import os, resource, struct, subprocess, sys, time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "oracle"))
from make_traces import blob, chunk, columns, number, text, varint

CPU_SECONDS, MEMORY_MIB = 10, 512
HEAD = blob(8, number(1, 7) + number(6, 10**12) + number(7, 10**12) + text(9, "full")) + blob(17, text(1, "driver_queue") + number(2, 1))
NEW = 10**12


def calls_of_undefined_functions():
    """1.2 MB: every call names another function, none of which is defined."""
    out = chunk(HEAD, 0, 1)
    for part in range(8):
        rows = [[NEW + i, 10, 7, 1000 + part * 50_000 + i, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0] for i in range(50_000)]
        out += chunk(number(5, NEW) + columns("calls", rows, 0), part + 1, 1)
    return out


def migrations_of_the_address_space():
    """0.3 MB: migrations of 128 GiB each, at distinct addresses."""
    rows = [[NEW + i, 10, i << 37, 128 << 30, -1, 0, 2] for i in range(20_000)]
    return chunk(HEAD, 0, 1) + chunk(number(5, NEW) + columns("moved", rows, 2), 1, 1)


def migrations_over_many_allocations():
    """Migrations that each touch thousands of allocations."""
    head = HEAD + blob(10, number(1, 1) + text(2, "cudaMallocManaged") + number(3, 1) + number(4, 1))
    made = [[NEW + i, 10, 7, 1, 0, 1, 0, 0x7f0000000000 + (i << 16), 4096, 0, 0, 0, 0, 2, 0] for i in range(60_000)]
    moved = [[NEW + 10**6 + i, 10, 0x7f0000000000, 60_000 << 16, -1, 0, 2] for i in range(20_000)]
    return chunk(head, 0, 1) + chunk(number(5, NEW) + columns("calls", made, 0), 1, 1) + chunk(number(5, NEW) + columns("moved", moved, 2), 2, 1)


def mapping_definitions():
    """2.4 MB of mappings, each of which was compared with all before it."""
    out = chunk(HEAD, 0, 1)
    for part in range(8):
        out += chunk(b"".join(blob(11, number(1, part * 20_000 + i + 1) + number(2, i << 12) + number(3, (i + 1) << 12)) for i in range(20_000)), part + 1, 1)
    return out


def headers_with_wrong_checksums():
    """10 MB of chunk headers that each claim 8 MiB, none with the checksum that it names."""
    claim = bytes((8 << 20 >> 7 * i & 127) | (128 if i < 4 else 0) for i in range(5))
    header = b"\x0a" + claim + b"\x09UVMTRC\x01\n\x15" + struct.pack("<I", 12345) + b"\x19" + bytes(8) + b"\x21" + bytes(8)
    return chunk(HEAD, 0, 1) + header * (10_000_000 // len(header))


def headers_alone():
    """The same, without a chunk before them: no trace at all, and nothing to search in when it lies beside one."""
    return headers_with_wrong_checksums()[len(chunk(HEAD, 0, 1)):]


def absent_columns():
    """Rows that the file does not pay for: a column of one-byte values, all others absent."""
    faults = blob(33, number(1, 2) + number(2, 2) + blob(3, b"\x02" * (2 << 20)))
    return chunk(HEAD, 0, 1) + b"".join(chunk(faults, i + 1, 1) for i in range(4))


def ranges_and_devices():
    """Every fault on another device, in another batch."""
    rows = [[NEW + i, 0, i << 12, i % 4096, 1, 0, i] for i in range(100_000)]
    return chunk(HEAD, 0, 1) + chunk(number(5, NEW) + columns("gpu", rows, 2), 1, 1)


def kernels_of_distinct_names_at_once():
    rows = [[NEW, 10**9 + i, 0, 7, i] for i in range(100_000)]
    faults = [[NEW + i, 0, i << 12, 0, 1, 0, i // 100] for i in range(100_000)]
    return chunk(HEAD, 0, 1) + chunk(number(5, NEW) + columns("kernels", rows, 0) + columns("gpu", faults, 2), 1, 1)


INPUTS = [calls_of_undefined_functions, migrations_of_the_address_space, migrations_over_many_allocations, mapping_definitions,
          headers_with_wrong_checksums, headers_alone, absent_columns, ranges_and_devices, kernels_of_distinct_names_at_once]


def run(command):
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                             preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (3 * CPU_SECONDS, 3 * CPU_SECONDS)))
    _, status, used = os.wait4(child.pid, 0)
    return os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def main():
    report, folder = sys.argv[1:3]
    os.makedirs(folder, exist_ok=True)
    good = os.path.join(folder, "good.pb")
    open(good, "wb").write(chunk(HEAD, 0, 1) + chunk(blob(7, number(1, 1)), 1, 1))
    bad = 0
    for make in INPUTS:
        path = os.path.join(folder, make.__name__ + ".pb")
        open(path, "wb").write(make())
        # Itself, and another trace beside it in the folder.
        for what, command in (("itself", [report, path]), ("a trace beside it", [report, good])):
            status, seconds, memory = run(command)
            wrong = status not in (0, 3) or seconds > CPU_SECONDS or memory > MEMORY_MIB
            bad += wrong
            print(f"{'BAD' if wrong else 'ok '} {make.__name__:36} {os.path.getsize(path) / 1e6:5.1f} MB {what:18} {seconds:5.2f} s {memory:5.0f} MiB status {status}")
        if "--keep" not in sys.argv: os.unlink(path)
    return bad > 0


if __name__ == "__main__": sys.exit(main())
