"""What the bundled experiments promise alike: one command line, JSON, progress, named phases, and files that can be read.

  examples_alike.py --build BUILD

Each runs once, small, on the simulator and under the tracer, with its stderr on a terminal.
"""

import argparse
import json
import os
import pathlib
import pty
import subprocess
import sys
import tempfile
import threading

EXAMPLES = pathlib.Path(__file__).resolve().parent.parent.parent / "examples"
SHARED_OPTIONS = ("--help", "--json", "--repeat", "--seed", "--capacity", "--allow-oversubscription")
MOST_LINES = 400

# Name: (file that one reads first, whose experiment it says it is, a small run, the beginning of a phase)
EXPERIMENTS = {
    "oversub": ("oversub/oversub.cu", "Profile CUDA UVM Performance",
                ["-m", "4", "-k", "2", "--capacity", "8MiB", "--mode", "uvm"], "uvm: prefill"),
    "kv_fragmentation": ("kv_fragmentation/kv_fragmentation.cc", "Profile CUDA UVM Performance", ["--backend", "managed"],
                         "managed"),
    "paged_attention": ("paged_attention/paged_attention.cc", "Profile VLLM Performance",
                        ["--seq", "128", "--kv-heads", "1", "--memory", "managed", "--mode", "lookup", "--iterations", "1"],
                        "managed lookup block"),
    "offload": ("offload/offload.cc", "vLLM issue #17062", ["--layers", "2", "--variant", "on-demand"],
                "on-demand: forward pass"),
    "kv_remap": ("kv_remap/kv_remap.cc", "Hacker News",
                 ["--blocks", "20", "--slots", "8", "--window", "3", "--steps", "8", "--design", "uvm-prefetch"],
                 "uvm-prefetch: decoding"),
    "serve.py": ("serve/weights_in_place.py", "vLLM issue #17062",
                 ["--model", "toy", "--quick", "--requests", "4", "--layers", "2", "--hidden", "64", "--kv-bytes", "8MiB"],
                 "serve: attend"),
}


def check(condition, message):
    if not condition:
        sys.exit(f"examples_alike: {message}")


def check_files():
    """Short enough to read, and each opens with what it is for; a source may leave that to its header."""
    count = 0
    for path in sorted(EXAMPLES.rglob("*")):
        if path.suffix not in (".cc", ".cu", ".h", ".cpp", ".py") and path.name != "run-tables":
            continue
        lines = path.read_text().splitlines()
        check(len(lines) < MOST_LINES, f"{path} has {len(lines)} lines")
        first = lines[1] if lines[0].startswith("#!") else lines[0]
        opens = first.startswith(("//", '"""')) or path.with_suffix(".h").exists() and path.suffix != ".h"
        check(opens, f"{path} does not open with what it is for")
        count += 1
    check(count > 50, f"only {count} files were looked at")
    for name, (path, whose, _, _) in EXPERIMENTS.items():
        opening = "\n".join((EXAMPLES / path).read_text().splitlines()[:16])
        check(whose in opening, f"{path} does not open with whose experiment it is")


def run(command, environment):
    """(exit code, stdout, what a terminal on stderr shows)"""
    ours, theirs = pty.openpty()
    shown = []

    def read():
        try:
            while chunk := os.read(ours, 65536):
                shown.append(chunk)
        except OSError:  # nobody has the other end any more
            pass

    reader = threading.Thread(target=read)
    reader.start()
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=theirs, text=True) as process:
        os.close(theirs)
        output = process.stdout.read()
    reader.join()
    os.close(ours)
    return process.returncode, output, b"".join(shown).decode(errors="replace")


def check_experiment(build, folder, name):
    _, _, arguments, phase = EXPERIMENTS[name]
    command = [sys.executable, str(EXAMPLES / "serve" / name)] if name.endswith(".py") else [
        str(build / "bin" / "examples" / name)]
    environment = dict(os.environ, LD_LIBRARY_PATH=str(build / "lib" / "uvmtrace" / "sim"), UVMTRACE_SIM_PROFILE="tiny",
                       UVM_TOY_DECODER=str(build / "bin" / "examples" / "toy_decoder.so"))
    said = subprocess.run([*command, "--help"], env=environment, capture_output=True, text=True, check=True).stdout
    for option in SHARED_OPTIONS:
        check(option in said, f"{name} --help has no {option}")

    trace = folder / f"{name}.pb"
    result = folder / f"{name}.json"
    code, output, shown = run([*command, *arguments, "--repeat", "2", "--seed", "7", "--json", str(result)],
                              dict(environment, LD_PRELOAD=str(build / "lib" / "libuvmtrace.so"), UVMTRACE_OUT=str(trace),
                                   UVMTRACE_LOG="quiet"))
    check(code == 0, f"{name} ended with {code}: {output}{shown}")
    check("\r" in shown and "\033[K" in shown, f"{name} shows no progress on a terminal: {shown!r}")
    data = json.loads(result.read_text())
    check(data["setup"]["simulated"] is True, f"{name}: its JSON does not say that it was simulated")
    repetitions = {row["repetition"] for row in data["rows"]}
    check(repetitions == {0, 1}, f"{name}: --repeat 2 gave the repetitions {repetitions}")
    report = json.loads(subprocess.run([build / "bin" / "uvmtrace-report", "--format", "json", trace], capture_output=True,
                                       text=True, check=True).stdout)
    phases = [row["name"] for row in report.get("phases", []) if row["origin"] == "nvtx"]
    check(any(each.startswith(phase) for each in phases), f"{name}: no phase {phase} in its report, but {phases}")
    print(f"{name}: {len(data['rows'])} rows, {len(phases)} phases")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, required=True)
    options = parser.parse_args()
    check_files()
    with tempfile.TemporaryDirectory() as folder:
        for name in EXPERIMENTS:
            check_experiment(options.build.resolve(), pathlib.Path(folder), name)


if __name__ == "__main__":
    main()
