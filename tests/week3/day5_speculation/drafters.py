"""The plain rule of the n-gram drafter, for tests. Nothing here comes from the package under test."""

from collections.abc import Sequence


def repeats(tokens: Sequence[int], count: int, max_n: int = 3, min_n: int = 2) -> list[int]:
    """What an n-gram drafter should propose, found by looking everywhere."""
    for n in range(min(max_n, len(tokens) - 1), min_n - 1, -1):
        for place in range(len(tokens) - 1, n - 1, -1):  # of the token that followed; the latest first
            if tokens[place - n : place] == tokens[len(tokens) - n :]:
                followed = list(tokens)
                for ahead in range(count):
                    followed.append(followed[place + ahead])  # which may be a draft itself
                return followed[len(tokens) :]
    return []
