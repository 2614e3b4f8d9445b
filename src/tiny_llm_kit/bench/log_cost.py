"""What the event log costs in a decode step: an event for every row, the iteration's end, and the log's readers.

Both times are the shortest of many, which other programs disturb less.
"""

import time
from types import ModuleType
from typing import Any

from tiny_llm_kit.bench.report import Target
from tiny_llm_kit.bench.step_profile import decode_seconds

ROWS = 64
LENGTH = 16
"""Tokens that each row of the model's step holds: short ones, for which a step takes least."""
REPEATS = 1000


def log_seconds(answer: ModuleType, rows: int = ROWS, repeats: int = REPEATS) -> float:
    """Seconds that a step of this many rows spends on its log, with metrics and a recorder among the readers."""
    log = answer.EventLog(time.perf_counter)
    log.readers += _readers(answer)
    for row in range(rows):
        log.record(answer.EventKind.ARRIVED, row, tokens=LENGTH)
        log.record(answer.EventKind.ADMITTED, row)
        log.record(answer.EventKind.FIRST_TOKEN, row)
    log.close_step(rows, rows, 0, rows)
    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        for row in range(rows):
            log.record(answer.EventKind.TOKEN, row)
        log.close_step(rows, rows, 0, rows)
        best = min(best, time.perf_counter() - started)
    return best


def log_share(answer: ModuleType, model: Any, rows: int = ROWS) -> float:
    """Its share, 0 … 1, of a decode step of an answer package's model."""
    return log_seconds(answer, rows) / decode_seconds(answer, model, rows, LENGTH)


def targets(share: float) -> list[Target]:
    """A log only observes: its cost must not be noticeable."""
    return [Target(f"event log's share of a step, {ROWS} slots", share, 0.01, False, "{:.2%}".format)]


def _readers(answer: ModuleType) -> list[Any]:
    recorder = answer.RunRecorder()
    try:
        recorder.read(answer.BatchState(0.0, 0, ROWS, 0, 0))
    except NotImplementedError:  # a learner who has not reached the day of measuring yet
        return [answer.BatchingMetrics().update]
    return [answer.BatchingMetrics().update, recorder.read]
