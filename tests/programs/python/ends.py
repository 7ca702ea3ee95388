"""The ways in which an interpreter ends: ends.py HOW"""

import os
import signal
import subprocess
import sys
import threading
import time

from cuda_work import work


def keep_working():
    while True:
        work()


def main(how):
    work()
    if how == "os__exit":
        os._exit(4)
    elif how == "sys_exit":
        sys.exit("goodbye")
    elif how == "exception":
        raise ValueError("nobody catches this")
    elif how == "interrupt":
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)
    elif how == "daemon_threads":
        for _ in range(4):
            threading.Thread(target=keep_working, daemon=True).start()
        time.sleep(0.05)
    elif how == "os_fork":
        child = os.fork()
        if child == 0:
            work()
            os._exit(0)
        print(os.waitpid(child, 0)[1])
    elif how == "subprocess":
        print(subprocess.run([sys.executable, __file__, "os__exit"]).returncode)
    elif how == "finalizers":
        class Holder:
            def __del__(self):
                work()
        global holder
        holder = Holder()
        holder.itself = holder
    elif how == "traced":
        events = []
        sys.settrace(lambda frame, event, argument: events.append(event))
        work()
        sys.settrace(None)
        print(len(events) > 0)
    elif how == "deep":
        def recurse(depth):
            return work() if depth == 0 else recurse(depth - 1)
        recurse(500)
    else:
        assert how == "normal"


if __name__ == "__main__":
    main(sys.argv[1])
