"""Week 1's worked example, one day at a time, computed by an answer package: the tables of numbers in the chapters."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from types import ModuleType
from typing import Any

import mlx.core as mx
import numpy as np

from tiny_llm_kit.models.three_tokens import CONFIG, END, PROMPT, WORDS, embed, make_weights

SCALE = CONFIG.head_dim**-0.5
_WIDTH = 8


def _attention(answer: ModuleType) -> Iterator[str]:
    x = embed()
    scores = x @ x.T * SCALE
    yield _table("scores", _named(PROMPT), scores)
    yield _table("weights", _named(PROMPT), answer.softmax(scores))
    yield _table("output", _numbered(4), answer.scaled_dot_product_attention(x, x, x))
    eye = mx.eye(4)
    for head in (0, 1):
        part = x[:, 2 * head : 2 * head + 2]
        yield _table(f"weights, head {head} of 2", _named(PROMPT), answer.softmax(part @ part.T * 2**-0.5))
    yield _table("output of the 2 heads", _numbered(4), answer.multi_head_attention(x[None], eye, eye, eye, eye, 2)[0])


def _rope(answer: ModuleType) -> Iterator[str]:
    yield "radians per position, pair by pair: " + "  ".join(
        _form(a) for a in np.array(answer.rope_frequencies(4, CONFIG.rope_theta))
    )
    for offset in (0, 10):
        rotated = _rotated(answer, offset)
        yield _table(f"rotated, from position {offset}", _numbered(4), rotated)
        yield _table("scores", _named(PROMPT), rotated @ rotated.T * SCALE)


def _mask(answer: ModuleType) -> Iterator[str]:
    rotated, values = _rotated(answer), embed()
    scores = rotated @ rotated.T * SCALE + answer.causal_mask(3, 3)
    yield _table("scores + mask", _named(PROMPT), scores)
    yield _table("weights", _named(PROMPT), answer.softmax(scores))
    yield _table("output", _numbered(4), _attended(answer))
    q, k, v = (part[None, None] for part in (rotated[2:], rotated, values))
    alone = answer.grouped_query_attention(q, k, v, mask=answer.causal_mask(1, 3))
    yield _table("output of the last query alone", _numbered(4), alone[0, 0], ("sat",))


def _norm_and_mlp(answer: ModuleType) -> Iterator[str]:
    x = embed() + _attended(answer)
    normed = answer.RMSNorm(mx.ones(4), CONFIG.rms_norm_eps)(x)
    mlp = answer.MLP(lambda h: (h, h), lambda h: h, answer.silu)
    yield _table("x + attention", _numbered(4), x)
    yield _table("RMSNorm", _numbered(4), normed)
    yield _table("silu of it", _numbered(4), answer.silu(normed))
    yield _table("MLP: silu(gate) · up", _numbered(4), mlp(normed))
    yield _table("x + attention + MLP", _numbered(4), x + mlp(normed))


def _model(answer: ModuleType) -> Iterator[str]:
    logits = answer.Model(CONFIG, make_weights())(mx.array([PROMPT]))[0]
    yield _table("logits of the next word", WORDS, logits)
    yield _table("their softmax", WORDS, answer.softmax(logits))


def _generate(answer: ModuleType) -> Iterator[str]:
    model = answer.Model(CONFIG, make_weights())
    passes: list[str] = []

    def watched(tokens: mx.array, *arguments: Any, **options: Any) -> Any:
        passes.append(" ".join(WORDS[token] for token in np.array(tokens)[0]))
        return model(tokens, *arguments, **options)

    def choose(logits: mx.array, tokens: Sequence[int]) -> Any:
        chosen = answer.greedy(logits, tokens)
        passes[-1] = f"{passes[-1]:<22}  most likely: {WORDS[chosen.item()]}"
        return chosen

    text = list(answer.generate_tokens(watched, PROMPT, 10, {END}, choose))
    yield "\n".join(f"pass {number}: {line}" for number, line in enumerate(passes, 1))
    yield "yielded: " + " ".join(WORDS[token] for token in text)


def _sample(answer: ModuleType) -> Iterator[str]:
    model = answer.Model(CONFIG, make_weights())
    logits = model(mx.array([PROMPT]))[0, -1]
    seen = mx.array([token in PROMPT for token in range(len(WORDS))])
    steps = {
        "as it is": logits,
        "T = 0.5": logits / 0.5,
        "T = 2": logits / 2,
        "top-k 2": answer.top_k(logits, 2),
        "top-p 0.9": answer.top_p(logits, 0.9),
        "min-p 0.1": answer.min_p(logits, 0.1),
        "penalty 2": answer.repetition_penalty(logits, seen, 2.0),
    }
    yield _table("after the cat sat", WORDS, mx.stack([answer.softmax(step) for step in steps.values()]), tuple(steps))
    lines = []
    for seed in (1, 1, 3, 4):
        sampler = answer.Sampler(answer.SamplingParams(temperature=1.5, seed=seed))
        drawn = answer.generate_tokens(model, PROMPT, 8, {END}, sampler)
        lines.append(f"seed {seed}: " + " ".join(WORDS[token] for token in (*PROMPT, *drawn)))
    yield "\n".join(lines)


_DAYS: tuple[Callable[[ModuleType], Iterator[str]], ...] = (
    _attention,
    _rope,
    _mask,
    _norm_and_mlp,
    _model,
    _generate,
    _sample,
)
DAYS = len(_DAYS)


def tell(answer: ModuleType, day: int) -> Iterator[str]:
    """The parts of a day (from 1), each a table or a few lines."""
    return _DAYS[day - 1](answer)


def _rotated(answer: ModuleType, offset: int = 0) -> mx.array:
    rope = answer.RoPE(4, CONFIG.rope_theta)
    rotated: mx.array = rope.rotate(embed()[None, :, None], rope.rotation(offset, len(PROMPT)))
    return rotated[0, :, 0]


def _attended(answer: ModuleType) -> mx.array:
    rotated = _rotated(answer)[None, None]
    attended: mx.array = answer.grouped_query_attention(rotated, rotated, embed()[None, None], mask="causal")
    return attended[0, 0]


def _named(tokens: Sequence[int]) -> tuple[str, ...]:
    return tuple(WORDS[token] for token in tokens)


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(f"[{number}]" for number in range(count))


def _table(title: str, columns: Sequence[str], values: mx.array, rows: Iterable[str] = _named(PROMPT)) -> str:
    """A row of numbers per name, under the names of the columns."""
    grid = np.array(values)
    lines = [
        f"  {name:<10}" + "".join(_form(value).rjust(_WIDTH) for value in row) for name, row in zip(rows, grid, strict=True)
    ]
    return "\n".join([title, " " * 12 + "".join(column.rjust(_WIDTH) for column in columns), *lines])


def _form(value: float) -> str:
    return "-inf" if value == -np.inf else f"{round(float(value), 3) + 0.0:.3f}"
