"""One run of one program: its environment, a limit on its time, and what of its output may be compared.

What is compared is the whole of stdout and stderr and the exit status. As little as possible is masked before that, and
each mask has a reason that the table prints. Lines of uvmtrace's own on stderr ("uvmtrace: ...") are shown apart.
"""

import dataclasses
import json
import os
import pathlib
import re
import signal
import subprocess
import time

SKIPPED = 77


@dataclasses.dataclass(frozen=True)
class Mask:
    pattern: re.Pattern
    replacement: str
    reason: str


# glog's, absl's before it is set up (seconds since 1970), and that of Python's logging.
LOG_PREFIX = Mask(re.compile(r"\b[IWEF]\d{4} \d\d:\d\d:\d+\.\d+(?: +\d+)?|\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[,.]\d+"),
                  "<time>", "the time and the thread's id at the start of a log line")
TABLE_SECONDS = Mask(re.compile(r"(?<=[| ])\d+\.\d{4}(?= \|)"), "<seconds>", "the seconds that known_bytes prints")
FREE_MEMORY = Mask(re.compile(r"device memory [^|]*free|host memory [^|]*"), "<memory>",
                   "how much memory was free when known_bytes began")


@dataclasses.dataclass(frozen=True)
class Program:
    name: str
    command: tuple
    shows: str                          # what of CUDA it stands for
    environment: dict = dataclasses.field(default_factory=dict)
    masks: tuple = (LOG_PREFIX,)
    limit_seconds: float = 60
    rounds: int = 1000                  # at most so many pairs
    times_in_output: bool = False       # known_bytes prints its times in a table
    not_here: str = ""                  # why it is not to be started at all


@dataclasses.dataclass
class Outcome:
    """One process tree that has ended."""
    seconds: float = 0.0
    status: object = None               # exit status, -signal, or a text: it could not be started, it hung
    stdout: str = ""
    stderr: str = ""
    own_lines: list = dataclasses.field(default_factory=list)  # of stderr, by uvmtrace
    regions: dict = dataclasses.field(default_factory=dict)    # region -> seconds, by the program

    @property
    def skipped(self):
        return self.status == SKIPPED

    @property
    def hung(self):
        return isinstance(self.status, str) and self.status.startswith("not finished")

    def why(self):
        """The last line of stderr that says something."""
        lines = [line for line in self.stderr.splitlines() if line.strip()]
        return lines[-1].removeprefix("skipped: ")[:300] if lines else f"exit status {self.status}"


def mask(text, masks):
    for each in masks:
        text = each.pattern.sub(each.replacement, text)
    return text


def stop(process):
    """Ends the program and what it has started. It has a process group of its own."""
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, signal_number)
        except ProcessLookupError:
            return
        try:
            process.wait(timeout=3)
        except subprocess.TimeoutExpired:
            continue


def run(program, environment, scratch, limit_seconds=None):
    """Runs `program` once. `scratch` is an empty folder."""
    scratch = pathlib.Path(scratch)
    limit = limit_seconds or program.limit_seconds
    times = scratch / "seconds.json"
    environment = {**environment, **program.environment, "MATRIX_TIME": str(times)}
    outcome = Outcome()
    # Into files: a grandchild that outlives the program would keep a pipe open.
    with open(scratch / "stdout", "wb") as stdout, open(scratch / "stderr", "wb") as stderr:
        start = time.monotonic()
        try:
            process = subprocess.Popen([str(word) for word in program.command], env=environment, stdout=stdout,
                                       stderr=stderr, stdin=subprocess.DEVNULL, start_new_session=True)
        except OSError as error:
            outcome.status = f"cannot be started: {error}"
            return outcome
        try:
            outcome.status = process.wait(timeout=limit)
        except subprocess.TimeoutExpired:
            outcome.status = f"not finished after {limit:.0f} s"
            stop(process)
        outcome.seconds = time.monotonic() - start
    outcome.stdout = mask((scratch / "stdout").read_text(errors="replace"), program.masks)
    lines = (scratch / "stderr").read_text(errors="replace").splitlines(keepends=True)
    outcome.own_lines = [line.rstrip() for line in lines if line.startswith("uvmtrace: ")]
    outcome.stderr = mask("".join(line for line in lines if not line.startswith("uvmtrace: ")), program.masks)
    if program.times_in_output:
        cells = re.findall(TABLE_SECONDS.pattern, (scratch / "stdout").read_text(errors="replace"))
        outcome.regions = {"region": sum(float(cell) for cell in cells)} if cells else {}
    elif times.exists():
        outcome.regions = json.loads(times.read_text())
    return outcome


def differences(one, other):
    """What of two runs is not the same: names of "exit status", "stdout", "stderr"."""
    return [name for name, field in (("exit status", "status"), ("stdout", "stdout"), ("stderr", "stderr"))
            if getattr(one, field) != getattr(other, field)]
