"""Week 3 Day 4, task 6: alone or together. Whatever the traffic and however small the pool, an answer is the one that its
request gets alone, on models of every architecture; and every block comes back."""

import random

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from answer import answer
from oracles import mlx_lm_model
from paged_traffic import CLIENTS, LONGEST, Client, Traffic, expected_alone
from support import NEAR_TIE, NearTie, ToyModel
from tiny_llm_kit.models.tiny_random import random_weights, tiny_config

EXAMPLES = 20


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
        expected = [expected_alone(toy, client) for client in clients]
    except NearTie:
        reject()
    Traffic(toy, clients, expected, options).serve()


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
    assert engine.metrics.num_preemptions > 0, "this test means a run in which a request is preempted"
