"""One request: everything that a row of the batch needs is on this object, so there are no parallel lists to get out of step.

A request knows nothing about schedulers, slots or models.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from itertools import count
from operator import index

from tiny_llm_kit.course import task
from tiny_llm_kit.models.tokenizer import StreamingDetokenizer

from .kv_cache import KvCache
from .sampler import Sampler, SamplingParams
from .text_stream import TextStream

_next_id = count()


@dataclass(eq=False)
class Request:
    """A prompt on its way to an answer: `waiting → prefilling → decoding → finished`.

    Two counters tell where it is: `offset`, the tokens whose keys and values have been asked of the device, and
    `len(generated_tokens)`, the tokens that came back. `shown` counts the letters of `text` that `on_update` has received.

    Args:
        prompt: token ids.
        max_tokens: stop after this many generated tokens.
        sampling: how its tokens are drawn.
        eos_token_ids: tokens that end the answer and are not part of it.
        stop: strings that end the answer and are not part of it; they need a `detokenizer`.
        detokenizer: turns tokens into text; without one `text` stays empty.
        on_update: called by the engine that serves the request, as `on_update(request, new_text)`; see `RequestBook`.
    Raises:
        ValueError: for tokens that are not whole numbers, `max_tokens` below 1, or stop strings without a detokenizer.
    """

    prompt: Sequence[int]
    max_tokens: int
    sampling: SamplingParams = field(default_factory=SamplingParams)
    eos_token_ids: Collection[int] = ()
    stop: Sequence[str] = ()
    detokenizer: StreamingDetokenizer | None = None
    on_update: "Callable[[Request, str], None] | None" = None

    request_id: int = field(default_factory=lambda: next(_next_id), init=False)
    kv_cache: list[KvCache] | None = field(default=None, init=False, repr=False)
    generated_tokens: list[int] = field(default_factory=list, init=False)
    offset: int = field(default=0, init=False)
    text: str = field(default="", init=False)
    shown: int = field(default=0, init=False)
    finish_reason: str | None = field(default=None, init=False)
    error: BaseException | None = field(default=None, init=False)
    overtaken: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.prompt = _whole_numbers("prompt", self.prompt)
        self.eos_token_ids = frozenset(_whole_numbers("eos_token_ids", self.eos_token_ids))
        if type(self.max_tokens) is not int or self.max_tokens < 1:
            raise ValueError(f"max_tokens is {self.max_tokens!r}: it must be a whole number from 1 on")
        if isinstance(self.stop, str) or not all(isinstance(stop, str) for stop in self.stop):
            raise ValueError(f"stop is {self.stop!r}: it must be a list of strings")
        if self.stop and self.detokenizer is None:
            raise ValueError(f"stop strings {self.stop} need a detokenizer: they are looked for in the text")
        self.text_stream = TextStream(self.detokenizer, self.stop) if self.detokenizer is not None else None
        self.sampler = Sampler(self.sampling)

    @property
    def tokens(self) -> list[int]:
        """All tokens known so far: the prompt's and the generated ones."""
        return [*self.prompt, *self.generated_tokens]

    @property
    @task(week=2, day=6, number=1)
    def state(self) -> str:
        """`"waiting"`, `"prefilling"`, `"decoding"` or `"finished"`, derived from the counters.

        It is waiting until it has a cache or a computed token, then prefilling until the whole prompt has been computed.
        """
        raise NotImplementedError("Week 2 Day 6, task 1: the life of a request. Read book/src/week2-06-continuous-batching.md")

    @property
    @task(week=2, day=6, number=1)
    def all_launched(self) -> bool:
        """Whether all its tokens, up to `max_tokens`, have been asked of the device; some may not have come back yet.

        The end of the prompt asks for the first token, and every position after it for one more.
        """
        raise NotImplementedError("Week 2 Day 6, task 1: the life of a request. Read book/src/week2-06-continuous-batching.md")

    @task(week=2, day=6, number=1)
    def accept(self, token: int) -> bool:
        """Take the next generated token, and finish if it is the last: EOS ("stop", and the token is not kept), a stop
        string ("stop"), or the `max_tokens`-th token ("length").

        Returns:
            Whether the token was kept.
        Raises:
            RuntimeError: if the request has finished already.
        """
        raise NotImplementedError("Week 2 Day 6, task 1: the life of a request. Read book/src/week2-06-continuous-batching.md")

    @task(week=2, day=6, number=1)
    def finish(self, reason: str, error: BaseException | None = None) -> None:
        """End the request: drop its cache, and add the text that was held back to `text`.

        A request ends once. Ending it again changes nothing, except that the first error replaces an earlier reason: an error
        is never hidden.

        Args:
            reason: "stop", "length", "cancelled" or "error".
            error: what went wrong. Text that was held back is then dropped, since the detokenizer may be what failed.
        """
        raise NotImplementedError("Week 2 Day 6, task 1: the life of a request. Read book/src/week2-06-continuous-batching.md")


def _whole_numbers(name: str, values: Collection[int]) -> list[int]:
    """A copy, which later changes don't affect, of ints and what converts to one, such as numpy's integers; a bool is
    refused."""
    try:
        numbers = list(values)
        if bool in set(map(type, numbers)):
            raise TypeError("a bool is no number")
        return list(map(index, numbers))
    except TypeError:
        raise ValueError(f"{name} is {values!r}: it must be a list of token ids, which are whole numbers") from None
