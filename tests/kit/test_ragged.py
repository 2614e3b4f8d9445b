"""The batches that the tests of week 3 make, against those of the reference: two ways to the same arrays."""

import mlx.core as mx
import numpy as np
import pytest

import tiny_llm_ref
from ragged import Span, make_batch


@pytest.mark.parametrize("seed", range(8))
def test_both_lay_out_a_step_alike(seed: int) -> None:
    random = np.random.default_rng(seed)
    blocks = random.permutation(64).tolist()
    spans = []
    for i in range(random.integers(1, 7)):
        end = int(random.integers(1, 33))
        start = end - 1 if random.random() < 0.5 else int(random.integers(0, end))
        spans.append(Span(start, end, blocks[8 * i : 8 * i + 8]))
    tokens = random.integers(0, 100, sum(span.end - span.start for span in spans)).tolist()
    ours = make_batch(spans, 4, tokens)
    rows = [tiny_llm_ref.Row(span.start, span.end, span.table) for span in spans]
    theirs = tiny_llm_ref.make_ragged_batch(rows, mx.array(tokens), 4)
    for name in ("tokens", "positions", "slots", "fresh", "keep"):
        assert getattr(ours, name).tolist() == getattr(theirs, name).tolist(), name
    assert len(ours.groups) == len(theirs.groups)
    for one, other in zip(ours.groups, theirs.groups, strict=True):
        assert (one.places, one.rows, one.queries) == (other.places, other.rows, other.queries)
        for name in ("table", "lengths", "mask"):
            assert getattr(one, name).tolist() == getattr(other, name).tolist(), name
