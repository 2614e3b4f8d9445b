import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from tiny_llm_kit.course import task
from tiny_llm_kit.models.tokenizer import Tokenizer

from ..request_book import RequestBook
from .request import PagedRequest


class StreamingBook(RequestBook):
    @task(week=3, day=4, number=7)
    def generate(
        self, prompts: Sequence[str | Sequence[int]], max_tokens: int, tokenizer: Tokenizer | None = None, **options: Any
    ) -> list[PagedRequest]:
        if isinstance(prompts, str):
            raise ValueError(f"prompts is the text {prompts[:40]!r}: give a list of prompts")
        requests = [_make_request(prompt, max_tokens, tokenizer, options) for prompt in prompts]
        with self._served_here(requests):
            for request in requests:
                try:
                    self.submit(request)
                except ValueError as error:
                    request.finish("error", error)
            while any(request.finish_reason is None for request in requests):
                self._step_for_all()
        if errors := [request.error for request in requests if request.error is not None]:
            warnings.warn(f"{len(errors)} of {len(requests)} requests failed, the first with {errors[0]!r}", stacklevel=2)
        return requests

    @task(week=3, day=4, number=7)
    def stream(self, request: PagedRequest) -> Iterator[int]:
        self.submit(request)
        with self._served_here([request]):
            given = 0
            while given < len(request.generated_tokens) or request.finish_reason is None:
                if given == len(request.generated_tokens):
                    self._step_for_all()
                else:
                    given += 1
                    yield request.generated_tokens[given - 1]
        if request.error is not None:
            raise request.error
