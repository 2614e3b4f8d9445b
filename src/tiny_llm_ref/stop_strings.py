"""Stop strings: end the text where one of them begins, even if it arrives in pieces."""

from collections.abc import Sequence

from tiny_llm_kit.course import task


class StopStrings:
    """Lets text through until a stop string appears in it.

    Text that could still turn out to be the beginning of a stop string is held back: text that has been shown can't be taken
    back. With no stop strings everything passes at once.

    Args:
        stops: strings that end the text; they are not part of it.
    Raises:
        ValueError: if one of them is empty.
    """

    def __init__(self, stops: Sequence[str] = ()) -> None:
        if "" in stops:
            raise ValueError("a stop string is empty, which would stop before the first letter: remove it")
        self.stops = tuple(stops)
        self.stopped = False
        self.held = ""

    @task(week=1, day=6, number=2)
    def push(self, text: str) -> str:
        """Take the next piece of text; return what may be shown now. Sets `stopped` when a stop string is complete.

        If there are several in the text, the one that is complete first counts, and among those the longest: so it does not
        matter how the text was cut into pieces. Nothing may be pushed after that.
        """
        text = self.held + text
        found = [(start + len(stop), start) for stop in self.stops if (start := text.find(stop)) >= 0]
        if found:
            self.stopped, self.held = True, ""
            _, start = min(found)
            return text[:start]
        keep = self._possible_start(text)
        self.held = text[len(text) - keep :]
        return text[: len(text) - keep]

    @task(week=1, day=6, number=2)
    def flush(self) -> str:
        """The text has ended without a stop string: return what was held back."""
        text, self.held = self.held, ""
        return text

    @task(week=1, day=6, number=2)
    def _possible_start(self, text: str) -> int:
        """The length of the longest suffix of `text` with which a stop string could begin."""
        longest = max((len(stop) - 1 for stop in self.stops), default=0)
        sizes = range(min(longest, len(text)), 0, -1)
        return next((n for n in sizes if any(stop.startswith(text[-n:]) for stop in self.stops)), 0)
