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
    if not prompt:
        raise ValueError("the prompt is empty: a model needs at least one token to continue")
    tokens = list(prompt)
    for _ in range(max_tokens):
        logits = model(mx.array([tokens]), logits_to_keep=1)
        token = int(sampler(logits[0, -1], tokens))
        if token in eos_token_ids:
            return
        tokens.append(token)
        yield token


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
    if not prompt:
        raise ValueError("the prompt is empty: a model needs at least one token to continue")
    cache = cache or [KvCache() for _ in range(model.config.num_layers)]
    tokens, new = list(prompt), len(prompt)
    for _ in range(max_tokens):
        logits = model(mx.array([tokens[-new:]]), cache[0].offset, cache, logits_to_keep=1)
        token = int(sampler(logits[0, -1], tokens))
        if token in eos_token_ids:
            return
        tokens.append(token)
        new = 1
        yield token


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
    stream = TextStream(detokenizer, stop)
    for token in tokens:
        if text := stream.push(token):
            yield text
        if stream.stopped:
            return
    if text := stream.finish():
        yield text
