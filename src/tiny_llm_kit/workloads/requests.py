"""From work items to the requests of an answer package: text becomes tokens, limits are checked against the model."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any, Protocol

from tiny_llm_kit.models.load import LoadedModel
from tiny_llm_kit.models.tokenizer import Tokenizer
from tiny_llm_kit.workloads.items import WorkItem


class ChatTokenizer(Protocol):
    """What a workload asks of a tokenizer."""

    @property
    def vocab_size(self) -> int: ...

    def apply_chat_template(self, messages: list[dict[str, str]]) -> list[int]: ...


def in_chat_form(items: Sequence[WorkItem], tokenizer: ChatTokenizer) -> list[WorkItem]:
    """The same items with the tokens of their texts in chat form."""
    return [
        replace(item, prompt=tuple(tokenizer.apply_chat_template([{"role": "user", "content": item.text}]))) for item in items
    ]


def shortened(items: Sequence[WorkItem], max_tokens: int | None) -> list[WorkItem]:
    """The same items; those that want more than `max_tokens` want that many. None: as they are."""
    return [item if max_tokens is None else replace(item, max_tokens=min(item.max_tokens, max_tokens)) for item in items]


def fitted(items: Sequence[WorkItem], loaded: LoadedModel) -> list[WorkItem]:
    """The same items, whose answers end where the model's longest sequence does.

    Raises:
        ValueError: if a prompt leaves no room for an answer; it names the prompt and both lengths.
    """
    longest = loaded.config.max_position_embeddings
    for number, item in enumerate(items, start=1):
        if len(item.prompt) >= longest:
            raise ValueError(
                f"prompt {number} ({item.text[:40]!r}…) has {len(item.prompt)} tokens and {loaded.name} reads {longest}"
                " at most, answer included: shorten it"
            )
    return [replace(item, max_tokens=min(item.max_tokens, longest - len(item.prompt))) for item in items]


def make_requests(
    answer: ModuleType,
    items: Sequence[WorkItem],
    tokenizer: Tokenizer | None = None,
    sampling: Any = None,
    on_update: Callable[[Any, str], None] | None = None,
    paged: bool = False,
) -> list[Any]:
    """New requests of an answer package, one per item.

    tokenizer: ends answers at its end tokens and turns them into text; without one, answers go on to their `max_tokens`.
    sampling: request i draws with its seed plus i; None: greedily.
    paged: for the paged engine, whose requests hold blocks.
    """
    kind = answer.PagedRequest if paged else answer.Request
    sampling = sampling or answer.SamplingParams()
    return [
        kind(
            list(item.prompt),
            item.max_tokens,
            replace(sampling, seed=sampling.seed + i),
            eos_token_ids=tokenizer.eos_token_ids if tokenizer else (),
            detokenizer=tokenizer.detokenizer() if tokenizer else None,
            on_update=on_update,
        )
        for i, item in enumerate(items)
    ]
