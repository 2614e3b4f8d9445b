"""Prompts in, answers out, step by step."""

import warnings
from collections.abc import Sequence

from tiny_llm_kit.course import task
from tiny_llm_kit.models.tokenizer import Tokenizer

from .engine import ContinuousBatchScheduler
from .model import Model
from .request import Request
from .sampler import SamplingParams
from .scheduling import Strategy


@task(week=2, day=6, number=3)
def batch_generate(
    model: Model,
    tokenizer: Tokenizer,
    prompts: Sequence[str | Sequence[int]],
    max_seq_len: int = 512,
    batch_size: int = 5,
    prefill_step: int = 128,
    *,
    max_tokens: int | None = None,
    sampling: SamplingParams | None = None,
    stop: Sequence[str] = (),
    strategy: Strategy | None = None,
) -> list[Request]:
    sizes = {"max_seq_len": max_seq_len, "prefill_step": prefill_step, "strategy": strategy}
    engine = ContinuousBatchScheduler(model, batch_size, **sizes)
    if max_tokens is None:
        max_tokens = max_seq_len
    if max_tokens < 1:
        raise ValueError(f"max_tokens is {max_tokens}: an answer has a token at least")

    ways = {} if sampling is None else {"sampling": sampling}

    def ask(prompt: str | Sequence[int]) -> Request:
        ids = tokenizer.encode(prompt) if isinstance(prompt, str) else prompt
        request = Request(
            ids, max_tokens, eos_token_ids=tokenizer.eos_token_ids, stop=stop, detokenizer=tokenizer.detokenizer(), **ways
        )
        try:
            return engine.submit(request)
        except ValueError as refusal:
            engine.end(request, "error", refusal)
            return request

    requests = list(map(ask, prompts))
    while engine.has_work:
        engine.step()
    errors = [request.error for request in requests if request.finish_reason == "error"]
    if errors:
        warnings.warn(f"{len(errors)} of {len(requests)} requests failed; the first: {errors[0]}", stacklevel=2)
    return requests
