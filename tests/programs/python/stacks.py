"""Calls from where a Python stack is hard to tell. Prints, for each allocation, the stack that Python itself sees."""

import json
import sys
import threading

from cuda_work import with_gil, without_gil, work


def stack():
    frame, frames = sys._getframe(1), []
    while frame is not None:
        name = getattr(frame.f_code, "co_qualname", frame.f_code.co_name)
        frames.append([name, frame.f_code.co_filename, frame.f_lineno])
        frame = frame.f_back
    return frames


expected = []


class Cache:
    def grow(self, runtime, size):
        expected.append((size, stack())); work(runtime, size)

    @property
    def wächst(self):
        return lambda runtime, size: self.grow(runtime, size)


def generate(runtime, size):
    yield
    Cache().wächst(runtime, size)
    yield


def main():
    size = 0
    for runtime in (without_gil, with_gil):
        size += 1000
        Cache().grow(runtime, size)
        size += 1000
        list(generate(runtime, size))
        size += 1000
        [Cache().grow(runtime, size) for _ in range(1)]
        size += 1000
        exec(compile("def 内存(call):\n\n  return call()\n内存(call)", "/tmp/𝔽ile.py", "exec"),
             {"call": lambda: Cache().grow(runtime, size)})
        size += 1000
        sorted([1], key=lambda _: Cache().grow(runtime, size))
        size += 1000
        thread = threading.Thread(target=Cache().grow, args=(runtime, size))
        thread.start()
        thread.join()
    with open("expected.json", "w") as file:
        json.dump(expected, file)


if __name__ == "__main__":
    main()
