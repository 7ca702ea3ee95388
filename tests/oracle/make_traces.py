#!/usr/bin/env python3
"""Writes runs that the driver could have recorded, with everything that makes attribution hard: records that stand in
the file long after or before their time, kernels that run at once, addresses that are used again, several processes and
GPUs. What they must give is oracle.py's to say.

    make_traces.py FOLDER COUNT [SEED]      prints one run a line, its files joined by ','
"""
import random, struct, sys

CRC = [0] * 256
for byte in range(256):
    crc = byte
    for _ in range(8): crc = (crc >> 1) ^ (0x82f63b78 if crc & 1 else 0)
    CRC[byte] = crc


def crc32c(data):
    crc = 0xffffffff
    for byte in data: crc = CRC[(crc ^ byte) & 255] ^ (crc >> 8)
    return crc ^ 0xffffffff


def varint(value):
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 127: out.append(value & 127 | 128); value >>= 7
    out.append(value)
    return bytes(out)


def zigzag(value): return (value << 1) ^ (value >> 63)
def blob(field, data): return varint(field << 3 | 2) + varint(len(data)) + data
def number(field, value): return varint(field << 3) + varint(value) if value else b""
def text(field, value): return blob(field, value.encode())


D, P, Z = "DPZ"
KINDS = {"calls": (32, 1, [D, P, P, P, P, P, Z, D, P, D, P, P, Z, P, P]), "gpu": (33, 3, [D, P, D, Z, P, P, P]),
         "cpu": (34, 3, [D, D, D, P, P]), "moved": (35, 3, [D, P, D, P, Z, Z, P]), "kernels": (37, 3, [D, P, Z, P, P]),
         "replays": (41, 3, [D, Z, P])}


def columns(kind, rows, source):
    field, first, codings = KINDS[kind]
    message = b"" if first == 1 else number(2, source)
    for i, coding in enumerate(codings):
        last, packed = 0, bytearray()
        for row in rows:
            value = row[i]
            if coding == D: value, last = value - last, value
            packed += varint(value if coding == P else zigzag(value))
        message += blob(first + i, bytes(packed))
    return blob(field, message)


def chunk(fields, sequence, run):
    rest = b"\x19" + struct.pack("<Q", run) + b"\x21" + struct.pack("<Q", sequence) + fields
    body = b"\x09UVMTRC\x01\n\x15" + struct.pack("<I", crc32c(rest)) + rest
    size = bytes((len(body) >> 7 * i & 127) | (128 if i < 4 else 0) for i in range(5))
    return b"\x0a" + size + body


ALLOCATE, FREE, PREFETCH, COPY = 1, 2, 5, 3
FUNCTIONS = [("cudaMallocManaged", 1), ("cudaFree", 2), ("cudaMalloc", 1), ("cudaMemPrefetchAsync", 5), ("cudaMemcpy", 3)]
NAMES = ["_Z5firstPf", "_Z6secondPf", "_Z5thirdPf", "_Z6fourthPf"]


