"""Week 3 Day 5, task 5: alone, together, and with drafts. Whatever the traffic, however small the pool, whatever is guessed:
an answer is the one that its request gets alone, and every block comes back."""

import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from answer import answer
from paged_traffic import CLIENTS, LONGEST, Client, Traffic, expected_alone
from speculating import Knowing
from support import NearTie, ToyModel

EXAMPLES = 25


class Erratic(Knowing):
    """Some drafts of each call are right, some wrong; how many depends on how far the text is. Sometimes there are none."""

    def __init__(self, sequences: Sequence[Sequence[int]], luck: int) -> None:
        super().__init__(sequences)
        self.luck = luck

    def propose(self, tokens: Sequence[int], count: int) -> list[int]:
        self.right = random.Random(self.luck * 1000 + len(tokens)).choice([0, 1, 2, 3, 8, 8])
        return super().propose(tokens, count) if self.right != 3 else []


@settings(max_examples=EXAMPLES)
@given(
    clients=st.lists(CLIENTS, min_size=1, max_size=6),
    luck=st.integers(0, 9),
    drafts=st.integers(1, 8),
    block_size=st.sampled_from([1, 2, 4, 8]),
    spare_blocks=st.sampled_from([0, 0, 1, 2, 5, 40]),
    seats=st.integers(1, 5),
    spare_tokens=st.sampled_from([0, 1, 4, 30]),
    prefix_caching=st.booleans(),
    ngrams=st.booleans(),
)
def test_task_5_together(
    toy: ToyModel,
    clients: list[Client],
    luck: int,
    drafts: int,
    block_size: int,
    spare_blocks: int,
    seats: int,
    spare_tokens: int,
    prefix_caching: bool,
    ngrams: bool,
) -> None:
    try:
        expected = [expected_alone(toy, client) for client in clients]
    except NearTie:
        reject()
    sequences = [[*client.prompt, *said] for client, said in zip(clients, expected, strict=True)]

    def build(model: Any, **options: Any) -> Any:
        if ngrams:
            return answer.SpeculativeEngine(model, drafter=lambda: answer.NgramDrafter(2, 1), **options)
        made = {"drafter": lambda: Erratic(sequences, luck), "adaptive": None, "num_speculative_tokens": drafts}
        return answer.SpeculativeEngine(model, **made, **options)

    options = {
        "num_blocks": -(-(LONGEST - 1) // block_size) + spare_blocks,
        "block_size": block_size,
        "max_num_seqs": seats,
        "max_num_batched_tokens": seats + spare_tokens,
        "prefix_caching": prefix_caching,
    }
    build(toy, **options).check_integrity()
    Traffic(toy, clients, expected, options, build).serve()


@pytest.mark.parametrize("luck", [0, 1, 2])
@pytest.mark.parametrize("prefix_caching", [False, True])
def test_task_5_together_in_a_small_pool(toy: ToyModel, luck: int, prefix_caching: bool) -> None:
    clients = [Client(prefix=0, shared=8, own=2 + seed, max_tokens=8, seed=seed, arrival=2 * seed) for seed in range(5)]
    clients += [Client(prefix=1, shared=4, own=3, max_tokens=7, seed=5, temperature=3.0, penalty=1.5, arrival=3)]
    expected = [expected_alone(toy, client) for client in clients]
    sequences = [[*client.prompt, *said] for client, said in zip(clients, expected, strict=True)]
    made = {"drafter": lambda: Erratic(sequences, luck), "adaptive": None}
    options = {
        "num_blocks": 8,
        "block_size": 4,
        "max_num_seqs": 4,
        "max_num_batched_tokens": 16,
        "prefix_caching": prefix_caching,
    }
    served = Traffic(
        toy, clients, expected, options, lambda model, **options: answer.SpeculativeEngine(model, **made, **options)
    ).serve()
    assert served.metrics.num_preemptions > 0, "this test means a run in which a request is preempted"
    assert served.metrics.spec_decode_num_accepted_tokens > 0, "this test means a run in which drafts are right"
