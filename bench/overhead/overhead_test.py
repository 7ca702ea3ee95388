#!/usr/bin/env python3
"""The arithmetic of overhead.py, and how it reads Nsight Systems, which no test machine has."""

import argparse
import pathlib
import sqlite3
import stat
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import overhead  # noqa: E402  (found by the line above)


def run(variant, round_number, wall_ns=None, bottom_half=None, **captured):
    result = overhead.Run("gpu_stream", variant, round_number, pathlib.Path("trace.pb"))
    if wall_ns is not None:
        result.measured = {"wall_ns": wall_ns, "process_cpu_ns": wall_ns, "bottom_half_cpu_ns": bottom_half,
                           "host_to_device_bytes": 100, "device_to_host_bytes": 0}
    result.captured = captured
    return result


class Arithmetic(unittest.TestCase):
    def test_a_ratio_is_to_the_same_round(self):
        off = {0: run("off", 0, 100), 1: run("off", 1, 200)}
        mine = [run("light", 1, 220), run("light", 0, 150), run("light", 2, 999)]  # no round 3 without tracing
        self.assertEqual(overhead.ratios(mine, off, "wall_ns", 1), [1.1, 1.5])
        self.assertEqual(overhead.ratios(mine, off, "wall_ns", 150), [1.1])
        self.assertEqual(overhead.ratios(mine, off, "bottom_half_cpu_ns", 1), [])

    def test_shares(self):
        self.assertEqual(overhead.share(0, 0), 1.0)
        self.assertEqual(overhead.share(30, 100), 0.3)
        self.assertIsNone(overhead.share(None, 100))
        self.assertIsNone(overhead.share(1, 0))  # bytes from nowhere
        self.assertEqual(overhead.spread([1.5, 1.0, 1.25]), "1.250 (1.000..1.500)")
        self.assertEqual(overhead.spread([1.0, 1.0001]), "1.000")
        self.assertEqual(overhead.spread([None]), "n/a")

    def test_causes(self):
        full = run("full-queue", 0, 1, causes={"a": 60, "b": 40})
        self.assertEqual(overhead.cause_difference(run("sampled", 0, 1, causes={"a": 65, "c": 35}), full), 0.4)
        self.assertIsNone(overhead.cause_difference(run("sampled", 0, 1), full))

    def test_missing_bytes_are_a_problem_unless_counted(self):
        def problems(**captured):
            return list(overhead.incomplete([run("full-queue", 0, 1, **captured)]))
        whole = dict(host_to_device_bytes=100, exact_host_to_device_bytes=100, device_to_host_bytes=0,
                     exact_device_to_host_bytes=0)
        self.assertEqual(problems(**whole), [])
        self.assertEqual(len(problems(**{**whole, "host_to_device_bytes": 99})), 1)
        self.assertEqual(problems(**{**whole, "host_to_device_bytes": 99}, lost=1), [])
        self.assertEqual(len(problems(**{**whole, "exact_host_to_device_bytes": 99, "host_to_device_bytes": 99})), 1)
        self.assertEqual(len(problems()), 2)

    def test_a_failure_is_told_once(self):
        failed = [run("light", 0), run("light", 1), run("full-queue", 0), run("off", 0, 1)]
        for each in failed[:3]:
            each.failed = "exit code 1"
        self.assertEqual(list(overhead.failures(failed)),
                         ["gpu_stream full-queue, gpu_stream light (3 runs): exit code 1"])

    def test_a_table_has_a_row_for_what_did_not_run(self):
        skipped = run("nsys", 0)
        skipped.skipped = "nsys was not found"
        arguments = argparse.Namespace(workloads=["gpu_stream"], variants=["off", "light", "nsys"], simulate=None)
        rows, _ = overhead.summarize(arguments, [run("off", 0, 1e8, 5e7), run("light", 0, 2e8, 1e8), skipped])
        self.assertEqual([row[1] for row in rows], ["off", "light", "nsys"])
        self.assertEqual(rows[1][3:7], ["200.0", "2.000", "2.000", "2.000"])
        self.assertEqual(rows[2][2:4], ["0", "nsys was not found"])
        for row in rows:
            self.assertEqual(len(row), len(overhead.HEADINGS))


class Nsys(unittest.TestCase):
    def read(self, statements, exit_code=0):
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            with sqlite3.connect(folder / "given.sqlite") as connection:
                for statement in statements:
                    connection.execute(statement)
            # Copies to what follows --output.
            nsys = folder / "nsys"
            nsys.write_text("#!/bin/sh\nwhile [ \"$1\" != --output ]; do shift; done\n"
                            f"cp {folder}/given.sqlite \"$2\"\necho no importer >&2\nexit {exit_code}\n")
            nsys.chmod(nsys.stat().st_mode | stat.S_IXUSR)
            bench = overhead.Bench(argparse.Namespace(build=folder, out=folder, nsys=str(nsys), nsys_library_path=None))
            result = run("nsys", 0, 1)
            result.trace = folder / "gpu_stream.nsys.0.nsys-rep"
            result.trace.write_bytes(b"x" * 50)
            bench.read_nsys(result)
            return result.captured

    COPIES = ("CREATE TABLE CUPTI_ACTIVITY_KIND_MEMCPY (copyKind INT, bytes INT)",
              "INSERT INTO CUPTI_ACTIVITY_KIND_MEMCPY VALUES (11, 1000), (11, 24), (12, 7), (1, 5000)",
              "CREATE TABLE CUDA_UM_CPU_PAGE_FAULT_EVENTS (start INT)",
              "INSERT INTO CUDA_UM_CPU_PAGE_FAULT_EVENTS VALUES (1), (2)")

    def test_counts_copies_of_unified_memory_alone(self):
        captured = self.read(self.COPIES)
        self.assertEqual((captured["host_to_device_bytes"], captured["device_to_host_bytes"]), (1024, 7))
        self.assertEqual((captured["events"], captured["trace_bytes"]), (5, 50))

    def test_takes_the_kinds_by_name_where_they_have_one(self):
        captured = self.read((*self.COPIES, "CREATE TABLE ENUM_CUDA_MEMCPY_OPER (id INT, name TEXT)",
                              "INSERT INTO ENUM_CUDA_MEMCPY_OPER VALUES (1, 'CUDA_MEMCPY_KIND_HTOD'), "
                              "(11, 'CUDA_MEMCPY_KIND_UVM_DTOH'), (12, 'CUDA_MEMCPY_KIND_UVM_HTOD')"))
        self.assertEqual((captured["host_to_device_bytes"], captured["device_to_host_bytes"]), (7, 1024))

    def test_nothing_recorded_is_nothing(self):
        captured = self.read(())
        self.assertEqual((captured["host_to_device_bytes"], captured["events"]), (0, 0))

    def test_says_why_it_cannot_be_read(self):
        self.assertIn("no importer", self.read(self.COPIES, exit_code=1)["unread"])


if __name__ == "__main__":
    unittest.main()
