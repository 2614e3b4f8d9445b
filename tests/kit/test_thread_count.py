"""The number of BLAS threads: what is decided from which samples, and that the decision reaches OpenBLAS."""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import psutil
import pytest

from tiny_llm_kit.machine.cores import Budget, find_budgets
from tiny_llm_kit.machine.thread_count import QUIET_CHECKS, Sample, ThreadCount, free_cores

linux_cpu = pytest.mark.skipif(
    sys.platform != "linux" or mx.cuda.is_available(), reason="only MLX on Linux without a GPU needs another BLAS"
)


def most_threads() -> int:
    """What there is to choose from on this machine; the test that asks is skipped where that is nothing."""
    most = min(int(budget.cores) for budget in find_budgets())
    if most < 2:
        pytest.skip("one core leaves nothing to choose")
    return most


def counts(most: int, *free: float) -> list[int]:
    count = ThreadCount(most)
    return [count.update(cores) for cores in free]


def test_a_quiet_machine_gives_every_thread_at_the_first_check() -> None:
    assert ThreadCount(4).current == 1, "nobody knows yet who else is there"
    assert counts(4, 4, 4, 4) == [4, 4, 4]


def test_a_core_that_is_taken_costs_a_thread_at_once() -> None:
    assert counts(2, 2, 1, 1) == [2, 1, 1]
    assert counts(8, 8, 5.1, 2.2) == [8, 5, 2]


def test_one_thread_is_left_however_busy_the_others_are() -> None:
    assert counts(2, 2, 0.1, -3, 0) == [2, 1, 1, 1]


def test_little_use_by_others_is_tolerated() -> None:
    assert counts(2, 2, 1.75, 1.71, 2) == [2, 2, 2, 2]
    assert counts(2, 1.5) == [1], "half a core is not little"


def test_threads_come_back_after_quiet_checks_in_a_row() -> None:
    assert counts(2, 0, *[2] * QUIET_CHECKS) == [1, *[1] * (QUIET_CHECKS - 1), 2]


def test_a_load_that_comes_and_goes_keeps_the_threads_few() -> None:
    assert counts(2, 0, *[2, 1] * 5) == [1] * 11, "one quiet check between two busy ones is not quiet"


def test_no_more_threads_than_there_may_be() -> None:
    assert counts(2, 64, 64) == [2, 2]


def budget(cores: float) -> Budget:
    return Budget(cores, lambda: 0.0)


def test_own_work_leaves_cores_free_and_that_of_others_does_not() -> None:
    before = Sample(time=10, own=3, used=(100,))
    assert free_cores([budget(2)], before, Sample(12, 7, (104,))) == 2, "all that was used was used by this process"
    assert free_cores([budget(2)], before, Sample(12, 5, (104,))) == 1, "another program had a core for the 2 seconds"
    assert free_cores([budget(64)], before, Sample(12, 5, (126,))) == 52, "others had 12 cores of 64"


def test_the_tightest_budget_counts() -> None:
    """A container that may use 2 cores of 64, and in it somebody else who uses one; the machine is busy or it is not."""
    before = Sample(0, 0, (0, 0))
    budgets = [budget(64), budget(2)]
    assert free_cores(budgets, before, Sample(1, 0.5, (1.5, 1.5))) == 1
    assert free_cores(budgets, before, Sample(1, 0.5, (63.75, 0.5))) == 0.75


# Runs the whole in a Python of its own, with a library that only notes the number of threads it is told, where others use
# `others` of four cores, and checks that come quickly one after another.
START = """
import json, os, sys, threading, time
from tiny_llm_kit.machine import cores, thread_count
thread_count.CHECK_SECONDS = 0.01
others, told = 0.0, []
def used():
    return time.process_time() + others * time.monotonic()
budgets = [cores.Budget(4, used)]
thread_count.find_budgets = lambda: budgets
def wait(condition, what):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, f"no {what} within 30 s: told {told}"
        time.sleep(0.01)
"""


