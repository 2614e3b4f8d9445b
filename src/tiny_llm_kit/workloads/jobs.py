"""What is to be served, before there are requests: prompts as token ids, with their limits checked against the model.

Requests are made from jobs anew for every run, because a request remembers how far it is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

from tiny_llm_kit.models.load import LoadedModel
from tiny_llm_kit.models.tokenizer import Tokenizer
from tiny_llm_kit.workloads.prompts import Prompt


@dataclass(frozen=True)
class Job:
    """One prompt `tokens`, the most tokens its answer may have, and what the user wrote."""

    tokens: tuple[int, ...]
    max_tokens: int
    text: str

    @property
    def title(self) -> str:
        """The beginning of the prompt, for tables."""
        return self.text.replace("\n", " ")[:24]


def make_jobs(loaded: LoadedModel, prompts: Sequence[Prompt], default_max_tokens: int, limit: int | None) -> list[Job]:
    """Put prompts into the model's chat form.

    Args:
        default_max_tokens: for prompts that do not say.
        limit: lowers those that want more; None leaves them.
    Raises:
        ValueError: if a prompt is too long for the model; it names the prompt and both lengths.
    """
    jobs = []
    longest = loaded.config.max_position_embeddings
    for number, prompt in enumerate(prompts, start=1):
        tokens = tuple(loaded.tokenizer.apply_chat_template([{"role": "user", "content": prompt.text}]))
        if len(tokens) >= longest:
            raise ValueError(
                f"prompt {number} ({prompt.text[:40]!r}…) has {len(tokens)} tokens and {loaded.name} reads {longest}"
                " at most, answer included: shorten it"
            )
        wanted = prompt.max_tokens or default_max_tokens
        wanted = min(wanted, limit or wanted, longest - len(tokens))
        jobs.append(Job(tokens, wanted, prompt.text))
    return jobs


def needed_seq_len(jobs: Sequence[Job]) -> int:
    """The tokens that a slot must hold for the longest of the jobs."""
    return max(len(job.tokens) + job.max_tokens for job in jobs)


def make_requests(
    answer: ModuleType,
    jobs: Sequence[Job],
    tokenizer: Tokenizer,
    sampling: Any,
    on_update: Callable[[Any, str], None] | None = None,
) -> list[Any]:
    """New requests of an answer package, one a job; request i draws with the seed of `sampling` plus i."""
    return [
        answer.Request(
            list(job.tokens),
            job.max_tokens,
            replace(sampling, seed=sampling.seed + i),
            eos_token_ids=tokenizer.eos_token_ids,
            detokenizer=tokenizer.detokenizer(),
            on_update=on_update,
        )
        for i, job in enumerate(jobs)
    ]
