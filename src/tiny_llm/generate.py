"""From a model to text: predict a token, append it, repeat."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

import mlx.core as mx

from tiny_llm_kit.course import task
from tiny_llm_kit.models.tokenizer import StreamingDetokenizer

from .kv_cache import KvCache
from .model import Model
from .text_stream import TextStream

Choose = Callable[[mx.array, Sequence[int]], mx.array]


def greedy(logits: mx.array, tokens: Sequence[int] = ()) -> mx.array:
    """The most likely token, whatever came before: logits `(..., V)` to ids `(...)`."""
    return mx.argmax(logits, axis=-1)


@task(week=1, day=6, number=1)
def generate_tokens(
    model: Model,
    prompt: Sequence[int],
    max_tokens: int,
    eos_token_ids: Collection[int] = (),
    sampler: Choose = greedy,
) -> Iterator[int]:
    """Continue `prompt`, running the whole sequence through the model for every token.

    Args:
        prompt: token ids, at least one.
        max_tokens: stop after this many.
        eos_token_ids: tokens that end the text; they are not yielded.
        sampler: maps logits `(V,)`, and all tokens before the wanted one, to a token id, a scalar array.
    Yields:
        Token ids, each as soon as it is known.
    Raises:
        ValueError: if the prompt is empty, when the first token is asked for.
    """
    raise NotImplementedError("Week 1 Day 6, task 1: the decode loop. Read book/src/week1-06-generate.md")


@task(week=2, day=1, number=3)
def generate_tokens_with_cache(
    model: Model,
    prompt: Sequence[int],
    max_tokens: int,
    eos_token_ids: Collection[int] = (),
    sampler: Choose = greedy,
    cache: Sequence[KvCache] | None = None,
) -> Iterator[int]:
    """The same tokens as `generate_tokens`, but each one goes through the model once.

    Args:
        cache: one per layer. It may already hold the beginning of the conversation: `prompt` continues it. None: a new one.
    Raises:
        ValueError: if the prompt is empty, when the first token is asked for.
    """
    raise NotImplementedError("Week 2 Day 1, task 3: decode with a cache. Read book/src/week2-01-kv-cache.md")


@task(week=1, day=6, number=3)
def stream_text(tokens: Iterable[int], detokenizer: StreamingDetokenizer, stop: Sequence[str] = ()) -> Iterator[str]:
    """Turn tokens into pieces of text, each as soon as it is final; end at the first stop string.

    A token may be part of a letter, so the detokenizer decides when there is new text. Once a stop string is complete, no
    further token is asked for.

    Args:
        tokens: token ids, for example from `generate_tokens`.
        detokenizer: a fresh one; `add_token(id)`, then `last_segment` is the new text; `finalize()` at the end.
        stop: strings that end the text and are not part of it.
    Yields:
        Pieces that are not empty.
    """
    raise NotImplementedError("Week 1 Day 6, task 3: streaming text. Read book/src/week1-06-generate.md")
