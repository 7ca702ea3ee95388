"""What the traces of one run hold: the report's totals, the calls by door, and the audit.

The audit (UVMTRACE_AUDIT=1) has, for each intercepted function, how often CUPTI saw it happen and how often a hook of
ours did. A call that happened and was not seen is a gap. One kind of gap loses nothing: a library that carries a CUDA
runtime of its own, linked statically, makes runtime calls that no door can see, and every driver call that they end in
passes our hooks. CUPTI records no driver call beneath a runtime call, so those are seen without having happened. A gap
in the runtime is explained if such a file is mapped, no driver call is missing, and at least as many driver calls were
seen beneath runtime calls as runtime calls are missing; and only then.
"""

import json
import subprocess

# In libcudart, shared or static, and in nothing else: one of its error texts.
RUNTIME_MARK = "CUDA driver version is insufficient for CUDA runtime version"
OWN_FILES = ("libcudart.so", "libuvmtrace.so")


def number(value):
    return None if value is None else int(value)


def is_runtime(function):
    return function.startswith("cuda")


def read_report(report_program, folder):
    """The counts of a run's report, as one flat dictionary; or {"unread": why}."""
    files = sorted(folder.glob("*.pb"))
    if not files:
        return {"processes": 0}
    try:
        done = subprocess.run([str(report_program), "--format", "json", str(folder)], capture_output=True, text=True,
                              timeout=120)
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"processes": len(files), "unread": f"uvmtrace-report: {error}"}
    if done.returncode != 0:
        return {"processes": len(files), "unread": f"uvmtrace-report: {done.stderr.strip()[-300:]}"}
    report = json.loads(done.stdout)
    return {"processes": len(files), **totals_of(report)}


def totals_of(report):
    capture = report.get("capture", {})
    accounts = {}  # quantity -> the row of the source that fed, else of the counters
    for row in capture.get("accounts", []):
        if row.get("source") or row["quantity"] not in accounts:
            accounts[row["quantity"]] = row
    found = {"quantities": {}}
    for name in ("host_to_device_bytes", "device_to_host_bytes", "gpu_fault_entries", "cpu_faults"):
        row = accounts.get(name, {})
        found["quantities"][name] = {"captured": number(row.get("captured")), "exact": number(row.get("exact")),
                                     "source": row.get("source", "")}
    found["lost"] = {f"{row.get('source', '')}: {row.get('reason', '')}": number(row.get("count", 0))
                     for row in capture.get("lost", [])}
    found["api_calls"] = number(report.get("totals", {}).get("api_calls"))
    found["trace_bytes"] = number(capture.get("trace_bytes"))
    found["clean_end"] = bool(capture.get("clean_end"))
    found["process_rows"] = [{"pid": row.get("pid"), "parent_pid": row.get("parent_pid"), "rank": row.get("rank"),
                              "api_calls": number(row.get("api_calls")), "clean_end": row.get("clean_end"),
                              "command": " ".join(row.get("command_line", []))[:200]}
                             for row in report.get("processes", [])]
    memory = {row["kind"]: number(row.get("peak_bytes")) for row in report.get("memory", [])}
    found["managed_peak_bytes"] = memory.get("managed", 0)
    return found


def read_audit(trace_to_json, folder):
    """Calls by door, and the audit, over all processes of a run; or {"unread": why}."""
    found = {"doors": {}, "functions": {}, "files": set(), "states": [], "audit_lost": 0}
    for path in sorted(folder.glob("*.pb")):
        try:
            done = subprocess.run([str(trace_to_json), str(path)], capture_output=True, timeout=120)
        except (OSError, subprocess.TimeoutExpired) as error:
            return {"unread": f"trace_to_json: {error}"}
        if done.returncode != 0:
            return {"unread": f"trace_to_json: {done.stderr.decode(errors='replace').strip()[-300:]}"}
        add_trace(found, json.loads(done.stdout))
    found["files"] = sorted(found["files"])
    return found


def add_trace(found, trace):
    state = None
    for chunk in trace.get("chunk", []):
        for calls in chunk.get("api_calls", []):
            rows = len(calls["start_delta_ns"])
            for door in calls.get("door", ["DOOR_UNKNOWN"] * rows):
                name = door.removeprefix("DOOR_").lower().replace("_", " ") if isinstance(door, str) else f"door {door}"
                found["doors"][name] = found["doors"].get(name, 0) + 1
        for row in chunk.get("audit_count", []):
            happened, seen = found["functions"].get(row["function"], (0, 0))
            found["functions"][row["function"]] = (happened + int(row.get("happened", 0)),
                                                   seen + int(row.get("seen", 0)))
        found["files"].update(row["path"] for row in chunk.get("mapping", []) if row.get("path", "").startswith("/"))
        for row in chunk.get("source_state", []):
            if row["name"] == "audit":
                state = f"{row.get('state', '').removeprefix('STATE_').lower()} {row.get('reason', '')}".strip()
        for row in chunk.get("loss", []):
            if row.get("source") in ("audit", "cupti"):
                found["audit_lost"] += int(row.get("count", 0))
    found["states"].append(state or "absent")


def coverage(functions, runtime):
    """(seen, happened) of the runtime's functions or the driver's. More seen than happened fills no other gap."""
    rows = [counts for function, counts in functions.items() if is_runtime(function) == runtime]
    return sum(min(happened, seen) for happened, seen in rows), sum(happened for happened, _ in rows)


def gaps(functions):
    """[(function, happened, seen)] of what was not all seen, the largest first."""
    missing = [(function, happened, seen) for function, (happened, seen) in functions.items() if seen < happened]
    return sorted(missing, key=lambda row: (row[2] - row[1], row[0]))


def beneath(functions):
    """Driver calls that hooks saw and CUPTI did not record: it leaves out those beneath a runtime call."""
    return sum(max(0, seen - happened) for function, (happened, seen) in functions.items() if not is_runtime(function))


def explained(audit):
    """Whether each gap is that of a runtime without doors: one is there, and what it ends in was seen."""
    seen, happened = coverage(audit["functions"], runtime=False)
    runtime_seen, runtime_happened = coverage(audit["functions"], runtime=True)
    missing = runtime_happened - runtime_seen
    return bool(audit.get("static_runtimes")) and seen == happened and beneath(audit["functions"]) >= missing


def static_runtimes(files):
    """Those of `files` that carry a CUDA runtime inside."""
    candidates = [path for path in files if not path.rsplit("/", 1)[-1].startswith(OWN_FILES)]
    if not candidates:
        return []
    try:
        done = subprocess.run(["grep", "-l", "-a", "-F", "-s", "-e", RUNTIME_MARK, "--", *candidates],
                              capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return sorted({path.rsplit("/", 1)[-1] for path in done.stdout.splitlines()})
