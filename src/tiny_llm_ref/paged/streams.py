"""Ways to use an engine: prompts in, tokens out, for callers who do not want to step it themselves.

It knows nothing about blocks or plans: all it needs from an engine is `submit`, `step` and `cancel`.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tiny_llm_kit.course import task
from tiny_llm_kit.models.tokenizer import Tokenizer

from ..request import Request
from ..request_book import RequestBook
from .request import PagedRequest


class StreamingBook(RequestBook):
    """A `RequestBook` whose engine can be asked for whole answers and for streams of tokens."""

    @task(week=3, day=4, number=7)
    def add_request(
        self, prompt: str | Sequence[int], max_tokens: int, tokenizer: Tokenizer | None = None, **options: Any
    ) -> PagedRequest:
        """Make a request and submit it.

        Args:
            prompt: token ids, or text for the tokenizer.
            tokenizer: also says which tokens end the answer, and turns it into text.
            options: further arguments of `PagedRequest`; they take precedence over what the tokenizer says.
        Raises:
            ValueError: as `submit`, or for text without a tokenizer.
        """
        request = _make_request(prompt, max_tokens, tokenizer, options)
        self.submit(request)
        return request

    @task(week=3, day=4, number=7)
    def generate(
        self, prompts: Sequence[str | Sequence[int]], max_tokens: int, tokenizer: Tokenizer | None = None, **options: Any
    ) -> list[PagedRequest]:
        """Answer all prompts; arguments as in `add_request`.

        Other requests are served alongside, and are returned by the next `step` if they end. Any interruption, such as Ctrl-C,
        cancels these requests.

        Returns:
            A finished request for each prompt, in the order of the prompts. One that `submit` refuses ends with that error, and
            a warning says how many failed.
        Raises:
            ValueError: if one of them is not a prompt at all, see `add_request`; then nothing has been submitted.
        """
        if isinstance(prompts, str):
            raise ValueError(f"prompts is {prompts[:40]!r}: it must be a list of prompts, so put this one into a list")
        requests = [_make_request(prompt, max_tokens, tokenizer, options) for prompt in prompts]
        with self._served_here(requests):
            for request in requests:
                try:
                    self.submit(request)
                except ValueError as error:
                    request.finish("error", error)
            while any(request.finish_reason is None for request in requests):
                self._step_for_all()
        failed = [request for request in requests if request.error is not None]
        if failed:
            warnings.warn(f"{len(failed)} of {len(requests)} requests failed, the first with {failed[0].error!r}", stacklevel=2)
        return requests

    @task(week=3, day=4, number=7)
    def stream(self, request: PagedRequest) -> Iterator[int]:
        """Submit a request and yield its tokens as they come back. Nothing happens before the first `next`.

        Each `next` steps the engine if needed, and so serves all requests; others that end are returned by the next `step`. A
        consumer that stops listening and closes the iterator cancels the request.

        Raises:
            ValueError: as `submit`.
            BaseException: what the request ended with, after the tokens that it got.
        """
        self.submit(request)
        given = 0
        with self._served_here([request]):
            while request.finish_reason is None or given < len(request.generated_tokens):
                if given == len(request.generated_tokens):
                    self._step_for_all()
                else:
                    yield request.generated_tokens[given]
                    given += 1
        if request.error is not None:
            raise request.error

    @task(week=3, day=4, number=7)
    def _step_for_all(self) -> None:
        """A step whose caller waits only for certain requests: all that end in it are returned by the next `step`, too."""
        for request in self.step():
            self._ended[request.request_id] = request

    @contextmanager
    def _served_here(self, requests: Sequence[Request]) -> Iterator[None]:
        """On leaving this block, these requests are done with: all have ended, and no `step` returns them."""
        try:
            yield
        finally:
            for request in requests:
                self.cancel(request)
                self._ended.pop(request.request_id, None)


def _make_request(
    prompt: str | Sequence[int], max_tokens: int, tokenizer: Tokenizer | None, options: dict[str, Any]
) -> PagedRequest:
    if tokenizer is not None:
        options = {"eos_token_ids": tokenizer.eos_token_ids, "detokenizer": tokenizer.detokenizer(), **options}
    if isinstance(prompt, str):
        if tokenizer is None:
            raise ValueError(f"the prompt {prompt[:40]!r} is text: give a tokenizer with it, or token ids")
        prompt = tokenizer.encode(prompt)
    return PagedRequest(prompt, max_tokens, **options)
