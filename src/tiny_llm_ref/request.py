"""One request: all that a row of the batch needs hangs on this object, so no parallel lists can slip.

A request knows no scheduler, no slot and no model.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from itertools import count

from tiny_llm_kit.course import task
from tiny_llm_kit.models.tokenizer import StreamingDetokenizer

from .kv_cache import KvCache
from .sampler import Sampler, SamplingParams
from .stop_strings import StopStrings

_next_id = count()


@dataclass(eq=False)
class Request:
    """A prompt on its way to an answer: `waiting → prefilling → decoding → finished`.

    Two counters tell where it is: `offset`, the tokens whose keys and values have been asked of the device, and
    `len(generated_tokens)`, the tokens that came back.

    Args:
        prompt: token ids.
        max_tokens: stop after this many generated tokens.
        sampling: how its tokens are drawn.
        eos_token_ids: tokens that end the answer and are not part of it.
        stop: strings that end the answer and are not part of it; they need a `detokenizer`.
        detokenizer: turns tokens into text; without one `text` stays empty.
        on_update: called as `on_update(request, new_text)` after every token and at the end; the last token and the end share
            a call. If it raises, this request ends with that error. It is not called for an end by error.
    Raises:
        ValueError: for `max_tokens` below 1, or stop strings without a detokenizer.
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
    finish_reason: str | None = field(default=None, init=False)
    error: Exception | None = field(default=None, init=False)
    overtaken: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens is {self.max_tokens}: it must be at least 1")
        if self.stop and self.detokenizer is None:
            raise ValueError(f"stop strings {self.stop} need a detokenizer: they are looked for in the text")
        self.stop_strings = StopStrings(self.stop)
        self.sampler = Sampler(self.sampling, self.prompt)

    @property
    def tokens(self) -> list[int]:
        """All tokens known so far: the prompt's and the generated ones."""
        return [*self.prompt, *self.generated_tokens]

    @property
    @task(week=2, day=6, number=1)
    def state(self) -> str:
        """`"waiting"`, `"prefilling"`, `"decoding"` or `"finished"`, derived from the counters.

        Waiting until a cache is there or a token has been computed, prefilling until the whole prompt has been.
        """
        if self.finish_reason is not None:
            return "finished"
        if self.kv_cache is None and self.offset == 0:
            return "waiting"
        return "prefilling" if self.offset < len(self.prompt) else "decoding"

    @property
    @task(week=2, day=6, number=1)
    def all_launched(self) -> bool:
        """Whether all its tokens, up to `max_tokens`, have been asked of the device, though not all may have come back.

        The end of the prompt asks for the first token, and every position after it for one more.
        """
        return self.offset >= len(self.prompt) + self.max_tokens - 1

    @task(week=2, day=6, number=1)
    def accept(self, token: int) -> bool:
        """Take the next generated token, and finish if it is the last: EOS ("stop", and the token is not kept), a stop
        string ("stop"), or the `max_tokens`-th token ("length").

        Returns:
            Whether the token was kept.
        Raises:
            RuntimeError: if the request has finished already.
        """
        if self.finish_reason is not None:
            raise RuntimeError(f"request {self.request_id} has finished ({self.finish_reason}) and takes no more tokens")
        if token in self.eos_token_ids:
            self.finish("stop")
            return False
        self.generated_tokens.append(token)
        new_text = ""
        if self.detokenizer is not None:
            self.detokenizer.add_token(token)
            new_text = self.stop_strings.push(self.detokenizer.last_segment)
            self.text += new_text
            if self.stop_strings.stopped:
                self.finish("stop", new_text)
                return True
        if len(self.generated_tokens) == self.max_tokens:
            self.finish("length", new_text)
        elif self.on_update is not None:
            self.on_update(self, new_text)
        return True

    @task(week=2, day=6, number=1)
    def finish(self, reason: str, new_text: str = "", error: Exception | None = None) -> None:
        """End the request, give back its cache, and deliver the text that was held back.

        Args:
            reason: "stop", "length", "cancelled" or "error".
            new_text: text of the last token that `on_update` has not seen yet.
            error: what went wrong; `on_update` is not called then, since it may be what went wrong.
        """
        self.finish_reason, self.error, self.kv_cache = reason, error, None
        if self.detokenizer is not None and error is None and not self.stop_strings.stopped:
            self.detokenizer.finalize()
            rest = self.stop_strings.push(self.detokenizer.last_segment)
            rest += "" if self.stop_strings.stopped else self.stop_strings.flush()
            self.text += rest
            new_text += rest
        if self.on_update is not None and error is None:
            self.on_update(self, new_text)
