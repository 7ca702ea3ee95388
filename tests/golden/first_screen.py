#!/usr/bin/env python3
"""The first 24 lines of every recorded trace's report are enough to act on.

  first_screen.py UVMTRACE_REPORT FOLDER

Of each trace: the first screen ends within 24 lines, at the width of a pipe and of a terminal; within them stand the
headline, and of the first finding its place and the figures that its evidence begins with.
"""
import glob, json, os, re, subprocess, sys

LINES = 24


def words(text):
    return re.sub(r"\s+", " ", text)


def first_sentence(text):
    end = re.search(r"\. (?=[A-Z])", text)
    return text[:end.start() + 1] if end else text


def check(report, trace):
    def run(*options):
        return subprocess.run([report, "--sysroot", "/nonexistent", *options, trace], check=True, capture_output=True,
                              text=True).stdout
    whole = run()
    screen = run("--section", "summary")
    data = json.loads(run("--format", "json", "--top", "0"))
    problems = []
    lines = screen.rstrip("\n").split("\n")
    if len(lines) > LINES: problems.append(f"the first screen has {len(lines)} lines")
    if not data.get("out_of_memory") and not whole.startswith(screen.rstrip("\n")):
        problems.append("the report does not begin with the first screen")
    shown = words("\n".join(lines[:LINES]))
    if data.get("headline") and words(data["headline"]) not in shown: problems.append("the headline is not in it")
    for part in ("WHAT TO CHANGE", "TRACING"):
        if part not in shown: problems.append(f"{part} is not in it")
    if data.get("findings"):
        first = data["findings"][0]
        if words(first["title"]) not in shown: problems.append(f"the first finding is not in it: {first['title']}")
        if first.get("place") and words(first["place"]) not in shown:
            problems.append(f"its place is not in it: {first['place']}")
        if words(first_sentence(first["sentence"])) not in shown:
            problems.append(f"its evidence is not in it: {first_sentence(first['sentence'])}")
        if first.get("change") and words(first["change"]).split(". ")[0] not in shown:
            problems.append(f"its change is not in it: {first['change']}")
    return problems


def main():
    report, folder = sys.argv[1:]
    traces = sorted(glob.glob(os.path.join(folder, "*.pb")))
    failed = 0
    for trace in traces:
        problems = check(report, trace)
        failed += bool(problems)
        for problem in problems: print(f"FAILED {os.path.basename(trace)}: {problem}")
        if not problems: print(f"ok {os.path.basename(trace)}")
    if not traces: print("FAILED: there is no trace")
    return 1 if failed or not traces else 0


if __name__ == "__main__": sys.exit(main())
