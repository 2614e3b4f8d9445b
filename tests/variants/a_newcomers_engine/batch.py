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
    if max_tokens is not None and max_tokens < 1:
        raise ValueError(f"max_tokens is {max_tokens}: an answer has at least 1 token")
    engine = ContinuousBatchScheduler(model, batch_size, max_seq_len=max_seq_len, prefill_step=prefill_step, strategy=strategy)
    requests = [
        Request(
            tokenizer.encode(prompt) if isinstance(prompt, str) else prompt,
            max_seq_len if max_tokens is None else max_tokens,
            sampling or SamplingParams(),
            tokenizer.eos_token_ids,
            stop,
            tokenizer.detokenizer(),
        )
        for prompt in prompts
    ]
    for request in requests:
        try:
            engine.submit(request)
        except ValueError as error:
            engine.end(request, "error", error)
    engine.run()
    errors = [request.error for request in requests if request.error is not None]
    if errors:
        warnings.warn(f"{len(errors)} of {len(requests)} requests failed; the first: {errors[0]!r}", stacklevel=2)
    return requests
