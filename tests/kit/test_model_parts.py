"""What the reference's model and caches promise beyond the days' tests: what stands alone, what is copied, what is packed."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree, ignore_patterns
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

import tiny_llm_ref as answer
from tiny_llm_kit.bench.build_time import BuildTime, build_times, count_nodes, targets
from tiny_llm_kit.machine.fast_math import ON_CPU, by_columns
from tiny_llm_kit.models.tiny_random import random_weights, tiny_config

REFERENCE = Path(answer.__file__).parent

WEEK_1 = """
import mlx.core as mx
from week1.model import Model
from week1.operators import ARRAYS, MLX
from tiny_llm_kit.models.tiny_random import random_weights, tiny_config
config = tiny_config("qwen3")
for operators in (ARRAYS, MLX):
    print(Model(config, random_weights(config), operators)(mx.array([[1, 2, 3]])).shape)
"""


def test_the_model_of_week_1_runs_without_the_kernels_of_week_2(tmp_path: Path) -> None:
    copytree(REFERENCE, tmp_path / "week1", ignore=ignore_patterns("kernels", "__pycache__"))
    (tmp_path / "week1/__init__.py").write_text("")
    command = [sys.executable, "-c", WEEK_1]
    path = f"{tmp_path}:{REFERENCE.parent}"
    run = subprocess.run(command, env={"PYTHONPATH": path}, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines() == [str((1, 3, tiny_config().vocab_size))] * 2


# Rotary positions of MLX, which only a GPU's operators use


@pytest.mark.parametrize("offset", [5, mx.array([3, 40]), mx.array([[3, 9, 0, 2], [7, 7, 7, 100]])], ids=str)
def test_mlxs_rotation_is_the_same_as_ours(offset: Any) -> None:
    from tiny_llm_ref.operators import MlxRope

    x = mx.random.normal((2, 4, 3, 16), key=mx.random.key(1))
    ours, theirs = (rope.rotate(x, rope.rotation(offset, 4)) for rope in (answer.RoPE(16, 500.0), MlxRope(16, 500.0)))
    # Angles of up to 100 in float32 are off by 100 · 2^-22.
    assert mx.allclose(ours, theirs, atol=2e-4)


# Weights by columns


@pytest.mark.skipif(not ON_CPU, reason="weights lie by columns on a CPU only")
def test_by_columns_changes_the_layout_alone_and_copies_once() -> None:
    weight = mx.random.normal((6, 4), key=mx.random.key(1))
    columns = by_columns(weight)
    assert mx.array_equal(columns, weight)
    assert np.array(columns, copy=False).T.flags.c_contiguous
    assert buffer(by_columns(columns)) == buffer(columns), "what lies by columns already is not copied"


def test_a_tied_table_is_held_once() -> None:
    config = tiny_config(vocab_size=256, tie_word_embeddings=True)
    model = answer.Model(config, random_weights(config))
    assert model.embedding.weight.shape == (config.vocab_size, config.hidden_size)
    tables = [held for held in vars(model.embedding).values() if isinstance(held, mx.array)]
    assert len(tables) == 1, "one table for looking up and for multiplying"


# The batching cache writes in place


def buffer(array: mx.array) -> int:
    """The address of an array's memory."""
    return np.array(array, copy=False).__array_interface__["data"][0]


@pytest.mark.skipif(not ON_CPU, reason="addresses are those of a CPU's memory")
@pytest.mark.parametrize("change", ["step", "step ahead", "join", "move"])
def test_the_slabs_stay_where_they_are(change: str) -> None:
    layers, slots, heads, dim = 8, 4, 3, 32
    runner = answer.ModelRunner(Layers(layers), slots, 200)

    def step() -> mx.array:
        rows = len(runner.caches[0].lengths)
        new = mx.ones((rows, heads, 1, dim))
        fetched = [cache.update_and_fetch(new, new)[:2] for cache in runner.caches]
        total = sum((keys.sum() + values.sum() for keys, values in fetched), mx.array(0.0))
        mx.async_eval(total)
        return total

    def join(slot: int) -> None:
        for cache in runner.caches:
            prefilled = answer.KvCache()
            prefilled.update_and_fetch(*(mx.ones((1, heads, 100, dim)) for _ in range(2)))
            cache.add_request(prefilled, slot)

    def leave_and(then: Callable[[], None], slot: int) -> None:
        for cache in runner.caches:
            cache.remove_request(slot)
        then()

    def move() -> None:
        for cache in runner.caches:
            cache.move_request(3, 1)

    for slot in range(slots):
        join(slot)
    for _ in range(40):  # until the slabs have grown to 200
        mx.eval(step())
    before = [buffer(slab) for cache in runner.caches for slab in cache.slabs]
    first = step()
    match change:
        case "step ahead":
            mx.eval(first, step(), step())
        case "join":
            leave_and(lambda: join(2), 2)
        case "move":
            leave_and(move, 1)
    mx.eval(first, step())
    after = [buffer(slab) for cache in runner.caches for slab in cache.slabs]
    moved = sum(a != b for a, b in zip(before, after, strict=True))
    # A thread that is late with letting go of a slab makes its next write a copy: that may happen to one of them, not to all.
    assert moved <= len(before) // 4, f"{moved} of {len(before)} slabs were copied: writes should be in place"


