#!/usr/bin/env python3
"""Says what the report of a trace must hold, sharing no code with the analyzer, and compares.

    oracle.py UVMTRACE_REPORT TRACE...      every TRACE alone; several names joined by ',' are one run

Everything is held in memory and looked up in the plainest way: a fault belongs to the allocation that lived at its
address at its time, and to the kernels that ran on its GPU then. What came back to a GPU is told page by page, in the
order of time. proto/uvmtrace.proto is all that both sides know.
"""
import bisect, collections, json, struct, subprocess, sys

PAGE = 4096
DELTA, PLAIN, ZIGZAG = range(3)
# Chunk field -> (first column, coding of each column). Only what is needed below.
COLUMNS = {31: (1, [DELTA] * 4),
           32: (1, [DELTA, PLAIN, PLAIN, PLAIN, PLAIN, PLAIN, ZIGZAG, DELTA, PLAIN, DELTA, PLAIN, PLAIN, ZIGZAG, PLAIN, PLAIN]),
           33: (3, [DELTA, PLAIN, DELTA, ZIGZAG, PLAIN, PLAIN, PLAIN]), 34: (3, [DELTA, DELTA]),
           35: (3, [DELTA, PLAIN, DELTA, PLAIN, ZIGZAG, ZIGZAG, PLAIN]), 37: (3, [DELTA, PLAIN, ZIGZAG, PLAIN, PLAIN])}
MANAGED, ALLOCATE, FREE, REGISTER, UNREGISTER, CREATE, RELEASE, MAP, UNMAP = 2, 1, 2, 7, 8, 11, 12, 13, 14
USER, EVICTION = 1, 4
NEVER = 1 << 64


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]; at += 1
        value |= (byte & 127) << shift; shift += 7
        if byte < 128: return value & (1 << 64) - 1, at


def fields(data):
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        if tag & 7 == 0: value, at = varint(data, at)
        elif tag & 7 == 1: value, at = data[at:at + 8], at + 8
        elif tag & 7 == 5: value, at = data[at:at + 4], at + 4
        else: size, at = varint(data, at); value, at = data[at:at + size], at + size
        yield tag >> 3, value


def signed(value): return (value >> 1) ^ -(value & 1)


def rows(number, message):
    first, codings = COLUMNS[number]
    head, columns = {}, {}
    for field, value in fields(message):
        if field < first: head[field] = value
        elif field - first < len(codings):
            out, at, last = [], 0, 0
            while at < len(value):
                one, at = varint(value, at)
                coding = codings[field - first]
                if coding != PLAIN: one = signed(one)
                if coding == DELTA: one = last = (last + one) & (1 << 64) - 1
                out.append(one)
            columns[field - first] = out
    count = len(columns.get(0, []))
    return head, [tuple(columns.get(i, [0] * count)[row] for i in range(len(codings))) for row in range(count)]


