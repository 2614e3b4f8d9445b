"""Places are drawn from the last one back; coins are compared all at once, and a token is picked by noise."""

from collections.abc import Sequence

import mlx.core as mx

from tiny_llm_kit.course import task

from ..sampler import Sampler


@task(week=3, day=5, number=2)
def draw(logits: mx.array, drafts: Sequence[int], sampler: Sampler, tokens: Sequence[int]) -> mx.array:
    before, rows = [*tokens, *drafts], list(logits)
    if len(rows) != 1 + len(drafts):
        raise ValueError(f"K = {len(drafts)} drafts go with K + 1 rows, and there are {len(rows)}")
    drawn = []
    while rows:
        drawn.append(sampler(rows.pop(), tuple(before)))
        before = before[:-1]
    return mx.stack(drawn[::-1])


@task(week=3, day=5, number=2)
def matches(drawn: Sequence[int], drafts: Sequence[int]) -> list[int]:
    wrong = [place for place, (token, draft) in enumerate(zip(drawn, drafts, strict=False)) if token != draft]
    if len(drawn) - len(drafts) != 1:
        raise ValueError(f"one token more than the {len(drafts)} drafts has to be drawn: {drawn}")
    return list(drawn)[: wrong[0] + 1 if wrong else None]


@task(week=3, day=5, number=2)
def accept(logits: mx.array, drafts: Sequence[int], sampler: Sampler, tokens: Sequence[int]) -> list[int]:
    drawn = draw(logits, drafts, sampler, tokens)
    right = mx.cumprod(drawn[:-1] == mx.array(list(drafts), dtype=drawn.dtype)).sum() if drafts else mx.array(0)
    *places, count = mx.concatenate([drawn.astype(mx.int32), right.astype(mx.int32)[None]]).tolist()
    return places[: count + 1]


@task(week=3, day=5, number=3)
def rejection_sample(target: mx.array, draft: mx.array, tokens: Sequence[int], key: mx.array) -> list[int]:
    if (len(target), len(draft)) != (len(tokens) + 1, len(tokens)):
        raise ValueError(f"{len(tokens)} tokens, {len(draft)} rows to draft from and {len(target)} to aim at do not fit")
    noise, coins = mx.random.split(key)
    noise = mx.random.gumbel(target.shape, key=noise)
    target, draft = target.astype(mx.float32), draft.astype(mx.float32)
    count, more = 0, target
    if tokens:
        column = mx.array(tokens)[:, None]
        p, q = (mx.take_along_axis(rows, column, axis=-1)[:, 0] for rows in (target[:-1], draft))
        kept = mx.random.uniform(shape=p.shape, key=coins) * q < p
        count = int(mx.cumprod(kept.astype(mx.int32)).sum())
        less = mx.maximum(target[:-1] - draft, 0)
        less = mx.where(less.sum(axis=-1, keepdims=True) > 0, less, target[:-1])
        more = mx.concatenate([less, target[-1:]])
    picked = mx.argmax(mx.log(more) + noise, axis=-1)
    return [*tokens[:count], int(picked[count])]
