"""What the tests of the speculating engine share: drafters that know the answer, and small engines that ask them."""

from collections.abc import Callable, Sequence
from typing import Any

from answer import answer
from support import ToyModel, alone

ALL = 1000
"""More right drafts than are ever asked for."""

ORACLE, ADVERSARY = ALL, 0
"""How many drafts of each call are right."""


class Knowing:
    """Knows how some sequences go on. The first `right` drafts of each call are right, and those after them are wrong.

    `asked` notes for each call how many tokens were known, and how many drafts were asked for.
    """

    def __init__(self, sequences: Sequence[Sequence[int]], right: int = ORACLE) -> None:
        self.sequences = [list(sequence) for sequence in sequences]
        self.right = right
        self.asked: list[tuple[int, int]] = []

    def propose(self, tokens: Sequence[int], count: int) -> list[int]:
        self.asked.append((len(tokens), count))
        known = len(tokens)
        for sequence in self.sequences:
            if sequence[:known] == list(tokens):
                ahead = sequence[known : known + count]
                return [token if place < self.right else wrong(token) for place, token in enumerate(ahead)]
        return []


def wrong(token: int) -> int:
    """Another token."""
    return token ^ 1


class Scripted:
    """Drafts what a function says."""

    def __init__(self, says: Callable[[Sequence[int], int], list[int]]) -> None:
        self.says = says

    def propose(self, tokens: Sequence[int], count: int) -> list[int]:
        return self.says(tokens, count)


def sequence_of(toy: ToyModel, request: Any) -> list[int]:
    """A request's prompt, and all the tokens that it could get alone, beyond any EOS, too."""
    return [*request.prompt, *alone(toy, request.prompt, request.max_tokens)]


def engine(model: Any, drafter: Callable[[], Any], **options: Any) -> Any:
    """4 drafts at a time; 32 blocks of 4 tokens; 4 requests and 24 tokens per step at most."""
    sizes = {"num_blocks": 32, "block_size": 4, "max_num_seqs": 4, "max_num_batched_tokens": 24, "adaptive": None}
    return answer.SpeculativeEngine(model, drafter=drafter, **{**sizes, **options})


def engine_knowing(
    toy: ToyModel, requests: Sequence[Any], right: int = ORACLE, model: Any = None, **options: Any
) -> tuple[Any, list[Knowing]]:
    """An engine whose drafters know what these requests say alone, and the drafters that it has made."""
    sequences = [sequence_of(toy, request) for request in requests]
    made: list[Knowing] = []

    def make() -> Knowing:
        made.append(Knowing(sequences, right))
        return made[-1]

    return engine(model or toy, make, **options), made
