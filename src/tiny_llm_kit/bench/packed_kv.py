"""Keys and values in a few bits: what they take, what a step over them takes, and how far off they and their model are.

It knows the names of week 3 day 5's task 7 and of the paged engine in an answer package.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import mlx.core as mx

from tiny_llm_kit.bench.paged_steps import PagedSteps
from tiny_llm_kit.bench.quantization import relative_error
from tiny_llm_kit.bench.report import Target
from tiny_llm_kit.bench.step_profile import LENGTH, ROWS

COLUMNS = [
    "stored as",
    "bytes per token, layer",
    "tokens in memory",
    "step",
    "of plain",
    "error of keys",
    "of values",
    "perplexity",
]
FORMATS = (None, 8, 4)
BLOCK_SIZE = 16
STEPS = 12
ROUNDS = 4


@dataclass(frozen=True)
class Format:
    """One way to store keys and values, measured.

    bits: None for plain numbers of the model's type. step_seconds: a decode step of 8 rows of 160 tokens. Errors are
    |stored − given| / |given|, root mean squares over all layers and tokens of the text.
    """

    bits: int | None
    name: str
    bytes_per_token: int
    step_seconds: float
    key_error: float
    value_error: float
    perplexity: float

    def cells(self, plain: "Format") -> list[str]:
        return [
            self.name,
            str(self.bytes_per_token),
            f"{plain.bytes_per_token / self.bytes_per_token:.2f} ×",
            f"{self.step_seconds * 1e3:.1f} ms",
            f"{self.step_seconds / plain.step_seconds:.2f} ×",
            f"{self.key_error:.3%}",
            f"{self.value_error:.3%}",
            f"{self.perplexity:.3f}",
        ]


class PackedModel:
    """Answers as the model does for a sequence alone, over keys and values in this many bits.

    on_layer: is told the keys and values that a layer was given, and those that it stored, each `(1, KV, L, D)`.
    """

    def __init__(
        self, answer: ModuleType, model: Any, bits: int | None, on_layer: Callable[..., None] = lambda *arrays: None
    ) -> None:
        self.answer = answer
        self.model = model
        self.config = model.config
        self.bits = bits
        self.on_layer = on_layer

    def __call__(self, tokens: mx.array, logits_to_keep: int | None = None) -> mx.array:
        """Logits of tokens `(1, L)`, all computed in one step."""
        length = tokens.shape[1]
        blocks = self.answer.blocks_for(length, BLOCK_SIZE)
        batch = self.answer.make_ragged_batch([self.answer.Row(0, length, range(blocks))], tokens[0], BLOCK_SIZE)
        caches = [_Watched(self._make_cache(blocks), batch, self.on_layer) for _ in range(self.config.num_layers)]
        keep = mx.arange(length if logits_to_keep is None else logits_to_keep) - (logits_to_keep or length) + length
        logits: mx.array = self.model(batch.tokens, batch.positions, caches, None, keep)
        return logits

    def _make_cache(self, blocks: int) -> Any:
        if self.bits is None:
            return self.answer.PagedKvCache(blocks, BLOCK_SIZE)
        return self.answer.QuantizedKvCache(blocks, BLOCK_SIZE, self.bits)


class _Watched:
    """A cache whose `attend` reports what it was given, and what it stored."""

    def __init__(self, cache: Any, batch: Any, on_layer: Callable[..., None]) -> None:
        self.cache = cache
        self.cache.batch = batch
        self.on_layer = on_layer

    def attend(self, q: mx.array, k: mx.array, v: mx.array, *rest: Any) -> mx.array:
        out: mx.array = self.cache.attend(q, k, v, *rest)
        keys, values = self.cache.fetch(self.cache.batch.groups[0].table)
        self.on_layer(k, v, keys[:, :, : k.shape[2]], values[:, :, : v.shape[2]])
        return out


def measure_formats(
    answer: ModuleType, model: Any, tokens: Sequence[int], begin: Callable[[str], None] = lambda name: None
) -> list[Format]:
    """All of `FORMATS`, on a text; `begin` is told what comes next."""
    begin("steps of all formats")
    steps = time_steps(answer, model)
    found = []
    for bits, (seconds, cache) in zip(FORMATS, steps, strict=True):
        name = str(cache.pools[0].dtype).removeprefix("mlx.core.") if bits is None else f"{bits} bits"
        size = sum(pool.nbytes for pool in cache.pools) // (cache.num_blocks * cache.block_size)
        begin(name)
        errors = _Errors()
        perplexity = answer.perplexity(PackedModel(answer, model, bits, errors.add), tokens)
        of_keys, of_values = (relative_error(kind) for kind in errors.pairs)
        found.append(Format(bits, name, size, seconds, of_keys, of_values, perplexity))
    return found


class _Errors:
    """Keeps what was stored and what was given, pairs of keys and pairs of values."""

    def __init__(self) -> None:
        self.pairs: list[list[tuple[mx.array, mx.array]]] = [[], []]

    def add(self, k: mx.array, v: mx.array, keys: mx.array, values: mx.array) -> None:
        mx.eval(k, v, keys, values)  # otherwise they would keep the whole computation
        for kind, pair in zip(self.pairs, ((keys, k), (values, v)), strict=True):
            kind.append(pair)


def time_steps(answer: ModuleType, model: Any, rows: int = ROWS, length: int = LENGTH) -> list[tuple[float, Any]]:
    """For each of `FORMATS`, which take turns, the seconds of the shortest decode step, and a layer's cache."""
    count = ROUNDS * STEPS + 2
    built = [PagedSteps(answer, model, rows, length, count, kv_bits=bits) for bits in FORMATS]
    best = [float("inf")] * len(FORMATS)
    for _ in range(ROUNDS):
        for number, steps in enumerate(built):
            for _ in range(STEPS):
                started = time.perf_counter()
                mx.eval(steps.build())
                best[number] = min(best[number], time.perf_counter() - started)
    return [(seconds, steps.runner.caches[0]) for seconds, steps in zip(best, built, strict=True)]


def targets(formats: Sequence[Format]) -> list[Target]:
    """What keys and values in 8 bits should reach. A model in half precision has less to save: no goal was set for that."""
    plain, eight = formats[:2]
    saved = plain.bytes_per_token / eight.bytes_per_token if plain.name == "float32" else None
    return [
        Target("8 bits: tokens at equal memory", saved, 3.0, True, "{:.2f} ×".format),
        Target("8 bits: time of a step", eight.step_seconds / plain.step_seconds, 1.4, False, "{:.2f} ×".format),
        Target("8 bits: perplexity above plain", eight.perplexity / plain.perplexity - 1, 0.001, False, "{:.3%}".format),
    ]
