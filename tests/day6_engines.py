"""What the engine tests of week 2 day 6 share: small engines, small requests, and whether an engine is still whole."""

from typing import Any

from answer import answer
from support import CountingModel, ToyModel, assert_alone, finish_all, make_prompt


def engine(model: Any, slots: int = 2, **options: Any) -> Any:
    """An engine whose slots hold 64 tokens, 8 prompt tokens an iteration."""
    return answer.ContinuousBatchScheduler(model, slots, **{"max_seq_len": 64, "prefill_step": 8} | options)


def ask(length: int, max_tokens: int, seed: int = 0, **options: Any) -> Any:
    """A request with a random prompt of `length` tokens."""
    return answer.Request(make_prompt(length, seed), max_tokens, **options)


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
