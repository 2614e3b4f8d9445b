"""One item to be served, before it is a request: the common form for prompts files, workloads and programs.

A request remembers its progress, so each run makes its own from these (see `requests`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

LABEL_WIDTH = 24


@dataclass(frozen=True)
class WorkItem:
    """A prompt and how long its answer may be.

    prompt: token ids; empty while there is only `text` (see `requests.in_chat_form`).
    max_tokens: most tokens of the answer.
    arrival: seconds after the start.
    text, title: what the user wrote and what tables call it, where the prompt is real text.
    """

    prompt: tuple[int, ...]
    max_tokens: int
    arrival: float = 0.0
    text: str = ""
    title: str = ""

    @property
    def label(self) -> str:
        """A few words for tables: the title, or the beginning of the text."""
        return (self.title or self.text).replace("\n", " ")[:LABEL_WIDTH]


def needed_seq_len(items: Sequence[WorkItem]) -> int:
    """The tokens that a slot must hold for the longest of the items, prompt and answer together."""
    return max(len(item.prompt) + item.max_tokens for item in items)
