"""Week 3 Day 4, task 6: alone or together. Whatever the traffic and however small the pool, an answer is the one that its
request gets alone, on models of every architecture; and every block comes back."""

import random
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from answer import answer
from day6_engines import drawn_alone
from oracles import mlx_lm_model
from paged_engines import assert_nothing_is_lost
from support import NEAR_TIE, CountingModel, NearTie, ToyModel, alone, expect_no_error, make_prompt, until_eos
from tiny_llm_kit.models.tiny_random import random_weights, tiny_config

EXAMPLES = 20
LONGEST = 28
"""Prompt and answer together. The last token is not computed on, so 27 are what the smallest pool must hold."""


@dataclass(frozen=True)
class Client:
    """Somebody who asks after `arrival` steps, may lose interest after `patience` more, and may be preempted at some steps."""

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
    requests: list[Any] = field(default_factory=list)
    ended: list[Any] = field(default_factory=list)

    def serve(self) -> Any:
        __tracebackhide__ = True
        self.counting = CountingModel(self.model)
        self.engine = answer.Engine(self.counting, **self.options)
        for client, tokens in zip(self.clients, self.expected, strict=True):
            eos = [] if client.eos_at is None else tokens[client.eos_at : client.eos_at + 1]
            options = {"priority": -1 if client.urgent else 0, "user": "ab"[client.seed % 2], "eos_token_ids": eos}
            self.requests.append(answer.PagedRequest(client.prompt, client.max_tokens, client.sampling, **options))
        now = 0
        while now <= max(client.arrival for client in self.clients) or self.engine.has_work:
            self._happen(now)
            self._step()
            now += 1
            assert now < 600, "there is still work after 600 steps: who never gets on?"
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
        assert calls or in_flight or ended or not had_work, "a step computed nothing, read nothing and ended nobody"
        self.ended += ended

    def _check(self) -> None:
        __tracebackhide__ = True
        expect_no_error(*self.requests)
        assert sorted(r.request_id for r in self.ended) == sorted(r.request_id for r in self.requests), "each is returned once"
        for client, request, expected in zip(self.clients, self.requests, self.expected, strict=True):
            tokens = until_eos(expected, request.eos_token_ids)
            said, whole = request.generated_tokens, request.finish_reason in ("stop", "length")
            assert whole or client.patience is not None, f"it ended with {request.finish_reason!r}, and nobody had to end it"
            assert said == (tokens if whole else tokens[: len(said)]), (
                f"{client}, preempted {request.preemptions} times, was told {said}, and alone it is told {tokens}"
            )
        assert_nothing_is_lost(self.engine)


@settings(max_examples=EXAMPLES)
@given(
    clients=st.lists(CLIENTS, min_size=1, max_size=7),
    block_size=st.sampled_from([1, 2, 4, 8]),
    spare_blocks=st.sampled_from([0, 0, 1, 2, 5, 40]),
    seats=st.integers(1, 5),
    spare_tokens=st.sampled_from([0, 1, 4, 30]),
    prefix_caching=st.booleans(),
    watermark=st.sampled_from([0, 0.01, 0.4]),
)
def test_task_6_together(
    toy: ToyModel,
    clients: list[Client],
    block_size: int,
    spare_blocks: int,
    seats: int,
    spare_tokens: int,
    prefix_caching: bool,
    watermark: float,
) -> None:
    options = {
        "num_blocks": -(-(LONGEST - 1) // block_size) + spare_blocks,
        "block_size": block_size,
        "max_num_seqs": seats,
        "max_num_batched_tokens": seats + spare_tokens,
        "prefix_caching": prefix_caching,
        "watermark": watermark,
    }
    answer.Engine(toy, **options).check_integrity()
    try:
        expected = [_expected(toy, client) for client in clients]
    except NearTie:
        reject()
    Traffic(toy, clients, expected, options).serve()


def _expected(toy: ToyModel, client: Client) -> list[int]:
    if client.temperature:
        request = answer.PagedRequest(client.prompt, client.max_tokens, client.sampling)
        return drawn_alone(toy, request, client.max_tokens)
    return alone(toy, client.prompt, client.max_tokens, penalty=client.penalty)


class Peer:
    """mlx-lm's model with the same weights, and what it says alone when it is drawn from by the answer's own samplers."""

    def __init__(self, architecture: str) -> None:
        config = tiny_config(architecture)
        weights = random_weights(config, seed=1)
        self.model = answer.Model(config, weights)
        self.oracle = mlx_lm_model(config, weights)

    def says(self, client: Client) -> list[int] | None:
        """None where the best two tokens are too close to tell which one is right."""
        sampler = answer.Sampler(client.sampling)
        tokens: list[int] = []
        while len(tokens) < client.max_tokens:
            known = [*client.prompt, *tokens]
            logits = self.oracle(mx.array([known]))[0, -1]
            second, first = np.sort(np.array(logits))[-2:]
            if first - second < NEAR_TIE:
                return None
            tokens.append(int(sampler(logits, known).item()))
        return tokens


def _random_client(chance: random.Random) -> Client:
    return Client(
        prefix=chance.randint(0, 1),
        shared=chance.randint(0, 16),
        own=chance.randint(1, 4),
        max_tokens=chance.randint(3, 8),
        seed=chance.randint(0, 2),
        temperature=chance.choice([0.0, 0.0, 3.0]),
        penalty=chance.choice([1.0, 1.0, 1.5]),
        arrival=chance.randint(0, 8),
        patience=chance.choice([None, None, None, 9]),
        preempted=frozenset(chance.randint(1, 20) for _ in range(2)),
    )


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("prefix_caching", [False, True])
def test_task_6_together_on_every_architecture(architecture: str, prefix_caching: bool) -> None:
    peer, chance = Peer(architecture), random.Random(architecture)
    options = {"num_blocks": 8, "block_size": 4, "max_num_seqs": 3, "max_num_batched_tokens": 9}
    answer.Engine(peer.model, **options).check_integrity()
    clients, expected = [], []
    while len(clients) < 5:
        client = _random_client(chance)
        if (tokens := peer.says(client)) is not None:
            clients.append(client)
            expected.append(tokens)
    engine = Traffic(peer.model, clients, expected, {**options, "prefix_caching": prefix_caching}).serve()
    assert engine.metrics.num_preemptions > 0, "this test means a run in which somebody is preempted"
