"""multiprocessing in each of its ways: workers.py fork|spawn|forkserver"""

import multiprocessing
import sys

from cuda_work import work


def task(number):
    work()
    return number


if __name__ == "__main__":
    if sys.argv[1] != "fork":
        work()  # as CUDA demands, a parent that forks does so before its first call
    with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
        print(sum(pool.map(task, range(8), chunksize=4)))
        pool.close()
        pool.join()
    work()
