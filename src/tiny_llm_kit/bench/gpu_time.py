"""How long a kernel takes on a GPU, from outside.

A fast kernel is over before Python has launched the next one, so a clock around a launch measures Python. Here the GPU is first
given other work, and while it is busy with that the launches are queued; then it runs them one right after the other. Two
queues, the second twice as long, differ by the launches alone. Launches that do not depend on each other may overlap: the time
is that of one in a stream of many. Nothing here knows what is launched.
"""

import time
from collections.abc import Callable
from statistics import median

import mlx.core as mx

Launches = Callable[[int], list[mx.array]]
"""Makes the results of this many launches, without computing them: MLX computes when it is asked to."""

_BUSY_BYTES = 2**28
_MOST_BUSY = 1024


def seconds_per_launch(launches: Launches, count: int, repeats: int) -> float:
    """The median over `repeats` of the GPU's time for one launch, in seconds, from queues of `count` and 2 · `count`.

    Where even a busy GPU gets to the launches before they are queued, the time is what it takes to launch: more than the
    kernel's, never less. RuntimeError if the launches are lost in the noise.
    """
    big = mx.zeros(_BUSY_BYTES // 4)
    mx.eval(big, launches(1))  # compiled before anything is timed
    busy = 1
    while busy < _MOST_BUSY and not _is_queued_in_time(launches, 2 * count, big, busy):
        busy *= 2
    differences = [_time(launches(2 * count), big, busy)[1] - _time(launches(count), big, busy)[1] for _ in range(repeats)]
    if (seconds := median(differences)) <= 0:
        raise RuntimeError(
            f"{2 * count} launches did not take longer than {count}: the machine is too noisy, or the work too small"
        )
    return seconds / count


def _is_queued_in_time(launches: Launches, count: int, big: mx.array, busy: int) -> bool:
    """Whether the GPU is still at its other work, with a margin, when the last launch is in the queue."""
    _, alone = _time([], big, busy)
    queued, _ = _time(launches(count), big, busy)
    return queued < 0.8 * alone


def _time(results: list[mx.array], big: mx.array, busy: int) -> tuple[float, float]:
    """Seconds until all is queued, and until all is done."""
    other_work = big
    for _ in range(busy):
        other_work = -other_work
    mx.synchronize()
    start = time.perf_counter()
    mx.async_eval(other_work)
    mx.async_eval(*results)
    queued = time.perf_counter() - start
    mx.synchronize()
    return queued, time.perf_counter() - start
