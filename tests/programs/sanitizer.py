"""What a test program needs when libuvmtrace.so was built with a sanitizer, and which programs cannot be run so.

Only the library is instrumented: the programs misbehave on purpose. The sanitizer's runtime is preloaded in both runs, with
and without the library, so that what the runtime itself changes in a program is not taken for the library's doing. What it
finds goes to files in the run's folder, for stdout, stderr and the exit status are compared. CMake writes which sanitizer a
build has to tests/programs/sanitizer.json.
"""

import glob
import json
import os

# Everything that a program may do with its signals and its core dumps stays its own.
HANDS_OFF = ["handle_segv=0", "handle_sigbus=0", "handle_abort=0", "handle_sigill=0", "handle_sigfpe=0",
             "allow_user_segv_handler=1", "use_sigaltstack=0", "disable_coredump=0"]
OPTIONS = {
    # detect_leaks: programs that fork, crash and exit from handlers leak; the library itself never calls malloc.
    # verify_asan_link_order: the launcher puts the library before the runtime, which does no harm.
    "address": {"ASAN_OPTIONS": HANDS_OFF + ["detect_leaks=0", "verify_asan_link_order=0"],
                "UBSAN_OPTIONS": HANDS_OFF + ["print_stacktrace=1"]},
    # exitcode: a report is seen by its file. die_after_fork: programs fork while they have threads, and start more.
    # report_signal_unsafe, report_thread_leaks: the programs call exit from handlers and leave threads behind on purpose.
    "thread": {"TSAN_OPTIONS": HANDS_OFF + ["exitcode=0", "die_after_fork=0", "report_signal_unsafe=0",
                                            "report_thread_leaks=0",
                                            "suppressions=" + os.path.join(os.path.dirname(__file__), "tsan.supp")]},
}

# Cases that a sanitizer's runtime does not let run, each with its reason. They are skipped, and ctest says so.
ALLOCATOR = "the runtime's allocator is not made for a fork beside threads that allocate: the child may find it locked"
DEEPBIND = "the runtime ends a program that opens a library with RTLD_DEEPBIND"
BOTH = {
    **dict.fromkeys(("fork_busy", "fork_from_thread", "fork_while_starting"), ALLOCATOR),
    **dict.fromkeys(("deep_bind", "deep_bound", "python_doors", "audit", "no_audit"), DEEPBIND),
    "no_memory_at_the_start": "the runtime needs address space of its own after RLIMIT_AS",
    "no_memory_later": "the runtime needs address space of its own after RLIMIT_AS",
}
CANNOT = {
    "address": {},
    "thread": {
        **dict.fromkeys(("shell", "pipe"), "system() and popen() fail under TSan alone: their child shares its memory"),
        "exit_inside_a_call": "TSan delivers a signal at the next function that it interposes, and the program's loop calls none",
        "main_thread_ends_first": "TSan's own thread keeps a process whose main thread has ended, library or not",
        **dict.fromkeys(("late_writer", "writer_that_never_runs"),
                        "TSan's pthread_create waits until the thread has been set up, and so would the program"),
        "fork_beside_the_loader": "its loader does not run under TSan, library or not",
        "raw_clone": "TSan does not see that a process was made by the system call itself, and compares it with its parent",
    },
}


class Sanitizer:
    """The sanitizer of a build; false if it has none."""

    def __init__(self, build):
        self.kind = None
        path = os.path.join(build, "tests/programs/sanitizer.json")
        if os.path.exists(path):
            with open(path) as file:
                found = json.load(file)
            self.kind = found["kind"] or None
            self.runtime = os.path.realpath(found["runtime"])

    def __bool__(self):
        return self.kind is not None

    def cannot_run(self, name):
        """Why a case cannot be run, or None."""
        return {**BOTH, **CANNOT[self.kind]}.get(name) if self else None

    def preload(self):
        return [self.runtime] if self else []

    def environment(self, folder):
        if not self:
            return {}
        log = "log_path=" + os.path.join(folder, "sanitizer")
        return {name: ":".join(options + [log]) for name, options in OPTIONS[self.kind].items()}

    def findings(self, folder):
        text = ""
        for path in sorted(glob.glob(os.path.join(folder, "sanitizer.*"))):
            with open(path, errors="replace") as file:
                text += file.read()
        return text