class Process:
    def __init__(self, path):
        self.events = collections.defaultdict(list)   # chunk field -> (clock, source, row)
        self.functions, self.strings, self.devices, self.samples = {}, {}, {}, []
        self.process, self.late = {}, 0
        for _, chunk in fields(open(path, "rb").read()):
            for number, value in fields(chunk):
                if number == 8: self.process = {**self.process, **dict(fields(value))}
                if number == 9: d = dict(fields(value)); self.strings.setdefault(d.get(1, 0), d.get(2, b"").decode(errors="replace"))
                if number == 10: d = dict(fields(value)); self.functions.setdefault(d.get(1, 0), d.get(4, 0))
                if number in COLUMNS:
                    head, all_rows = rows(number, value)
                    self.events[number] += [(head.get(1, 0), head.get(2, 0), row) for row in all_rows]
        self.clocks = {}
        for clock, column in ((1, 1), (2, 2), (3, 3)):
            points = sorted((row[column], row[0]) for _, _, row in self.events[31] if row[column])
            if clock == 1 and not points and self.process.get(7): points = [(self.process[7], self.process[6])]
            self.clocks[clock] = points
        self.read_memory()
        self.read_kernels()

    def mono(self, clock, time):
        points = self.clocks.get(clock) or (self.clocks[1] if clock == 3 else [])
        if clock == 0 or not points: return time
        i = bisect.bisect_right(points, (time, NEVER))
        if i == 0 or len(points) == 1: return time + points[max(i - 1, 0)][1] - points[max(i - 1, 0)][0]
        a, b = (points[i - 1], points[i]) if i < len(points) else (points[-2], points[-1])
        base = points[i - 1]
        slope = ((b[1] - a[1]) - (b[0] - a[0])) / (b[0] - a[0]) if b[0] != a[0] else 0
        return base[1] + (time - base[0]) + int((time - base[0]) * slope)

    def read_memory(self):
        self.memory, open_at = [], {}
        calls = []
        for _, _, row in self.events[32]:
            operation = self.functions.get(row[3], 0)
            start, end = row[0], row[0] + row[1]
            if row[6] == 0 and operation in (ALLOCATE, REGISTER): calls.append((end, 1, row))
            if row[6] == 0 and operation in (FREE, UNREGISTER): calls.append((start, 0, row))
        for time, is_new, row in sorted(calls, key=lambda call: call[:2]):
            address, size = row[7], row[8]
            if address == 0: continue
            if not is_new:
                if address in open_at: open_at.pop(address)["freed"] = row[0] + row[1]
            elif size:
                if address in open_at: open_at.pop(address)["freed"] = time
                one = {"base": address, "end": address + size, "born": time, "freed": NEVER, "kind": row[13], "stack": row[14],
                       "sums": collections.Counter()}
                one["reach"] = -(-one["end"] // 65536) * 65536 if row[13] == MANAGED else one["end"]
                self.memory.append(one); open_at[address] = one
        self.nothing = {"sums": collections.Counter(), "base": 0, "end": 0}
        self.sorted = sorted(self.memory, key=lambda one: one["base"])
        self.bases = [one["base"] for one in self.sorted]
        self.longest = max((one["reach"] - one["base"] for one in self.memory), default=0)

    def owner(self, address, time):
        best, distance = self.nothing, 1_000_001
        i = bisect.bisect_right(self.bases, address)
        while i > 0 and self.bases[i - 1] + self.longest > address:
            i -= 1
            one = self.sorted[i]
            if address >= one["reach"]: continue
            away = one["born"] - time if time < one["born"] else time - one["freed"] if time >= one["freed"] else -1
            if away < 0: return one
            if away < distance: best, distance = one, away
        return best

    def read_kernels(self):
        self.kernels = collections.defaultdict(list)
        for clock, _, row in self.events[37]:
            start = self.mono(clock, row[0])
            self.kernels[row[2]].append((start, start + row[1], self.strings.get(row[4], "")))
        for runs in self.kernels.values(): runs.sort()
        self.longest_kernel = {d: max(end - start for start, end, _ in runs) for d, runs in self.kernels.items()}

    def running(self, device, time):
        runs = self.kernels.get(device, [])
        i, names = bisect.bisect_right(runs, (time, NEVER, "")), set()
        while i > 0 and runs[i - 1][0] + self.longest_kernel[device] > time:
            i -= 1
            if runs[i][0] <= time < runs[i][1]: names.add(runs[i][2])
        return sorted(names)


def direction(source, destination):
    return "host_to_device" if source == -1 and destination >= 0 else "device_to_host" if source >= 0 and destination == -1 else \
        "device_to_device" if source >= 0 and destination >= 0 else "unknown"


def expect(processes):
    totals, kernels = collections.Counter(), collections.defaultdict(collections.Counter)
    for p in processes:
        def lay(device, time, what, amount):
            names = p.running(device, time)
            for i, name in enumerate(names or [None]):
                kernels[name][what] += amount / max(len(names), 1)
        for runs in p.kernels.values():
            for start, end, name in runs: kernels[name]["count"] += 1; kernels[name]["total_ns"] += end - start
        for clock, source, row in p.events[33]:
            time, queue = p.mono(clock, row[0]), source == 2
            what, amount = ("gpu_fault_entries", 1) if queue else ("gpu_fault_groups", row[5])
            p.owner(row[2], time)["sums"][what] += amount
            totals[what] += amount
            lay(row[3], time, what, amount)
        for clock, _, row in p.events[34]:
            p.owner(row[1], p.mono(clock, row[0]))["sums"]["cpu_faults"] += 1
            totals["cpu_faults"] += 1
        pages = {}                                        # (allocation, device, page) -> "here" or "gone"
        for time, row in sorted(((p.mono(clock, row[0]), row) for clock, _, row in p.events[35]), key=lambda pair: pair[0]):
            _, _, address, size, source, destination, cause = row
            way = direction(source, destination) + "_bytes"
            totals[way] += size
            if way == "host_to_device_bytes" and cause != USER: lay(destination, time, way, size)
            if cause == EVICTION: totals["evicted_bytes"] += size
            while size > 0:
                one = p.owner(address, time)
                if one is p.nothing:                      # the start of the page that an allocation begins in
                    later = [m for m in p.memory if m["base"] // 65536 == address // 65536 and m["base"] >= address
                             and m["born"] <= time + 1_000_000 and time <= m["freed"] + 1_000_000]
                    if later: one = min(later, key=lambda m: m["base"])
                following = min((m["base"] for m in p.memory if m["base"] > address and m is not one and m["born"] <= time + 1_000_000
                                 and time <= m["freed"] + 1_000_000), default=address + size)
                end = min(address + size, following, one["reach"] if one is not p.nothing else NEVER)
                part = end - address
                one["sums"][way] += part
                if cause == EVICTION: one["sums"]["evicted_bytes"] += part
                for page in range(address // PAGE, -(-end // PAGE)):
                    if source >= 0: pages[id(one), source, page] = "gone"
                    if destination >= 0:
                        if (id(one), destination, page) in pages: one["sums"]["refaulted_bytes"] += PAGE; totals["refaulted_bytes"] += PAGE
                        pages[id(one), destination, page] = "here"
                address, size = end, size - part
    return totals, kernels


def number(row, field): return int(row.get(field, 0))


def compare(report, paths):
    processes = [Process(path) for path in paths]
    totals, kernels = expect(processes)
    wrong = []
    def same(what, expected, found):
        if expected != found: wrong.append(f"{what}: {found} in the report, {expected} expected")
    got = json.loads(subprocess.run([report, "--format=json", "--top=0", "--sysroot=/nonexistent", *paths], check=True, capture_output=True).stdout)
    known = got.get("totals", {})
    estimated = bool(known.get("estimated")) or any(a.get("estimated") for a in got.get("allocations", []))
    if not estimated:
        recorded = [p for p in processes if p.events[35]]   # else the totals are the driver's counters
        for field in ("gpu_fault_entries", "gpu_fault_groups", "cpu_faults") + \
                (("host_to_device_bytes", "device_to_host_bytes", "device_to_device_bytes", "evicted_bytes") if recorded else ()):
            if field in known: same(f"totals.{field}", totals[field], number(known, field))
        if "refaulted_bytes" in got.get("oversubscription", {}):
            same("came back", totals["refaulted_bytes"], number(got["oversubscription"], "refaulted_bytes"))
    rows_by_name = {row["name"]: row for row in got.get("kernels", [])}
    demangled = dict(zip(kernels, subprocess.run(["c++filt"], input="\n".join(name or "" for name in kernels), text=True,
                                                 capture_output=True).stdout.split("\n"))) if kernels else {}
    for name, sums in kernels.items() if rows_by_name else ():
        row = rows_by_name.get(demangled[name] if name else "(no kernel)", {})
        for field in ("count", "total_ns", "gpu_fault_entries", "gpu_fault_groups") + (() if estimated else ("host_to_device_bytes",)):
            # Of kernels that ran at once each has a share, in whole faults.
            if field in row and abs(number(row, field) - sums[field]) > (0 if sums[field] == int(sums[field]) and not row.get("shared") else len(kernels) + sums[field] * 1e-3):
                same(f"kernel {name}.{field}", sums[field], number(row, field))
            elif field not in row and sums[field] and field in ("count", "gpu_fault_entries", "gpu_fault_groups"): same(f"kernel {name}.{field}", sums[field], "no row")
    mine = collections.defaultdict(list)
    for p in processes:
        for one in p.memory: mine[one["base"], one["end"] - one["base"]].append(one)
    by_site = collections.defaultdict(collections.Counter)
    FIELDS = ("gpu_fault_entries", "gpu_fault_groups", "cpu_faults", "host_to_device_bytes", "device_to_host_bytes",
              "device_to_device_bytes", "evicted_bytes", "refaulted_bytes")
    for row in got.get("allocations", []):
        if number(row, "id") == 0: continue
        candidates = mine.get((number(row, "address"), number(row, "bytes")), [])
        if not candidates and row["kind"] in ("physical", "imported"): continue
        fits = [one for one in candidates if estimated or all(one["sums"][f] == number(row, f) for f in FIELDS if f in row)]
        if not fits: wrong.append(f"allocation {row['id']} at {number(row, 'address'):#x}: " + str({f: number(row, f) for f in FIELDS if f in row})
                                  + f" in the report, one of {[dict(one['sums']) for one in candidates]} expected"); continue
        candidates.remove(fits[0])
        site = by_site[row["kind"], tuple(f.rsplit(":", 1)[0] for f in row.get("stack", []))]
        site["allocations"] += 1; site["total_bytes"] += number(row, "bytes"); site.update(fits[0]["sums"])
    for left in (one for rest in mine.values() for one in rest): wrong.append(f"no row for the allocation at {left['base']:#x}")
    for row in got.get("sites", []):
        if row["key"] in ("unattributed", "others", "not_recorded") or row["kind"] in ("physical", "imported"): continue
        site = by_site.pop((row["kind"], tuple(f.rsplit(":", 1)[0] for f in row.get("stack", []))), None)
        if site is None: wrong.append(f"site {row['key']}: not expected"); continue
        for field in ("allocations", "total_bytes") + (() if estimated else FIELDS):
            if field in row: same(f"site {row['key']}.{field}", site[field], number(row, field))
    for kind, stack in by_site: wrong.append(f"no row for the {kind} memory of {stack[:1]}")
    if not estimated:
        for table in ("sites", "allocations") if recorded else ("sites",):   # rows add up to the totals
            for field in ("gpu_fault_entries", "gpu_fault_groups", "host_to_device_bytes", "device_to_host_bytes"):
                if field in known: same(f"sum of {table}.{field}", number(known, field), sum(number(row, field) for row in got.get(table, [])))
    return wrong


def main():
    bad = 0
    for run in sys.argv[2:]:
        wrong = compare(sys.argv[1], run.split(","))
        for line in wrong[:12]: print(f"{run}: {line}")
        bad += bool(wrong)
    print(f"{len(sys.argv) - 2 - bad} of {len(sys.argv) - 2} agree")
    return bad > 0


if __name__ == "__main__": sys.exit(main())
