"""What the engine tests of week 2 day 6 share, and in part those of week 3: small engines, small requests, and whether an
engine is still whole."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import count
from typing import Any
from unittest.mock import patch

import mlx.core as mx

from answer import answer
from support import CountingModel, NearTie, ToyModel, alone, assert_alone, finish_all, make_prompt
from tiny_llm_kit.models.tiny_random import ByteTokenizer

ENDS = ("max_tokens", "a single token", "EOS", "EOS at once", "a stop string")
"""The ways in which an answer may come to its end."""


def engine(model: Any, slots: int = 2, **options: Any) -> Any:
    """An engine whose slots hold 64 tokens, 8 prompt tokens an iteration."""
    return answer.ContinuousBatchScheduler(model, slots, **{"max_seq_len": 64, "prefill_step": 8} | options)


def ask(length: int, max_tokens: int, seed: int = 0, **options: Any) -> Any:
    """A request with a random prompt of `length` tokens."""
    return answer.Request(make_prompt(length, seed), max_tokens, **options)


def ask_with_eos(toy: ToyModel, length: int, position: int, max_tokens: int, seed: int = 0, **options: Any) -> Any:
    """A request that ends by an EOS, which is token `position` of its answer (the first is 0) and none before."""
    seed, eos = find_eos(toy, length, position, position + 1, seed)
    return ask(length, max_tokens, seed, eos_token_ids=[eos], **options)


def find_eos(toy: ToyModel, length: int, position: int, clear: int, seed: int) -> tuple[int, int]:
    """A seed of a prompt, not below this one, and token `position` of its answer, which none before it equals.

    clear: how many tokens of the answer must be clear, see `alone`.
    """
    for other in count(seed):
        with suppress(NearTie):
            tokens = alone(toy, make_prompt(length, other), clear)[: position + 1]
            if tokens[-1] not in tokens[:-1]:
                return other, tokens[-1]
    raise AssertionError


def ask_to_end(toy: ToyModel, end: str, ask: Callable[..., Any], ask_with_eos: Callable[..., Any], **options: Any) -> Any:
    """One of the five requests of `ENDS`, made with an engine's own `ask` and `ask_with_eos`."""
    match end:
        case "max_tokens":
            return ask(5, 7, **options)
        case "a single token":
            return ask(5, 1, **options)
        case "EOS":
            return ask_with_eos(toy, 5, 4, 12, **options)
        case "EOS at once":
            return ask_with_eos(toy, 5, 0, 12, **options)
    text = ByteTokenizer().decode(alone(toy, make_prompt(5), 12))
    return ask(5, 12, stop=[text[4:7]], detokenizer=ByteTokenizer().detokenizer(), **options)


def drawn_alone(toy: ToyModel, request: Any, tokens: int) -> list[int]:
    """What the request's own sampler draws from the model's logits, with no cache and no batch.

    The logits of a batch differ in their last digits, and a draw depends on that about once in 100,000 times.
    """
    drawn: list[int] = []
    while len(drawn) < tokens:
        known = [*request.prompt, *drawn]
        drawn.append(request.sampler(toy(mx.array([known]), logits_to_keep=1)[0, -1], known).item())
    return drawn


def assert_can_still_serve(scheduler: Any, counting: CountingModel, toy: ToyModel, slots: int) -> None:
    """A full batch of new requests finds all slots free."""
    __tracebackhide__ = True
    counting.calls.clear()
    requests = [scheduler.submit(ask(4 + seed, 12, seed)) for seed in range(slots)]
    finish_all(scheduler)
    assert_alone(toy, *requests)
    most = max(counting.decode_rows, default=0)
    assert most == slots, f"{slots} new requests were decoded {most} at a time: a slot of those before them was not given back"


class UnreadableModel:
    """What it is asked for while `broken` can never be computed: a part of it belongs to a thread that is gone.

    Args:
        inner: whether keys and values cannot be computed either; otherwise only logits.
    """

    def __init__(self, model: Any, inner: bool = False) -> None:
        self.model = model
        self.config = model.config
        self.inner = inner
        self.broken = False

    def __call__(self, tokens: mx.array, *args: Any, **kwargs: Any) -> mx.array:
        if not self.broken:
            return self.model(tokens, *args, **kwargs)
        with ThreadPoolExecutor(1) as elsewhere:
            nothing = elsewhere.submit(lambda: mx.zeros((1,), dtype=mx.uint32) + 0).result()
        if self.inner:
            return self.model(tokens + nothing, *args, **kwargs)
        return self.model(tokens, *args, **kwargs) + nothing


def _refuse_to_wait() -> None:
    raise AssertionError("mx.synchronize waits for all that was launched, also in this iteration: read the tokens and no more")


@contextmanager
def only_reading_fails() -> Iterator[None]:
    """In this block the device is never set to work before it is waited for: what can't be computed fails when it is read."""
    with patch.object(mx, "async_eval", lambda *arrays: None), patch.object(mx, "synchronize", _refuse_to_wait):
        yield


@contextmanager
def nothing_gets_out() -> Iterator[None]:
    """`step` and `cancel` go on when something fails: what concerns some requests ends these, and is not raised."""
    __tracebackhide__ = True
    try:
        yield
    except NotImplementedError:
        raise
    except Exception as error:
        if isinstance(error, AssertionError) and error.args:  # a test's own; an engine's bare assert has none
            raise
        raise AssertionError(
            f"the engine let {error!r} out: it should end the requests that it concerns, keep it as their `error`, and go on"
        ) from error


def assert_returned(ended: Sequence[Any], *requests: Any) -> None:
    """`step` has returned each of these once."""
    __tracebackhide__ = True
    for request in requests:
        times = ended.count(request)
        assert times == 1, f"step returned request {request.request_id} {times} times: each that has ended, and once"
    assert len(ended) == len(requests), f"step returned {len(ended)} requests, and {len(requests)} were there"


def assert_failed(toy: ToyModel, request: Any, error: type[BaseException] | BaseException, why: str) -> None:
    """It has ended with this error, and was given nothing wrong before."""
    __tracebackhide__ = True
    if isinstance(request.error, NotImplementedError):
        raise request.error
    same = isinstance(request.error, error) if isinstance(error, type) else request.error is error
    if request.finish_reason != "error" or not same:
        raise AssertionError(
            f"{why}, so it ends with 'error' and keeps that error; it ended with {request.finish_reason!r}: {request.error!r}"
        ) from request.error
    assert_beginning(toy, request)


def assert_beginning(toy: ToyModel, request: Any) -> None:
    """What it was given before it was ended is the beginning of what it says alone."""
    __tracebackhide__ = True
    said = request.generated_tokens
    assert said == alone(toy, request.prompt, max(request.max_tokens, len(said)))[: len(said)], (
        "it was ended in the middle of its answer, and what it had been given by then is not the beginning of that answer:"
        " a token was lost, or taken twice, or came after the end"
    )
