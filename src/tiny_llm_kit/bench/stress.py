"""Random schedules for an engine: arrivals, cancels, and accidents of every kind, with what must hold whatever happens.

A schedule is made from its number alone, so one that fails can be run again. What must hold: every request ends and is returned
once; an answer is token for token the one that its request gets alone, or the beginning of it where somebody cut it short; a
request ends with an error only if an accident explains it; every slot is free in the end.
"""

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import mlx.core as mx
import numpy as np

from tiny_llm_kit.bench.accidents import KINDS, AccidentalModel, ClientGone, Interruption, ModelFailure, alarm
from tiny_llm_kit.models.tiny_random import random_weights, tiny_config

MAX_SEQ_LEN = 40
LONGEST_ANSWER = 16
PROMPTS = 24
STEP_LIMIT = 600
CLEAR = 1e-3
"""A batch adds up in another order than a single row, so an expected token must lead by more than rounding can move it."""


ACCIDENTS = (ModelFailure, ClientGone, Interruption, FloatingPointError, RuntimeError)


class Broken(AssertionError):
    """Something that must hold does not; the message says what, and in which schedule."""


@dataclass(frozen=True)
class Case:
    """A prompt with a way to sample, and what is said to it when nobody else is there."""

    prompt: list[int]
    sampling: Any
    answer: list[int]


@dataclass
class Counts:
    """What has happened in all schedules."""

    schedules: int = 0
    requests: int = 0
    cancelled: int = 0
    errors: int = 0
    interruptions: int = 0
    steps: int = 0


@dataclass
class Stress:
    """Runs schedules on an answer package, with one tiny random model."""

    answer: ModuleType
    counts: Counts = field(default_factory=Counts)

    def __post_init__(self) -> None:
        config = tiny_config(num_layers=2, hidden_size=32, intermediate_size=64)
        self.model = self.answer.Model(config, random_weights(config, seed=1))
        generator = np.random.default_rng(0)
        cases = (self._case(generator) for _ in itertools.count())
        self.cases = list(itertools.islice((case for case in cases if case is not None), PROMPTS))

    def _case(self, generator: np.random.Generator) -> Case | None:
        """None where the best two tokens are too close to tell which one is right."""
        prompt = generator.integers(0, 256, int(generator.integers(1, 20))).tolist()
        greedy = generator.random() < 0.6
        sampling = self.answer.SamplingParams(
            temperature=0.0 if greedy else 1.5,
            repetition_penalty=float(generator.choice([1.0, 1.0, 1.3])),
            seed=int(generator.integers(0, 100)),
        )
        clear = True

        def draw(logits: mx.array, tokens: Sequence[int]) -> mx.array:
            nonlocal clear
            second, first = np.sort(np.array(logits))[-2:]
            clear = clear and bool(first - second > CLEAR)
            return self.answer.Sampler(sampling)(logits, tokens)

        answer = list(self.answer.generate_tokens(self.model, prompt, LONGEST_ANSWER, sampler=draw))
        return Case(prompt, sampling, answer) if clear else None

    def run(self, number: int) -> None:
        """Run one schedule.

        Raises:
            Broken: if something does not hold.
        """
        try:
            _Schedule(self, random.Random(number)).run()
        except Broken as broken:
            raise Broken(f"schedule {number}: {broken}") from broken.__cause__
        self.counts.schedules += 1


