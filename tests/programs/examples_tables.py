"""Every row of every table in the documents has a counterpart that runs: examples/run-tables on the simulator, traced.

  examples_tables.py --build BUILD TABLE

The GPU is the blog's with 64 MiB of its memory, on a clock of its own. The run must end well, each published row must have a number of ours beside it, and the bytes that the tracer saw must be
the bytes that the example itself counted.
"""

import argparse
import pathlib
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
EXAMPLES = HERE.parent.parent / "examples"
sys.path.insert(0, str(EXAMPLES / "tables"))

import documents  # noqa: E402


def check(condition, message):
    if not condition:
        sys.exit(f"examples_tables: {message}")


def cells(page):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("|")]


def number(cell):
    return re.fullmatch(r"[0-9.e+-]+", cell) is not None and cell != "-"


def check_oversub(rows, page):
    for (m, k), modes in documents.BLOG.items():
        for mode in ("manual", "pinned", "uvm", "prefetch"):
            for index, phase in enumerate(("prefill", "first cycle", "second cycle", "total")):
                row = next((row for row in rows if row[:3] == [f"m {m}, k {k}", mode, phase]), None)
                check(row and number(row[4]), f"no number of ours for m {m}, k {k}, {mode}, {phase}")
                theirs = modes.get(mode, (None,) * 4)[index]
                check((theirs is None) == (row[3] == "-"), f"the document's number is not shown: {row}")
            # On the blog's GPU, simulated. The host's first touches, which slow the blog's pageable copies, are not in it.
            if phase == "total" and mode in ("uvm", "prefetch"):
                check(0.75 < float(row[6]) < 1.2, f"not the blog's time: {row}")
        check(f"oversub --mode uvm -m {m} -k {k} --allow-oversubscription" in page, "a row that is not run has no command")


def check_paged(rows, _):
    for title, _, _ in documents.LOG:
        for block in documents.BLOCKS:
            row = next((row for row in rows if row[:2] == [title, str(block)]), None)
            check(row and number(row[3]), f"no number of ours for {title}, block {block}")


def check_names(*names):
    def check_each(rows, _):
        for name in names:
            row = next((row for row in rows if row[0] == name and len(row) > 4 and any(map(number, row[1:]))), None)
            check(row, f"no row with numbers for {name}")
    return check_each


TABLES = {
    "oversub": check_oversub,
    "kv-fragmentation": check_names("preallocated", "malloc", "pool", "managed", "paged-1", "paged-2", "paged-4", "paged-8",
                                    "paged-16", "paged-32", "vmm"),
    "paged-attention": check_paged,
    "offload": check_names("resident", "zero-copy", "on-demand", "prefetch", "read-mostly", "in-place", "double-buffer"),
    "kv-remap": check_names("table", "table-ahead", "table-defrag", "vmm-inline", "vmm-background", "uvm-prefetch"),
    "serve": check_names("managed, faults", "managed, prefetch", "managed, never leaves", "pinned, in place",
                         "device, read again"),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", required=True)
    parser.add_argument("table", choices=TABLES)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([sys.executable, EXAMPLES / "run-tables", "--build", options.build, "--out", folder,
                               "--simulate", "a100-80g", "--traced", "--only", options.table], capture_output=True, text=True,
                              check=False)
        check(done.returncode == 0, f"run-tables ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        page = (pathlib.Path(folder) / f"{options.table}.md").read_text()
        TABLES[options.table](cells(page), page)
        traced = [row for row in cells(page) if any(cell.startswith("equal: ") for cell in row)]
        check(traced or options.table == "serve", "no traced run")  # partly filled pages have no exact ledger
        check("DIFFERENT" not in page, "the tracer and a ledger differ")
        for plot in pathlib.Path(folder).glob("*.svg"):
            check(plot.read_text().count("<") > 20, f"{plot.name} is empty")
    print(f"{options.table}: every published row has one of ours; {len(traced)} traced runs equal their ledgers")


if __name__ == "__main__":
    main()
