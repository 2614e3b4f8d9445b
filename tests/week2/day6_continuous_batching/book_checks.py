"""What the tests of task 1 share: requests that write text, and a book that notes what it gives back and what it reports."""

from collections.abc import Iterable
from typing import Any

from answer import answer
from tiny_llm_kit.models.tiny_random import ByteTokenizer

TOKENIZER = ByteTokenizer()
(EOS,) = TOKENIZER.eos_token_ids

ENDS = ("finished", "cancelled", "failed")
"""How the log calls the ways to end."""

STOPS = [
    ("one END two", ["END"], "one "),
    ("one two", ["on"], ""),
    ("aab then", ["ab"], "a"),
    ("xSTARTx END", ["END", "ART"], "xST"),
    ("EN END", ["END"], "EN "),
    ("grün é", ["é"], "grün "),
]
"""What is said, the stop strings, and the text that is left."""


def codes(*said: str | bytes | int) -> list[int]:
    """The tokens of `said`, one per byte; an int is a token."""
    tokens: list[int] = []
    for piece in said:
        tokens += [piece] if isinstance(piece, int) else TOKENIZER.encode(piece) if isinstance(piece, str) else piece
    return tokens


def text_request(max_tokens: int = 100, **options: Any) -> Any:
    """A request that writes text and ends at `EOS`."""
    options = {"detokenizer": TOKENIZER.detokenizer(), "eos_token_ids": [EOS]} | options
    return answer.Request([1, 2, 3], max_tokens, **options)


def speak(request: Any, *said: str | bytes | int) -> None:
    """Let the request accept the tokens of `said` until it has ended."""
    for token in codes(*said):
        if request.state != "finished":
            request.accept(token)


class Log:
    """Takes the place of the metrics (task 7), and keeps what the book tells them."""

    def __init__(self) -> None:
        self.states: list[Any] = []

    def update(self, state: Any) -> None:
        self.states.append(state)

    def of(self, request: Any) -> list[Any]:
        """The events of one request."""
        return [event for state in self.states for event in state.events if event.request_id == request.request_id]

    def kinds(self, request: Any) -> list[str]:
        """What happened to one request."""
        return [event.kind.value for event in self.of(request)]


class WatchedBook(answer.RequestBook):  # type: ignore[name-defined]
    """`released` lists the requests that the book gave back, in order; `log` is what it told the metrics."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"max_seq_len": 200, "vocab_size": 260} | options)
        self.released: list[Any] = []
        self.metrics = self.log = Log()

    def release(self, request: Any) -> None:
        self.released.append(request)


def serve(book: Any, *requests: Any) -> None:
    """Submit and admit them."""
    for request in requests:
        book.submit(request)
        book.admit(request)


def take_all(book: Any, request: Any, tokens: Iterable[int]) -> list[int]:
    """Hand the request these tokens; how many it kept of each."""
    return [book.take(request, token) for token in tokens]


def ended(book: Any) -> list[Any]:
    """Close an iteration; those that have ended since the last one."""
    result: list[Any] = book.close_iteration(0, 1, 0, 0)
    return result


class FailingDetokenizer:
    """Raises once: at `"a token"`, or else when the text ends."""

    def __init__(self, fails_at: str, error: BaseException) -> None:
        self.fails_at, self.error, self.last_segment = fails_at, error, ""

    def add_token(self, token: int) -> None:
        if self.fails_at == "a token":
            raise self.error

    def finalize(self) -> None:
        if self.fails_at != "a token":
            raise self.error
