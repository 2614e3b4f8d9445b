"""From tokens to text that can be shown at once, up to the first stop string."""

from collections.abc import Sequence

from tiny_llm_kit.course import task
from tiny_llm_kit.models.tokenizer import StreamingDetokenizer

from .stop_strings import StopStrings


class TextStream:
    """The text of one answer, piece by piece: a token may be part of a letter, and part of a stop string.

    Args:
        detokenizer: a fresh one; `add_token(id)`, then `last_segment` is the new text; `finalize()` at the end.
        stop: strings that end the text and are not part of it.
    Raises:
        ValueError: if a stop string is empty.
    """

    def __init__(self, detokenizer: StreamingDetokenizer, stop: Sequence[str] = ()) -> None:
        self.detokenizer = detokenizer
        self.stop_strings = StopStrings(stop)

    @property
    def stopped(self) -> bool:
        """Whether a stop string is complete: nothing may be pushed after it."""
        return self.stop_strings.stopped

    @task(week=1, day=6, number=3)
    def push(self, token: int) -> str:
        """Take the next token; return the text that it makes final, which may be empty."""
        self.detokenizer.add_token(token)
        return self.stop_strings.push(self.detokenizer.last_segment)

    @task(week=1, day=6, number=3)
    def finish(self) -> str:
        """The tokens have ended: return the text that was held back, up to a stop string that only now becomes complete.

        Nothing follows a stop string, so the rest is then empty.
        """
        if self.stopped:
            return ""
        self.detokenizer.finalize()
        rest = self.stop_strings.push(self.detokenizer.last_segment)
        return rest if self.stopped else rest + self.stop_strings.flush()