def process(rng, pid, run, gpus, queue):
    began = 10**12
    events = {kind: [] for kind in KINDS}
    live, times, used = [], iter(()), {}
    time = began + 10**6
    batch = dict.fromkeys(range(gpus), 1)
    free_addresses = [0x7f0000000000 + i * (64 << 20) for i in range(12)]
    moved_at = set()

    def call(function, start, duration, address=0, size=0, kind=0, stack=0, location=0):
        events["calls"].append([start, duration, pid, function, 0, 1, 0, address, size, 0, 0, 0, location, kind, stack])

    for step in range(rng.randint(20, 60)):
        time += rng.randint(3_000_000, 9_000_000)         # far from each other, as clocks may differ by 1 ms
        if rng.random() < 0.5 and free_addresses or not live:
            base = free_addresses.pop(rng.randrange(len(free_addresses)))
            size = rng.choice([rng.randint(1, 4096) * 4096, rng.randint(1, 8 << 20), 2 << 20])
            managed = rng.random() < 0.85
            call(1 if managed else 3, time - 5000, 5000, base, size, 2 if managed else 1, rng.randint(1, 6))
            live.append((base, size, managed))
        elif rng.random() < 0.3:
            base, size, managed = live.pop(rng.randrange(len(live)))
            call(2, time, 5000, base)
            free_addresses.append(base)
        managed = [one for one in live if one[2]]
        if not managed: continue
        window = time + 2_000_000
        for _ in range(rng.randint(0, 4)):                # kernels of this step, some at once
            start = window + rng.randint(0, 400_000)
            events["kernels"].append([start, rng.randint(1000, 500_000), rng.randrange(gpus), 7, rng.randint(1, len(NAMES))])
        for _ in range(rng.randint(0, 12)):
            gpu = rng.randrange(gpus)
            batch[gpu] += 1
            at = window + rng.randint(0, 900_000)
            for _ in range(rng.randint(1, 20)):
                base, size, _ = rng.choice(managed)
                address = (base + rng.randrange(size)) & ~4095
                address = max(address, base)
                if queue: events["gpu"].append([at, 0, address, gpu, rng.randint(1, 3), 0, batch[gpu]])
                else: events["gpu"].append([at, 50_000, address, gpu, 1, rng.randint(1, 9), 0])
            if queue: events["replays"].append([at + 30_000, gpu, batch[gpu]])
        for _ in range(rng.randint(0, 12)):
            base, size, _ = rng.choice(managed)
            pages = -(-size // 4096)
            first = rng.randrange(pages)
            address = base + first * 4096
            until_block = (2 << 20) - address % (2 << 20)
            amount = min(rng.randint(1, 64) * 4096, (pages - first) * 4096, until_block)
            at = window + rng.randint(0, 900_000)
            while at in moved_at: at += 1                 # the order of two copies at one instant is nobody's to say
            moved_at.add(at)
            gpu = rng.randrange(gpus)
            source, destination, cause = rng.choice([(-1, gpu, 2), (-1, gpu, 3), (-1, gpu, 1), (gpu, -1, 2), (gpu, -1, 4), (gpu, -1, 1)] +
                                                    ([(gpu, (gpu + 1) % gpus, 2)] if gpus > 1 else []))
            events["moved"].append([at, rng.randint(100, 20_000), address, amount, source, destination, cause])
        for _ in range(rng.randint(0, 5)):
            base, size, _ = rng.choice(managed)
            events["cpu"].append([window + rng.randint(0, 900_000), base + rng.randrange(size), 0x401000 + 16 * rng.randint(0, 5), 2, pid])
        if rng.random() < 0.3:
            base, size, _ = rng.choice(managed)
            call(4, time + 1000, 3000, base, size, location=rng.choice([-1, 0]))

    chunks = rng.randint(1, 12)
    shares = [{kind: [] for kind in KINDS} for _ in range(chunks)]
    for kind, rows in events.items():
        rows.sort(key=lambda row: row[0])
        late = rng.choice([0, 0.02, 0.3])
        for i, row in enumerate(rows):
            place = i * chunks // len(rows)
            if rng.random() < late: place = rng.randrange(chunks)
            shares[place][kind].append(row)
        if late == 0.3:
            for share in shares: rng.shuffle(share[kind])
    head = blob(8, number(1, pid) + number(2, 1) + text(3, "host") + number(6, began) + number(7, began) + text(9, "full"))
    for i, (name, operation) in enumerate(FUNCTIONS): head += blob(10, number(1, i + 1) + text(2, name) + number(3, 1) + number(4, operation))
    for i, name in enumerate(NAMES): head += blob(9, number(1, i + 1) + text(2, name))
    for gpu in range(gpus): head += blob(14, number(1, gpu) + text(2, "GPU") + blob(3, bytes([gpu + 1]) * 16) + number(4, 80 << 30))
    head += blob(11, number(1, 1) + number(2, 0x400000) + number(3, 0x500000) + number(4, 0x400000) + text(5, "/nonexistent/program"))
    for stack in range(1, 7): head += blob(12, number(1, stack) + blob(2, varint(0x400000 + 0x100 * stack) + varint(0x400010)))
    for name in (["driver_queue"] if queue else ["cupti", "cupti.gpu_page_faults", "cupti.cpu_page_faults", "cupti.htod_bytes", "cupti.dtoh_bytes", "cupti.dtod_bytes"]) + ["cupti.kernels"]:
        head += blob(17, text(1, name) + number(2, 1))
    out = b""
    for sequence, share in enumerate(shares):
        body = number(5, began + 10**6 * (sequence + 1)) + (head if sequence == 0 else b"")
        for kind, rows in share.items():
            if rows: body += columns(kind, rows, 1 if kind == "kernels" or not queue else 2)
        out += chunk(body, sequence, run)
    return out + chunk(number(5, time) + blob(7, number(1, 1) + number(2, chunks)), chunks, run)


def main():
    folder, count, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 1
    for i in range(count):
        rng = random.Random(seed * 1000 + i)
        gpus, queue = rng.choice([1, 1, 2, 3]), rng.random() < 0.7
        files = []
        for number_of in range(rng.choice([1, 1, 1, 2, 3])):
            files.append(f"{folder}/made_{i:02}_{number_of}.pb")
            open(files[-1], "wb").write(process(rng, 100 + number_of, i + 1, gpus, queue))
        print(",".join(files))


if __name__ == "__main__": main()
