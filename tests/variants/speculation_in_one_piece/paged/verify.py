"""Every place asks the sampler, and every draft has a key and a coin of its own."""

from collections.abc import Sequence

import mlx.core as mx
import numpy as np

from tiny_llm_kit.course import task

from ..sampler import Sampler


@task(week=3, day=5, number=2)
def draw(logits: mx.array, drafts: Sequence[int], sampler: Sampler, tokens: Sequence[int]) -> mx.array:
    if logits.shape[0] - len(drafts) != 1:
        raise ValueError(f"drafts {list(drafts)} need {len(drafts) + 1} rows of logits: the shape is {logits.shape}")
    drawn, known = [sampler(logits[0], tokens)], list(tokens)
    for row, draft in enumerate(drafts, 1):
        known = [*known, draft]
        drawn.append(sampler(logits[row], known))
    return mx.concatenate([token.reshape(1) for token in drawn])


@task(week=3, day=5, number=2)
def matches(drawn: Sequence[int], drafts: Sequence[int]) -> list[int]:
    if len(drafts) != len(drawn) - 1:
        raise ValueError(f"draw {len(drafts) + 1} tokens for {len(drafts)} drafts, not {len(drawn)}")
    kept = []
    for token, draft in zip(drawn, [*drafts, None], strict=True):
        kept.append(token)
        if token != draft:
            break
    return kept


@task(week=3, day=5, number=2)
def accept(logits: mx.array, drafts: Sequence[int], sampler: Sampler, tokens: Sequence[int]) -> list[int]:
    return matches(np.array(draw(logits, drafts, sampler, tokens)).tolist(), drafts)


@task(week=3, day=5, number=3)
def rejection_sample(target: mx.array, draft: mx.array, tokens: Sequence[int], key: mx.array) -> list[int]:
    if not target.shape[0] - 1 == draft.shape[0] == len(tokens):
        raise ValueError(f"{len(tokens)} tokens do not fit a target {target.shape} and a draft {draft.shape}")
    p, q = (np.array(rows.astype(mx.float32)) for rows in (target, draft))
    *coins, last = (float(mx.random.uniform(key=own)) for own in mx.random.split(key, len(tokens) + 1))
    for place, (token, coin) in enumerate(zip(tokens, coins, strict=True)):
        wanted, drafted = p[place, token], q[place, token]
        chance = min(1.0, wanted / drafted) if drafted > 0 else float(wanted > 0)
        if coin >= chance:
            lacking = np.clip(p[place] - q[place], 0, None)
            return [*tokens[:place], _pick(lacking if lacking.any() else p[place], last)]
    return [*tokens, _pick(p[-1], last)]


def _pick(weights: np.ndarray, part: float) -> int:
    """The token at this part of all weights, one behind the other; one without weight is never met."""
    upto = np.cumsum(weights, dtype=np.float64)
    return int(np.searchsorted(upto, part * upto[-1], side="right"))
