"""One random schedule for an engine, and what must hold for it; see `stress`."""

import itertools
import random
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from tiny_llm_kit.bench.accidents import KINDS, AccidentalModel, ClientGone, Interruption, ModelFailure, alarm

MAX_SEQ_LEN = 40
LONGEST_PROMPT = 19
LONGEST_ANSWER = 16
STEP_LIMIT = 1000

ACCIDENTS = (ModelFailure, ClientGone, Interruption, RuntimeError)


class Broken(AssertionError):
    """Something that must hold does not; the message says what, and in which schedule."""


@dataclass(frozen=True)
class Case:
    """A prompt with a way to sample, and its answer when there is no other request."""

    prompt: list[int]
    sampling: Any
    answer: list[int]


@dataclass(frozen=True)
class Subject:
    """A tiny random model, and what it says."""

    model: Any
    cases: list[Case]


@dataclass
class Counts:
    """What has happened in all schedules."""

    schedules: int = 0
    requests: int = 0
    cancelled: int = 0
    errors: int = 0
    interruptions: int = 0
    steps: int = 0
    preemptions: int = 0
    shared_tokens: int = 0
    drafted: int = 0
    accepted: int = 0


class Schedule:
    """One schedule, on the engine of slots; another engine overrides what differs."""

    def __init__(
        self, answer: ModuleType, subject: Subject, counts: Counts, chance: random.Random, kv_bits: int | None = None
    ) -> None:
        self.answer = answer
        self.kv_bits = kv_bits
        self.cases = subject.cases
        self.counts = counts
        self.chance = chance
        self.model = AccidentalModel(subject.model)
        self.calm = chance.random() < 0.3
        self.engine: Any = self.make_engine()
        self.expected: dict[int, list[int]] = {}
        self.requests: list[Any] = []
        self.ended: list[Any] = []

    def run(self) -> None:
        """Serve it to its end, and check everything."""
        arrivals = sorted(self.chance.randint(0, 12) for _ in range(self.chance.randint(1, 9)))
        for now in range(STEP_LIMIT):
            while arrivals and arrivals[0] <= now:
                arrivals.pop(0)
                self.submit()
            self._cancel_somebody(0.03)
            self.disturb()
            if not arrivals and not self.engine.has_work:
                break
            self._step()
        else:
            states = [(request.state, request.offset) for request in self.requests]
            raise Broken(f"no end after {STEP_LIMIT} steps: {states}")
        self._check_all()

    def submit(self) -> None:
        """A request with one of the cases' prompts, for some of the tokens that it gets alone."""
        case = self.chance.choice(self.cases)
        wanted = self.chance.randint(1, LONGEST_ANSWER)
        answer, eos = case.answer[:wanted], []
        if self.chance.random() < 0.3:
            eos = [self.chance.choice(case.answer)]
            answer = list(itertools.takewhile(lambda token: token not in eos, answer))
        on_update = None if self.calm else self._on_update
        request = self.make_request(case.prompt, wanted, case.sampling, eos_token_ids=eos, on_update=on_update)
        self.expected[request.request_id] = answer
        self.requests.append(self.engine.submit(request))

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
            self.submit()
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
            self.check_step()
        except Broken:
            raise
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
        self.check_room()
        self.counts.requests += len(self.requests)

    def _check(self, request: Any) -> None:
        want, got = self.expected[request.request_id], request.generated_tokens
        complete = request.finish_reason in ("stop", "length")
        if got != (want if complete else want[: len(got)]):
            raise Broken(f"request {request.request_id} ({request.finish_reason}) was told {got}, and alone it is told {want}")
        if request.error is not None:
            self.counts.errors += 1
            if not self.explains(request):
                raise Broken(f"request {request.request_id} ended with {request.error!r}") from request.error
        elif not complete:
            self.counts.cancelled += 1

    def make_engine(self) -> Any:
        """An engine of random size, for `self.model`."""
        self.slots = self.chance.randint(1, 5)
        strategy = self.chance.choice(list(self.answer.STRATEGIES.values()))()
        return self.answer.ContinuousBatchScheduler(
            self.model, self.slots, max_seq_len=MAX_SEQ_LEN, prefill_step=self.chance.randint(1, 16), strategy=strategy
        )

    def make_request(self, *args: Any, **options: Any) -> Any:
        """A request of the engine's kind."""
        return self.answer.Request(*args, **options)

    def disturb(self) -> None:
        """What else may happen between two steps."""

    def check_step(self) -> None:
        """What must hold of a step that nothing interrupted."""

    def check_room(self) -> None:
        """In the end everything is free."""
        if self.engine.slots.slot_of or len(self.engine.slots.free) != self.slots:
            raise Broken(f"slots are lost: {self.engine.slots.slot_of}, free {self.engine.slots.free}")

    def explains(self, request: Any) -> bool:
        """Whether an accident explains the request's error. An engine may take any kind to say that logits are NaN."""
        return not self.calm and (isinstance(request.error, ACCIDENTS) or "NaN" in str(request.error))
