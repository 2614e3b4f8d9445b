"""What is kept of a draft: the tokens are the same, or have the same distribution, as without drafts.

The model scores K drafts in one step, and the token after them: K + 1 rows of logits, each as if its draft had been right.
"""

from collections.abc import Sequence
from typing import cast

import mlx.core as mx

from tiny_llm_kit.course import task

from ..sampler import Sampler


@task(week=3, day=5, number=2)
def draw(logits: mx.array, drafts: Sequence[int], sampler: Sampler, tokens: Sequence[int]) -> mx.array:
    """Draw the token of each place as the request would without drafts, if the drafts before it are right.

    A draw depends only on the seed, the position and the tokens before it. So up to the first wrong draft, these are exactly
    the tokens that single steps would have given.

    Args:
        logits: `(K + 1, V)`; row k is for the token after `tokens` and the first k drafts.
        drafts: K tokens.
        tokens: all tokens before the drafts, prompt and answer.
    Returns:
        `(K + 1,)`, on the device: nothing is read here.
    Raises:
        ValueError: unless there is one more row than drafts.
    """
    if len(logits) != len(drafts) + 1:
        raise ValueError(f"there are {len(logits)} rows of logits for {len(drafts)} drafts: one more than drafts is needed")
    if sampler.greedy:
        return mx.argmax(logits, axis=-1)
    known = [*tokens, *drafts]
    return mx.stack([sampler(logits[k], known[: len(tokens) + k]) for k in range(len(logits))])


@task(week=3, day=5, number=2)
def matches(drawn: Sequence[int], drafts: Sequence[int]) -> list[int]:
    """What is kept of the K + 1 drawn tokens: those equal to their draft, and the first one after them.

    Where a draft is wrong, the drawn token is still right, since everything before it is. The ones after it were drawn after a
    token that is not part of the answer.

    Returns:
        1 … K + 1 tokens.
    Raises:
        ValueError: unless there is one more drawn token than drafts.
    """
    if len(drawn) != len(drafts) + 1:
        raise ValueError(f"{len(drawn)} tokens were drawn for {len(drafts)} drafts: one more than drafts is needed")
    equal = 0
    while equal < len(drafts) and drawn[equal] == drafts[equal]:
        equal += 1
    return list(drawn[: equal + 1])


@task(week=3, day=5, number=2)
def accept(logits: mx.array, drafts: Sequence[int], sampler: Sampler, tokens: Sequence[int]) -> list[int]:
    """`draw`, read back, and what `matches` keeps. Arguments as in `draw`; 1 … K + 1 tokens."""
    return matches(cast(list[int], draw(logits, drafts, sampler, tokens).tolist()), drafts)


@task(week=3, day=5, number=3)
def rejection_sample(target: mx.array, draft: mx.array, tokens: Sequence[int], key: mx.array) -> list[int]:
    """Keep some of the tokens that were drawn from one distribution, such that what is kept follows another.

    Speculative sampling (Leviathan et al. 2023, arXiv 2211.17192, algorithm 1; Chen et al. 2023, arXiv 2302.01318): keep token
    x with probability min(1, target(x) / draft(x)). In place of the first that is not kept, draw from the excess of the target
    over the draft, max(0, target − draft), normalized. If all are kept, draw one more from the target's last row.

    Args:
        target: `(K + 1, V)`, probabilities with which the large model draws at each place.
        draft: `(K, V)`, probabilities with which `tokens` were drawn.
        tokens: K drafted tokens.
        key: a random key, for this call alone.
    Returns:
        1 … K + 1 tokens.
    Raises:
        ValueError: if the numbers of rows and tokens don't fit.
    """
    count = len(tokens)
    if len(target) != count + 1 or len(draft) != count:
        raise ValueError(
            f"there are {len(target)} rows of the target and {len(draft)} of the draft for {count} tokens:"
            f" {count + 1} and {count} are needed"
        )
    coin_key, token_key = mx.random.split(key)
    target = target.astype(mx.float32)
    draft = mx.concatenate([draft.astype(mx.float32), mx.zeros_like(target[:1])])  # the last token was not drafted
    places, drafted = mx.arange(count), mx.array(list(tokens), dtype=mx.int32)
    coins = mx.random.uniform(shape=(count,), key=coin_key)
    kept = cast(list[bool], (coins * draft[places, drafted] < target[places, drafted]).tolist())
    accepted = kept.index(False) if False in kept else count
    residual = mx.maximum(target[accepted] - draft[accepted], 0)
    # Rounding can leave nothing where the two are equal.
    weights = mx.where(mx.any(residual > 0), residual, target[accepted])
    return [*tokens[:accepted], int(mx.random.categorical(mx.log(weights), key=token_key))]