class _Schedule:
    def __init__(self, stress: Stress, chance: random.Random) -> None:
        self.answer = stress.answer
        self.cases = stress.cases
        self.counts = stress.counts
        self.chance = chance
        self.model = AccidentalModel(stress.model)
        self.calm = chance.random() < 0.3
        self.slots = chance.randint(1, 5)
        strategy = chance.choice(list(self.answer.STRATEGIES.values()))()
        self.engine = self.answer.ContinuousBatchScheduler(
            self.model, self.slots, max_seq_len=MAX_SEQ_LEN, prefill_step=chance.randint(1, 16), strategy=strategy
        )
        self.expected: dict[int, list[int]] = {}
        self.requests: list[Any] = []
        self.ended: list[Any] = []

    def run(self) -> None:
        arrivals = sorted(self.chance.randint(0, 12) for _ in range(self.chance.randint(1, 9)))
        for now in range(STEP_LIMIT):
            while arrivals and arrivals[0] <= now:
                arrivals.pop(0)
                self._submit()
            self._cancel_somebody(0.03)
            if not arrivals and not self.engine.has_work:
                break
            self._step()
        else:
            states = [(request.state, request.offset) for request in self.requests]
            raise Broken(f"no end after {STEP_LIMIT} steps: {states}")
        self._check_all()

    def _submit(self) -> Any:
        case = self.chance.choice(self.cases)
        wanted = self.chance.randint(1, LONGEST_ANSWER)
        answer, eos = case.answer[:wanted], []
        if self.chance.random() < 0.3:
            eos = [self.chance.choice(case.answer)]
            answer = list(itertools.takewhile(lambda token: token not in eos, answer))
        request = self.answer.Request(
            case.prompt, wanted, case.sampling, eos_token_ids=eos, on_update=None if self.calm else self._on_update
        )
        self.expected[request.request_id] = answer
        self.requests.append(self.engine.submit(request))
        return request

    def _on_update(self, request: Any, new_text: str) -> None:
        """A client that misbehaves now and then."""
        roll = self.chance.random()
        if roll < 0.01:
            raise ClientGone
        if roll < 0.015:
            raise Interruption("in a callback")
        if roll < 0.03:
            self.engine.cancel(request)
        elif roll < 0.04:
            self._cancel_somebody(1.0)
        elif roll < 0.05 and len(self.requests) < 20:
            self._submit()
        elif roll < 0.055:
            self.engine.step()  # refused, and so this client has failed

    def _cancel_somebody(self, probability: float) -> None:
        if self.requests and self.chance.random() < probability:
            try:
                self.engine.cancel(self.chance.choice(self.requests))
            except Interruption:  # its last on_update
                self.counts.interruptions += 1

    def _step(self) -> None:
        if not self.calm and self.chance.random() < 0.03:
            self.model.accident = self.chance.choice(KINDS)
        interrupted = not self.calm and self.chance.random() < 0.02
        self.counts.steps += 1
        try:
            with alarm(self.chance.uniform(1e-5, 3e-3) if interrupted else 0):
                self.ended += self.engine.step()
        except Interruption:
            self.counts.interruptions += 1
        except Exception as error:
            raise Broken(f"step raised {error!r}") from error
        try:
            self.engine.check_integrity()
        except RuntimeError as error:
            raise Broken(f"check_integrity: {error}") from error

    def _check_all(self) -> None:
        if sorted(r.request_id for r in self.ended) != sorted(r.request_id for r in self.requests):
            raise Broken(f"{len(self.requests)} requests were submitted, and step has returned {len(self.ended)}, or one twice")
        for request in self.requests:
            self._check(request)
        if self.engine.slots.slot_of or len(self.engine.slots.free) != self.slots:
            raise Broken(f"slots are lost: {self.engine.slots.slot_of}, free {self.engine.slots.free}")
        self.counts.requests += len(self.requests)

    def _check(self, request: Any) -> None:
        want, got = self.expected[request.request_id], request.generated_tokens
        complete = request.finish_reason in ("stop", "length")
        if got != (want if complete else want[: len(got)]):
            raise Broken(f"request {request.request_id} ({request.finish_reason}) was told {got}, and alone it is told {want}")
        if request.error is not None:
            self.counts.errors += 1
            if self.calm or not isinstance(request.error, ACCIDENTS):
                raise Broken(f"request {request.request_id} ended with {request.error!r}") from request.error
        elif not complete:
            self.counts.cancelled += 1
