"""Continuous batching in one call: prompts in, answers out."""

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
    """Answer all prompts through one continuous batch.

    Args:
        model: see `Model`.
        tokenizer: encodes prompts that are strings and decodes the answers.
        prompts: text, or token ids.
        max_seq_len: most tokens of prompt and answer together.
        batch_size: slots.
        prefill_step: most prompt tokens per iteration.
        max_tokens: most tokens of an answer; None: as many as `max_seq_len` leaves.
        sampling, stop, strategy: the same for all requests.
    Returns:
        A finished request for each prompt, in the order of the prompts: `text`, `generated_tokens`, and `finish_reason`. A
        prompt that `submit` refuses (it can never fit, is empty, or holds an unknown token) is refused on its own:
        `finish_reason` is "error" and `error` says why. If any requests fail, one warning says how many ("2 of 7 requests
        failed") and shows the error of the first one, so no failure goes unnoticed.
    Raises:
        ValueError: if `batch_size`, `max_seq_len`, `prefill_step` or `max_tokens` is less than 1; then nothing is served.
    """
    raise NotImplementedError("Week 2 Day 6, task 3: batch generation. Read book/src/week2-06-continuous-batching.md")
