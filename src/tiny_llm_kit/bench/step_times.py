"""How long the parts of a run take on this machine, from a few steps of the engine, and how long whole runs will take.

It is arithmetic on three numbers: what a prompt token takes, and a decode step with one row and with all slots taken.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapreplace
from itertools import pairwise
from statistics import median
from types import ModuleType
from typing import Any

import mlx.core as mx

_PROMPT = 64
_MOST_PROMPT = 512
"""Prompt tokens of all rows together: with many slots, longer prompts would take longer to read than the steps to measure."""
_FEW = 8
_STEPS = 5
_ENOUGH = 2.0
"""Seconds of work before its pace says anything."""


@dataclass(frozen=True)
class StepTimes:
    """Seconds for a prompt token, for a decode step with one row, and for one with `slots` rows."""

    prompt_token: float
    one_row: float
    all_rows: float
    slots: int

    def scaled(self, pace: float) -> "StepTimes":
        """On a machine where everything takes `pace` times as long."""
        return StepTimes(self.prompt_token * pace, self.one_row * pace, self.all_rows * pace, self.slots)

    def continuous(self, prompt_tokens: int, answers: Sequence[int]) -> float:
        """Seconds to read this many tokens and write answers of these lengths, each beginning as soon as a slot is free.

        The steps at the end, when no request is left for the free slots, cost nearly as much as full ones, so they are counted.
        """
        ends = [0] * self.slots
        for tokens in answers:
            heapreplace(ends, ends[0] + tokens)
        steps = max(ends)
        if not steps:
            return prompt_tokens * self.prompt_token
        return prompt_tokens * self.prompt_token + steps * self._decode_step(sum(answers) / steps)

    def sequential(self, prompt_tokens: int, answers: Sequence[int]) -> float:
        """The same, one answer after another."""
        return prompt_tokens * self.prompt_token + sum(answers) * self.one_row

    def static(self, prompt_tokens: int, answers: Sequence[int]) -> float:
        """The same in groups, each of which takes as many steps as its longest answer."""
        groups = [answers[i : i + self.slots] for i in range(0, len(answers), self.slots)]
        return prompt_tokens * self.prompt_token + sum(max(group) * self._decode_step(len(group)) for group in groups)

    def _decode_step(self, rows: float) -> float:
        if self.slots == 1:
            return self.one_row
        return self.one_row + (self.all_rows - self.one_row) * (rows - 1) / (self.slots - 1)


def measure_step_times(answer: ModuleType, model: Any, slots: int, slow: bool = False) -> StepTimes:
    """Measures with an engine of the answer package, on prompts without a meaning.

    slow: a call takes so long (seconds, on the CPU runner) that there is time for only two: one token, and a few.
    """
    one = _call(model, 1)  # the very first call: weights are read and converted, and kernels compiled
    if slow:
        few = _call(model, _FEW)
        one = min(one, few)
        return StepTimes(few / _FEW, one, one + (few - one) * (slots - 1) / (_FEW - 1), slots)
    prefill, one_row = _prefill_and_step(answer, model, 1, _PROMPT)
    all_rows = (
        one_row if slots == 1 else _prefill_and_step(answer, model, slots, max(1, min(_PROMPT, _MOST_PROMPT // slots)))[1]
    )
    return StepTimes(prefill / _PROMPT, one_row, all_rows, slots)


def _call(model: Any, tokens: int) -> float:
    """Seconds of a call of the model."""
    started = time.perf_counter()
    mx.eval(model(mx.array([[1] * tokens]), logits_to_keep=1))
    return time.perf_counter() - started


def _prefill_and_step(answer: ModuleType, model: Any, rows: int, prompt: int) -> tuple[float, float]:
    """Seconds until all prompts are read, and of a decode step after that."""
    scheduler = answer.ContinuousBatchScheduler(model, rows, max_seq_len=prompt + _STEPS + 4, prefill_step=rows * prompt)
    for _ in range(rows):
        scheduler.submit(answer.Request([1] * prompt, _STEPS + 4))
    started = time.perf_counter()
    scheduler.step()
    scheduler.step()  # returns when the first tokens are there; what it launched itself runs on
    ends = [time.perf_counter()]
    for _ in range(_STEPS):
        scheduler.step()
        ends.append(time.perf_counter())
    return ends[0] - started, median(end - begin for begin, end in pairwise(ends))


class Forecast:
    """The seconds that a continuous run has left at most, as measured before it and corrected by how it goes."""

    def __init__(self, times: StepTimes, requests: Sequence[Any]) -> None:
        self.times = times
        self.requests = requests
        self.started = time.perf_counter()

    def __call__(self) -> float:
        open_requests = [request for request in self.requests if request.finish_reason is None]
        unread = sum(max(0, len(request.prompt) - request.offset) for request in open_requests)
        left = self.times.continuous(unread, [request.max_tokens - len(request.generated_tokens) for request in open_requests])
        return left * self.pace()

    def pace(self) -> float:
        """How many times as long as measured the work that is done has taken; 1 while there is too little of it."""
        read = sum(min(request.offset, len(request.prompt)) for request in self.requests)
        expected = self.times.continuous(read, [len(request.generated_tokens) for request in self.requests])
        return (time.perf_counter() - self.started) / expected if expected > _ENOUGH else 1.0
