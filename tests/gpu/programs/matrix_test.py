#!/usr/bin/env python3
"""The runner of the matrix, on the simulator: what it must find, and what must not stop it.

  matrix_test.py BUILD
"""

import contextlib
import dataclasses
import io
import os
import pathlib
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import execution  # noqa: E402  (found by the line above)
import matrix  # noqa: E402
import table  # noqa: E402
import traces  # noqa: E402
from execution import Program  # noqa: E402

BUILD = pathlib.Path(sys.argv.pop() if len(sys.argv) > 1 else "build/default").resolve()
MASKS = (execution.TABLE_SECONDS, execution.FREE_MEMORY)


def python(code, name="program", **more):
    return Program(name, (sys.executable, "-c", code), "a test", **more)


def known_bytes(name="known_bytes", **more):
    return Program(name, (BUILD / "bin" / "examples" / "known_bytes", "--bytes", "8MiB"), "a test", masks=MASKS,
                   times_in_output=True, **more)


class Runs(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.out = pathlib.Path(folder.name)

    def run_matrix(self, *programs, rounds=1, budget=100.0):
        arguments = matrix.parse(["--build", str(BUILD), "--out", str(self.out), "--simulate", "tiny",
                                  "--rounds", str(rounds), "--budget", str(budget)])
        with contextlib.redirect_stderr(io.StringIO()):
            rows = matrix.Matrix(arguments, programs).run()
        return rows, list(matrix.problems(rows, simulated=True))

    def told(self):
        return (self.out / "problems.txt").read_text()

    def test_a_program_of_managed_memory_is_the_same_and_accounted_for(self):
        (row,), problems = self.run_matrix(known_bytes(), rounds=2)
        self.assertEqual((row["state"], row["pairs"], row["differences"], problems), ("ran", 2, {}, []), self.told())
        for direction in ("host_to_device_bytes", "device_to_host_bytes"):
            counts = row["report"]["quantities"][direction]
            self.assertEqual((counts["captured"], counts["exact"]), (8 << 20, 8 << 20))
        self.assertEqual(row["report"]["processes"], 1)
        self.assertEqual(sum(row["audit"]["doors"].values()), row["report"]["api_calls"])
        self.assertEqual((len(row["ratios"]), len(row["region_ratios"]["region"])), (2, 2))
        self.assertEqual(set(row["masked"]), {mask.reason for mask in MASKS})
        self.assertEqual(row["own_lines"], [])
        self.assertIn("8,388,608 (100 %)", (self.out / "programs.md").read_text())

    def test_an_output_that_tracing_changes_is_found(self):
        for where, code in (("stdout", "import os; print(os.environ.get('LD_PRELOAD'))"),
                            ("stderr", "import os, sys; sys.stderr.write(str(os.environ.get('LD_PRELOAD')))"),
                            ("exit status", "import os, sys; sys.exit(3 if 'LD_PRELOAD' in os.environ else 0)"),
                            ("exit status", "import os; os.kill('LD_PRELOAD' in os.environ and os.getpid(), 11 * "
                                            "('LD_PRELOAD' in os.environ))")):
            with self.subTest(code):
                (row,), problems = self.run_matrix(python(code), rounds=2)
                self.assertEqual((row["state"], row["differences"]), ("ran", {where: 2}))
                self.assertIn(f"program: {where} differs", problems)
                self.assertIn(f"{where} differs", self.told())
                self.assertIn("**NO**", (self.out / "programs.md").read_text())

    def test_what_varies_by_itself_is_no_difference_and_is_told(self):
        (row,), problems = self.run_matrix(python("import time; print(time.time_ns())"), rounds=2)
        self.assertEqual((row["differences"], row["varies"], problems), ({}, ["stdout"], []))
        self.assertIn("stdout of the untraced runs differ", table.same_result(row))

    def test_a_program_that_hangs_is_ended_with_its_children(self):
        code = ("import os, pathlib, subprocess, sys; child = subprocess.Popen(['sleep', '300']);"
                f"pathlib.Path({str(self.out)!r}, f'child.{{os.getpid()}}').write_text(str(child.pid)); child.wait()")
        start = time.monotonic()
        rows, problems = self.run_matrix(python(code, "hangs", limit_seconds=4.0), known_bytes())
        self.assertLess(time.monotonic() - start, 60)
        self.assertEqual([row["state"] for row in rows], ["hangs", "ran"])
        self.assertIn("hangs hangs: untraced: not finished after 4 s", problems)
        children = [int(path.read_text()) for path in self.out.glob("child.*")]
        self.assertEqual(len(children), 3)  # with the audit, untraced, traced
        time.sleep(0.1)
        self.assertEqual([pid for pid in children if running(pid)], [])

    def test_a_program_that_hangs_only_when_traced_is_a_difference(self):
        (row,), problems = self.run_matrix(
            python("import os, time; time.sleep(100 * ('LD_PRELOAD' in os.environ))", limit_seconds=4.0), rounds=3)
        self.assertEqual((row["pairs"], row["differences"]), (1, {"exit status": 1}))
        self.assertIn("not finished after 4 s", self.told())

    def test_what_is_not_there_is_a_row_with_the_reason(self):
        missing = Program("missing", ("/nonexistent/program",), "a test")
        skips = python("import sys; print('skipped: no torch', file=sys.stderr); sys.exit(77)", "skips")
        fails = python("raise SystemExit('it is broken')", "fails")
        rows, problems = self.run_matrix(missing, skips, fails, python("", "not here", not_here="no GPU"))
        self.assertEqual([row["state"] for row in rows], ["fails", "skipped", "fails", "skipped"])
        self.assertIn("cannot be started", rows[0]["why"])
        self.assertEqual((rows[1]["why"], rows[3]["why"]), ("no torch", "no GPU"))
        self.assertIn("it is broken", rows[2]["why"])
        self.assertEqual(len(problems), 2)

    def test_a_skip_that_only_tracing_brings_about_is_a_difference(self):
        (row,), _ = self.run_matrix(python("import os, sys; sys.exit(77 * ('LD_PRELOAD' in os.environ))"))
        self.assertEqual((row["state"], row["differences"]), ("ran", {"exit status": 1}))

    def test_the_budget_leaves_programs_out_and_says_so(self):
        rows, problems = self.run_matrix(known_bytes(), budget=1.0)
        self.assertEqual((rows[0]["state"], rows[0]["why"]), ("left out", "the time was over"))
        self.assertEqual(len(problems), 1)
        self.assertIn("left out: the time was over", (self.out / "programs.md").read_text())

    def test_regions_come_from_the_program(self):
        folder = str(pathlib.Path(matrix.__file__).parent)
        code = (f"import sys; sys.path.insert(0, {folder!r}); import workload\n"
                "with workload.timed(): pass\n"
                "workload.record_seconds('import', 0.5)\nworkload.show('data', bytes(range(9)))")
        (row,), problems = self.run_matrix(python(code))
        self.assertEqual((problems, set(row["untraced_regions"])), ([], {"region", "import"}))
        self.assertEqual(row["region_ratios"]["import"], [1.0])
        self.assertRegex(row["stdout"], "^data: sha256 [0-9a-f]{64}\n$")
        self.assertIn("| `program` | import | 0.500 | 1.000 |", (self.out / "programs.md").read_text())

    def test_a_call_that_no_door_saw_is_a_gap(self):
        fake = BUILD / "tests" / "programs" / "fake"
        host = Program("gap", (BUILD / "tests" / "programs" / "bin" / "doors_host", "audit"), "a test",
                       environment={"LD_LIBRARY_PATH": f"{fake}:{fake / '13'}", "CUDA_HOME": str(fake / "cuda_home")})
        (row,), problems = self.run_matrix(host)
        self.assertEqual(row["state"], "ran", self.told())
        self.assertEqual(row["audit"]["functions"]["cuMemsetD8_v2"], (7, 5), row["audit"])
        self.assertEqual(problems, ["gap: a gap in the audit is not explained"])
        self.assertIn("`cuMemsetD8_v2` 5 of 7. **Not explained.**", (self.out / "programs.md").read_text())


def running(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


class Audit(unittest.TestCase):
    def row(self, static_runtimes=("libcublas.so.13",), **functions):
        row = dataclasses.asdict(matrix.Row("name", "shows", {}, state="ran"))
        row["audit"] = {"functions": functions, "static_runtimes": static_runtimes, "states": ["active"]}
        row["untraced_seconds"], row["ratios"] = [1.0], [1.0]
        return row

    def test_a_runtime_gap_is_explained_by_its_driver_calls_alone(self):
        static = {"cudaMalloc": (5, 2), "cuMemAlloc_v2": (5, 5), "cuMemFree_v2": (1, 4)}
        self.assertEqual(traces.beneath(static), 3)
        self.assertEqual(traces.coverage(static, runtime=True), (2, 5))
        self.assertEqual(traces.coverage(static, runtime=False), (6, 6))  # what was seen besides fills no gap
        self.assertEqual(list(matrix.problems([self.row(**static)], simulated=False)), [])
        page = table.page([self.row(**static)], ["here"], 3)
        self.assertIn("`cudaMalloc` 2 of 5. Explained: a CUDA runtime of its own, whose calls have no door, is in "
                      "`libcublas.so.13`; no driver call is missing, and 3 were seen beneath runtime calls.", page)
        for row in (self.row(cudaMalloc=(5, 2), cuMemAlloc_v2=(9, 8), cuMemFree_v2=(0, 5)), self.row(cudaMalloc=(5, 2)),
                    self.row(cudaMalloc=(5, 2), cuMemAlloc_v2=(0, 2)), self.row(static_runtimes=(), **static)):
            self.assertIn("**Not explained.**", table.page([row], ["here"], 3))
            self.assertEqual(len(list(matrix.problems([row], simulated=False))), 1)

    def test_no_audit_is_not_a_full_one(self):
        row = self.row()
        self.assertEqual(len(list(matrix.problems([row], simulated=False))), 1)
        self.assertIn("`name`: not audited", table.page([row], ["here"], 3))

    def test_the_largest_gap_comes_first(self):
        self.assertEqual(traces.gaps({"cuA": (9, 8), "cuB": (9, 1), "cuC": (2, 2)}), [("cuB", 9, 1), ("cuA", 9, 8)])

    def test_the_files_of_a_static_runtime_are_found(self):
        static = str(BUILD / "bin" / "examples" / "known_bytes_static")
        shared = str(BUILD / "bin" / "examples" / "known_bytes")
        self.assertEqual(traces.static_runtimes([shared, static, "/nonexistent"]), ["known_bytes_static"])

    def test_columns_that_are_absent(self):
        found = {"doors": {}, "functions": {}, "files": set(), "states": [], "audit_lost": 0}
        traces.add_trace(found, {"chunk": [{"api_calls": [{"start_delta_ns": ["1", "2"]}]}, {
            "audit_count": [{"function": "cuA", "happened": "3"}], "loss": [{"source": "audit", "count": "2"}]}]})
        self.assertEqual((found["doors"], found["functions"], found["audit_lost"], found["states"]),
                         ({"unknown": 2}, {"cuA": (3, 0)}, 2, ["absent"]))


class Pages(unittest.TestCase):
    def rows(self, *states):
        return [dataclasses.asdict(matrix.Row(name, "shows", {}, state=state, why=state)) for name, state in states]

    def test_a_later_run_fills_what_the_earlier_could_not_run(self):
        merged = table.merge(self.rows(("a", "skipped"), ("b", "fails")), self.rows(("a", "fails"), ("b", "skipped")))
        self.assertEqual([(row["name"], row["state"]) for row in merged], [("a", "fails"), ("b", "fails")])

    def test_log_prefixes_are_masked_and_nothing_else(self):
        for line, masked in (("[rank0]:[W1121 09:05:05.123456789 Group.cpp:47] at 0x7f00",
                              "[rank0]:[<time> Group.cpp:47] at 0x7f00"),
                             ("E0000 00:00:1763715905.123456   12345 dnn.cc:9] 09:05 of 12345",
                              "<time> dnn.cc:9] 09:05 of 12345"),
                             ("WARNING:2026-11-21 09:05:05,123:jax:872: 2026-11-21",
                              "WARNING:<time>:jax:872: 2026-11-21")):
            self.assertEqual(execution.mask(line, (execution.LOG_PREFIX,)), masked)

    def test_rounds(self):
        self.assertEqual(matrix.rounds_of("2,a=9"), {"": 2, "a": 9})
        self.assertEqual(matrix.rounds_of("a=9"), {"": 3, "a": 9})
        with self.assertRaises(Exception):
            matrix.rounds_of("0")

    def test_each_program_of_the_matrix_is_there(self):
        for program in matrix.programs(BUILD, sys.executable, None):
            self.assertTrue(os.path.exists(program.command[1] if program.command[0] == sys.executable else
                                           program.command[0]), program.name)


if __name__ == "__main__":
    unittest.main()