class Layers:
    """A model for which only the number of its layers matters."""

    def __init__(self, num_layers: int) -> None:
        self.config = tiny_config(num_layers=num_layers)


def test_layers_share_what_a_step_needs() -> None:
    runner = answer.ModelRunner(Layers(5), 3, 50)
    for slot in range(3):
        for cache in runner.caches:
            prefilled = answer.KvCache()
            prefilled.update_and_fetch(mx.ones((1, 2, 4 + slot, 8)), mx.ones((1, 2, 4 + slot, 8)))
            cache.add_request(prefilled, slot)
    for _ in range(3):
        for cache in runner.caches:
            cache.update_and_fetch(mx.ones((3, 2, 1, 8)), mx.ones((3, 2, 1, 8)))
        assert len({id(cache.row_lengths()) for cache in runner.caches}) == 1, "computed once, and not once per layer"
    assert runner.caches[0].lengths == {0: 7, 1: 8, 2: 9}


# A cache that walks a table: several sequences in one row, as week 3 needs it


@dataclass
class Packed(answer.KvCacheBase):
    """Sequences of different lengths in one row; it has no fetch, and attends for each sequence alone."""

    parts: list[range]
    stored: dict[int, list[mx.array]]

    def attend(self, q: mx.array, k: mx.array, v: mx.array, scale: float, mask: Any = None, attention: Any = None) -> mx.array:
        outs = []
        for i, part in enumerate(self.parts):
            where = slice(part.start, part.stop)
            new = [k[:, :, where], v[:, :, where]]
            old = self.stored.get(i)
            self.stored[i] = new if old is None else [mx.concatenate(pair, axis=2) for pair in zip(old, new, strict=True)]
            outs.append(attention(q[:, :, where], *self.stored[i], scale, "causal", None))
        return mx.concatenate(outs, axis=2)


@pytest.mark.parametrize("operators", ["arrays", "mlx"])
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
def test_chunks_and_decodes_share_one_call(architecture: str, operators: str) -> None:
    config = tiny_config(architecture)
    model = answer.Model(config, random_weights(config, seed=1), answer.OPERATORS[operators])
    random = np.random.default_rng(0)
    sequences = [random.integers(0, config.vocab_size, length).tolist() for length in (7, 12, 5)]
    caches: list[Packed] = [Packed([], {}) for _ in range(config.num_layers)]
    last: list[mx.array] = []
    for counts in ([4, 9, 2], [1, 2, 1], [2, 1, 2]):
        starts = [0 if not caches[0].stored else caches[0].stored[i][0].shape[2] for i in range(3)]
        ends = np.cumsum(counts).tolist()
        parts = [range(end - count, end) for end, count in zip(ends, counts, strict=True)]
        for cache in caches:
            cache.parts = parts
        tokens = [t for s, start, n in zip(sequences, starts, counts, strict=True) for t in s[start : start + n]]
        positions = [start + i for start, n in zip(starts, counts, strict=True) for i in range(n)]
        keep = mx.array([end - 1 for end in ends])
        last = list(model(mx.array([tokens]), mx.array([positions]), caches, None, keep)[0])
    for sequence, got in zip(sequences, last, strict=True):
        want = model(mx.array([sequence]))[0, -1]
        assert mx.allclose(got, want, rtol=1e-3, atol=1e-3), "as if each sequence were alone"


# The time to build a step


def test_build_times_are_measured_side_by_side() -> None:
    times = build_times(answer, layers=2, rows=2, repeats=3)
    assert list(times) == ["arrays", "mlx", "mlx-lm"]
    assert all(0 < time.seconds < 1 and time.nodes > 50 for time in times.values())
    goal = targets({"mlx": BuildTime(0.6, 10), "mlx-lm": BuildTime(1.0, 10)})[0]
    assert (goal.value, goal.met) == (0.6, True)


def test_nodes_are_operations_that_have_not_run() -> None:
    x = mx.ones((2, 2))
    mx.eval(x)
    assert count_nodes(x) == 0
    assert count_nodes(mx.square(x)) == 1
    y = mx.square(x) + mx.abs(x)
    assert count_nodes(y) == 3
    mx.eval(y)
    assert count_nodes(y) == 0
