"""What the engine tests of week 2 day 6 share: small engines, small requests, and whether an engine is still whole."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from typing import Any
from unittest.mock import patch

import mlx.core as mx

from answer import answer
from support import CountingModel, ToyModel, alone, assert_alone, finish_all, make_prompt


def engine(model: Any, slots: int = 2, **options: Any) -> Any:
    """An engine whose slots hold 64 tokens, 8 prompt tokens an iteration."""
    return answer.ContinuousBatchScheduler(model, slots, **{"max_seq_len": 64, "prefill_step": 8} | options)


def ask(length: int, max_tokens: int, seed: int = 0, **options: Any) -> Any:
    """A request with a random prompt of `length` tokens."""
    return answer.Request(make_prompt(length, seed), max_tokens, **options)


def ask_with_eos(toy: ToyModel, length: int, position: int, max_tokens: int, seed: int = 0, **options: Any) -> Any:
    """A request that ends by an EOS, which is token `position` of its answer (the first is 0) and none before."""
    answers = ((seed, alone(toy, make_prompt(length, seed), position + 1)) for seed in count(seed))
    seed, tokens = next(found for found in answers if found[1][-1] not in found[1][:-1])
    return ask(length, max_tokens, seed, eos_token_ids=[tokens[-1]], **options)


def ids(requests: Any) -> list[int]:
    """The numbers of requests, in rising order."""
    return sorted(request.request_id for request in requests)


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
