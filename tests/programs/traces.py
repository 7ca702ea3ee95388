"""A trace as the test programs' expectations see it: columns turned into rows, ids into names.

It is decoded by libprotobuf (trace_to_json), not by the analyzer: what an expectation says of a trace must not depend on
the code that explains traces.
"""

import json
import os
import subprocess


class Failure(Exception):
    """The host noticed, or the trace does not say what happened."""


def check(good, what):
    if not good:
        raise Failure(what)


class Trace:
    """A trace with its columns turned into rows again."""

    def __init__(self, args, path):
        check(os.path.exists(path), f"{path} does not exist")
        output = subprocess.run([args.trace_to_json, path], stdout=subprocess.PIPE, check=True).stdout
        self.chunks = json.loads(output).get("chunk", [])
        check(self.chunks, "the trace has no chunk")
        self.functions = {}
        self.strings = {}
        self.states = {}
        self.calls = []
        self.losses = []
        self.devices = []
        self.process = {}
        self.audit = {}
        self.cpu_faults = 0
        for chunk in self.chunks:
            self.process.update(chunk.get("process", {}))
            for string in chunk.get("string", []):
                self.strings[string["id"]] = string.get("value", "")
            for function in chunk.get("function", []):
                self.functions[function["id"]] = function["name"]
            for state in chunk.get("source_state", []):
                self.states[state["name"]] = (state.get("state", "").replace("STATE_", ""), state.get("reason", ""))
            # NVIDIA's CUPTI, if installed, cannot work on the stand-in driver.
            self.losses += [loss for loss in chunk.get("loss", []) if loss["source"] != "cupti"]
            self.devices += chunk.get("device", [])
            for count in chunk.get("audit_count", []):
                self.audit[count["function"]] = (int(count.get("happened", 0)), int(count.get("seen", 0)))
            self.cpu_faults += sum(len(columns["start_delta_ns"]) for columns in chunk.get("cpu_faults", []))
            for columns in chunk.get("api_calls", []):
                self.calls += self.rows(columns)
        # A chunk has one ring after another: what two threads did one after the other may stand the other way round.
        self.calls.sort(key=lambda call: call["start_ns"])
        self.clean = self.chunks[-1].get("end", {}).get("clean", False)

    DELTAS = {"start_delta_ns": "start_ns", "address_delta": "address", "other_address_delta": "other_address"}

    def rows(self, columns):
        count = len(columns["start_delta_ns"])
        rows = [{"driver_function": None, "stack": 0, "flags": 0, "stream": 0, "location": 0, "bytes": 0, "result": 0,
                 "memory_kind": "UNKNOWN"} for _ in range(count)]
        for name, values in columns.items():
            check(len(values) == count, f"column {name} has {len(values)} of {count} rows")
            total = 0
            for row, value in zip(rows, values):
                value = int(value) if isinstance(value, str) and value.lstrip("-").isdigit() else value
                if name in self.DELTAS:
                    total += value
                    row[self.DELTAS[name]] = total & (2**64 - 1)
                elif name in ("function", "driver_function"):
                    row[name] = self.functions.get(value)
                elif name == "door":
                    row[name] = value.replace("DOOR_", "")
                elif name == "memory_kind":
                    row[name] = value.replace("MEMORY_KIND_", "")
                else:
                    row[name] = value
        return rows

    def rows_of(self, field):
        """Rows of another kind of event, as dictionaries: differences summed up, ids and enum names as they stand."""
        rows = []
        for chunk in self.chunks:
            for columns in chunk.get(field, []):
                columns = {name: values for name, values in columns.items() if isinstance(values, list)}
                if not columns:
                    continue
                made = [{} for _ in range(max(len(values) for values in columns.values()))]
                for name, values in columns.items():
                    total = 0
                    for row, value in zip(made, values):
                        value = int(value) if isinstance(value, str) and value.lstrip("-").isdigit() else value
                        if "_delta" in name:
                            total += value
                            value = total
                        row[name.replace("_delta", "")] = value
                rows += made
        return rows

    def called(self, function):
        return [call for call in self.calls if call["function"] == function]


def names(trace):
    """In the order of their starts: threads are drained one after the other."""
    return [call["function"] for call in sorted(trace.calls, key=lambda call: call["start_ns"])]