def run(code: str, before: str = "", **environment: str) -> Any:
    """What `code`, behind `before` and START, prints as JSON; it must end by itself, without a word on stderr."""
    source = Path(__file__).parents[2] / "src"
    inherited = {name: value for name, value in os.environ.items() if name not in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")}
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore::DeprecationWarning",
            "-c",
            before + START + code,
        ],  # Python 3.12 warns of forks with threads
        env={**inherited, "PYTHONPATH": str(source), **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return json.loads(done.stdout)


def test_the_library_is_told_when_the_load_changes_and_only_then() -> None:
    told = run("""
most = thread_count.follow_load(told.append, 4)
wait(lambda: told[-1] == 4, "four threads on a quiet machine")
others = 3.0
wait(lambda: told[-1] == 1, "one thread beside three busy cores")
time.sleep(0.1)
print(json.dumps([most, *told]))
""")
    assert told[:3] == [4, 1, 4], "the most, then one thread until the first check, then all"
    assert told[-1] == 1
    assert all(one != other for one, other in itertools.pairwise(told)), "told the same number again"


def test_each_check_looks_at_the_time_since_the_last_one() -> None:
    assert run("""
burst = 0.0
budgets[:] = [cores.Budget(4, lambda: used() + burst)]
thread_count.follow_load(told.append, 4)
wait(lambda: told[-1] == 4, "four threads")
burst = 1e6
wait(lambda: told[-1] == 1, "one thread in a burst of work")
wait(lambda: told[-1] == 4, "four threads when the burst is over")
print("true")
""")


def test_threads_are_no_more_than_the_library_has_or_the_container_pays_for() -> None:
    assert run("print(thread_count.follow_load(told.append, 3))") == 3
    assert run("budgets.append(cores.Budget(2.5, used))\nprint(thread_count.follow_load(told.append, 8))") == 2


@pytest.mark.parametrize(
    "change",
    [
        "budgets[:] = [cores.Budget(1, used)]",
        "budgets.append(cores.Budget(0.5, used))",
        "def find(): raise PermissionError('/proc/stat')\nthread_count.find_budgets = find",
        "def find(): raise ValueError('/proc/stat')\nthread_count.find_budgets = find",
        "def start(self): raise RuntimeError('cannot start new thread')\nthreading.Thread.start = start",
    ],
    ids=["one core", "half a core", "unreadable", "unintelligible", "no thread to be had"],
)
def test_with_nothing_to_choose_or_to_see_there_is_one_thread_and_no_watcher(change: str) -> None:
    most, told, threads = run(f"""
before = threading.active_count()
{change}
most = thread_count.follow_load(told.append, 4)
time.sleep(0.1)
print(json.dumps([most, told, threading.active_count() - before]))
""")
    assert (most, told, threads) == (1, [1], 0)


def test_a_check_that_fails_gives_one_thread_and_the_next_is_made() -> None:
    assert run("""
fails = False
def may_fail():
    if fails:
        raise OSError(24, "Too many open files")
    return used()
budgets[:] = [cores.Budget(4, may_fail)]
thread_count.follow_load(told.append, 4)
wait(lambda: told[-1] == 4, "four threads")
fails = True
wait(lambda: told[-1] == 1, "one thread while nothing can be read")
fails = False
wait(lambda: told[-1] == 4, "four threads when it can be read again")
print("true")
""")


def test_a_forked_child_follows_the_load_itself() -> None:
    """Also when the fork comes in the middle of a change: the lock that the change holds must not stay held in the child."""
    assert run("""
changing = threading.Event()
def set_threads(count):
    told.append(count)
    changing.set()
    time.sleep(0.2)
    changing.clear()
def change_load():
    global others
    others = 3.0 if told[-1] == 4 else 0.0
    start = len(told)
    return lambda: len(told) > start
thread_count.follow_load(set_threads, 4)
wait(lambda: told[-1] == 4, "four threads")
for _ in range(3):
    wait(change_load(), "change")
    assert changing.is_set(), "the fork should come in the middle of it"
    child = os.fork()
    if child == 0:
        wait(change_load(), "change in the child")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
wait(change_load(), "change in the parent after its forks")
print("true")
""")


OPENBLAS = """
import scipy_openblas32, ctypes
from tiny_llm_kit.machine import fast_blas
from tiny_llm_kit.machine.description import describe_machine
openblas = ctypes.CDLL(f"{scipy_openblas32.get_lib_dir()}/{scipy_openblas32.get_library(fullname=True)}")
count = openblas.scipy_openblas_get_num_threads
status = fast_blas.status()
"""
PIN = "import os\nos.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"


@pytest.fixture
def busy_cores() -> Iterator[None]:
    """A busy process for every core."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(psutil.cpu_count() or 1)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


@linux_cpu
@pytest.mark.usefixtures("busy_cores")
def test_openblas_has_one_thread_while_others_need_the_cores() -> None:
    most = most_threads()
    status, described, seen = run(f"""{OPENBLAS}
wait(lambda: count() == 1, "single thread")
time.sleep(1)
print(json.dumps([[status.threads, status.follows_load], describe_machine()["blas"], count()]))
""")
    assert status == [most, True], "the status tells the most"
    assert (described["threads"], described["follows_load"]) == tuple(status)
    assert seen == 1


@linux_cpu
def test_a_number_that_the_user_chose_stays() -> None:
    most_threads()
    code = OPENBLAS + "print(json.dumps([count(), status.threads, status.follows_load]))"
    assert run(code, OPENBLAS_NUM_THREADS="2") == [2, 2, False]


@linux_cpu
def test_an_affinity_to_one_core_is_one_thread() -> None:
    code = OPENBLAS + "print(json.dumps([count(), status.threads, status.follows_load]))"
    assert run(code, before=PIN) == [1, 1, False]
