"""What may be asked for: sizes, and the refusals that need no GPU to decide.

Managed memory that leaves the GPU needs host pages that cannot be swapped out, and a GPU with more managed memory than
it has of its own can hang its driver. Both are checked before the first byte is allocated.
"""

import re

GIB = 1 << 30
MIB = 1 << 20
LARGEST_KV_BYTES = 8 * GIB
HOST_MARGIN_BYTES = 1 * GIB

_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": MIB, "g": GIB}


class Refused(Exception):
    """The server declines to start. The message says what to change."""


def parse_bytes(text):
    """'512MiB', '2g', '1073741824' as a number of bytes; units are powers of 1024. ValueError for anything else."""
    match = re.fullmatch(r"\s*(\d+)\s*([kmg]?)(i?b)?\s*", text.lower())
    if match is None:
        raise ValueError(f"'{text}' is no size; write 536870912, 512MiB or 2GiB")
    return int(match.group(1)) * _UNITS[match.group(2)]


def format_bytes(count):
    for unit, size in (("GiB", GIB), ("MiB", MIB), ("KiB", 1 << 10)):
        if count >= size:
            return f"{count / size:.2f} {unit}".replace(".00", "")
    return f"{count} bytes"


def host_available_bytes(meminfo_path="/proc/meminfo"):
    """MemAvailable in bytes, or None where it cannot be read."""
    try:
        with open(meminfo_path, encoding="ascii") as meminfo:
            for line in meminfo:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def check_kv_bytes(kv_bytes, bytes_per_slot, free_bytes, host_bytes, allow_large):
    """Raises Refused unless a KV cache of kv_bytes is safe on a GPU and a host with this much free memory."""
    if kv_bytes < bytes_per_slot:
        raise Refused(
            f"--kv-bytes {format_bytes(kv_bytes)} hold not even one conversation ({format_bytes(bytes_per_slot)})"
        )
    if kv_bytes > free_bytes:
        raise Refused(
            f"--kv-bytes {format_bytes(kv_bytes)} are more than the {format_bytes(free_bytes)} of free device memory: "
            "a GPU that is oversubscribed can hang its driver. The simulator can show it: scripts/demo"
        )
    if kv_bytes > LARGEST_KV_BYTES and not allow_large:
        raise Refused(
            f"--kv-bytes {format_bytes(kv_bytes)} are more than {format_bytes(LARGEST_KV_BYTES)}; "
            "insist with --allow-large"
        )
    if host_bytes is None:
        raise Refused("cannot tell how much host memory is left: no MemAvailable in /proc/meminfo")
    if host_bytes < kv_bytes + HOST_MARGIN_BYTES:
        raise Refused(
            f"the KV cache may all come back to the host: that needs {format_bytes(kv_bytes + HOST_MARGIN_BYTES)}, and "
            f"{format_bytes(host_bytes)} are available; use a smaller --kv-bytes"
        )


def check_weight_bytes(weight_bytes, capacity_bytes, host_bytes, allow_oversubscription):
    """Raises Refused unless weights of that size may lie in host memory, in managed memory and on the GPU."""
    if weight_bytes > capacity_bytes and not allow_oversubscription:
        raise Refused(
            f"the weights are {format_bytes(weight_bytes)}, and {format_bytes(capacity_bytes)} of device memory are free or "
            "allowed by --capacity. Take fewer --layers, or insist with --allow-oversubscription: drivers are known to hang"
        )
    if weight_bytes > LARGEST_KV_BYTES:
        raise Refused(f"the weights are {format_bytes(weight_bytes)}; at most {format_bytes(LARGEST_KV_BYTES)} are allowed. "
                      "Take fewer --layers or a smaller --hidden")
    needed = 2 * weight_bytes + HOST_MARGIN_BYTES  # as they were made, and as the kind of memory holds them
    if host_bytes is None or host_bytes < needed:
        available = "an unknown amount is" if host_bytes is None else f"{format_bytes(host_bytes)} are"
        raise Refused(f"weights of {format_bytes(weight_bytes)} need {format_bytes(needed)} of host memory, and {available} "
                      "available; take fewer --layers")
