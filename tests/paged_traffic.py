"""Random traffic for the paged engines: when requests come, are given up or preempted, and what must hold after each step."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from answer import answer
from day6_engines import drawn_alone
from paged_engines import assert_nothing_is_lost
from support import CountingModel, ToyModel, alone, expect_no_error, make_prompt, until_eos

LONGEST = 28
"""Prompt and answer together. The last token is not computed on, so 27 are what the smallest pool must hold."""


@dataclass(frozen=True)
class Client:
    """A client that asks after `arrival` steps, may lose interest after `patience` more, and may be preempted at some steps."""

    prefix: int
    shared: int
    own: int
    max_tokens: int
    seed: int = 0
    temperature: float = 0.0
    penalty: float = 1.0
    eos_at: int | None = None
    arrival: int = 0
    patience: int | None = None
    preempted: frozenset[int] = frozenset()
    urgent: bool = False

    @property
    def prompt(self) -> list[int]:
        return [*make_prompt(20, 90 + self.prefix)[: self.shared], *make_prompt(self.own, self.seed)]

    @property
    def sampling(self) -> Any:
        return answer.SamplingParams(self.temperature, repetition_penalty=self.penalty, seed=self.seed)


CLIENTS = st.builds(
    Client,
    prefix=st.integers(0, 1),
    shared=st.integers(0, 16),
    own=st.integers(1, 4),
    max_tokens=st.integers(1, 8),
    seed=st.integers(0, 2),
    temperature=st.sampled_from([0.0, 0.0, 3.0]),
    penalty=st.sampled_from([1.0, 1.0, 1.5]),
    eos_at=st.none() | st.integers(0, 7),
    arrival=st.just(0) | st.integers(0, 12),
    patience=st.none() | st.none() | st.integers(0, 12),
    preempted=st.frozensets(st.integers(1, 20), max_size=3),
    urgent=st.booleans(),
)


@dataclass
class Traffic:
    """Serves clients on an engine, and looks at it after every step."""

    model: Any
    clients: list[Client]
    expected: list[list[int]]
    options: dict[str, Any]
    build: Callable[..., Any] = field(default_factory=lambda: answer.Engine)
    requests: list[Any] = field(default_factory=list)
    ended: list[Any] = field(default_factory=list)

    def serve(self) -> Any:
        __tracebackhide__ = True
        self.counting = CountingModel(self.model)
        self.engine = self.build(self.counting, **self.options)
        for client, tokens in zip(self.clients, self.expected, strict=True):
            eos = [] if client.eos_at is None else tokens[client.eos_at : client.eos_at + 1]
            options = {"priority": -1 if client.urgent else 0, "user": "ab"[client.seed % 2], "eos_token_ids": eos}
            self.requests.append(answer.PagedRequest(client.prompt, client.max_tokens, client.sampling, **options))
        now = 0
        while now <= max(client.arrival for client in self.clients) or self.engine.has_work:
            self._happen(now)
            self._step()
            now += 1
            assert now < 600, "there is still work after 600 steps: which request never gets on?"
        self._check()
        return self.engine

    def _happen(self, now: int) -> None:
        for client, request in zip(self.clients, self.requests, strict=True):
            if client.arrival == now:
                self.engine.submit(request)
            if client.patience is not None and client.arrival + client.patience == now:
                self.engine.cancel(request)
            if now in client.preempted and request.request_id in self.engine.running:
                self.engine.preempt(request)
            self.engine.check_integrity()

    def _step(self) -> None:
        __tracebackhide__ = True
        in_flight, had_work = sum(request.in_flight for request in self.requests), self.engine.has_work
        self.counting.calls.clear()
        ended = self.engine.step()
        self.engine.check_integrity()
        calls, budget = self.counting.calls, self.options["max_num_batched_tokens"]
        assert len(calls) <= 1, f"a step called the model {len(calls)} times"
        assert not calls or calls[0][1] <= budget, f"a step gave the model {calls[0][1]} tokens, and its budget is {budget}"
        assert calls or in_flight or ended or not had_work, "a step computed nothing, read nothing and ended no request"
        self.ended += ended

    def _check(self) -> None:
        __tracebackhide__ = True
        expect_no_error(*self.requests)
        assert sorted(r.request_id for r in self.ended) == sorted(r.request_id for r in self.requests), "each is returned once"
        for client, request, expected in zip(self.clients, self.requests, self.expected, strict=True):
            tokens = until_eos(expected, request.eos_token_ids)
            said, whole = request.generated_tokens, request.finish_reason in ("stop", "length")
            assert whole or client.patience is not None, f"it ended with {request.finish_reason!r}, and nothing had to end it"
            assert said == (tokens if whole else tokens[: len(said)]), (
                f"{client}, preempted {request.preemptions} times, was told {said}, and alone it is told {tokens}"
            )
        assert_nothing_is_lost(self.engine)


def expected_alone(toy: ToyModel, client: Client) -> list[int]:
    """What a client is told when no other is there; NearTie where that is not clear."""
    if client.temperature:
        request = answer.PagedRequest(client.prompt, client.max_tokens, client.sampling)
        return drawn_alone(toy, request, client.max_tokens)
    return alone(toy, client.prompt, client.max_tokens, penalty=client.penalty)
