"""Task 8: scheduling strategies. A strategy looks at counters only, so no test here needs a model."""

from copy import deepcopy
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest

from answer import answer

IDS = count()
STRATEGIES = [answer.Fifo, answer.ShortestRemaining, answer.LengthBalance]


def stub(prompt: int, max_tokens: int = 8, offset: int = 0, generated: int = 0, overtaken: int = 0) -> Any:
    """What a strategy may know of a request. `prompt` and `generated` are numbers of tokens."""
    return SimpleNamespace(
        request_id=next(IDS),
        prompt=[0] * prompt,
        max_tokens=max_tokens,
        offset=offset,
        generated_tokens=[0] * generated,
        overtaken=overtaken,
    )


def order(strategy: Any, waiting: list[Any], running: list[Any]) -> list[int]:
    """In which order the waiting are chosen when nobody else comes; by their places in the queue."""
    chosen = strategy.choose(waiting, running, len(waiting))
    left = list(waiting)
    for request in chosen:
        assert strategy.choose(left, running, 1) == [request], "one at a time gives the same order as all together"
        left.remove(request)
    return [waiting.index(request) for request in chosen]


def first(strategy: Any, waiting: list[Any]) -> Any:
    (chosen,) = strategy.choose(waiting, [], 1)
    return chosen


class LongestPrompt(answer.Strategy):  # type: ignore[name-defined]
    """A ranking of one's own; it notes whom it was asked about."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def ranking(self, running: Any) -> Any:
        self.asked.append(running)
        return lambda request: -len(request.prompt) / 100


# What `choose` promises, whatever the ranking.


def test_task_8_fifo() -> None:
    waiting = [stub(30), stub(2), stub(9, max_tokens=1)]
    assert order(answer.Fifo(), waiting, []) == [0, 1, 2], "first come, first served, whatever their sizes"


def test_task_8_a_rank_of_ones_own() -> None:
    strategy, running = LongestPrompt(), [stub(5, offset=6)]
    waiting = [stub(4), stub(9), stub(6), stub(9)]
    assert order(strategy, waiting, running) == [1, 3, 2, 0], (
        "the lowest rank goes first, and among equals who came first; ranks are floats, here between -0.09 and -0.04"
    )
    assert all(asked == running for asked in strategy.asked), "ranking is asked about those who run"


def test_task_8_a_ranking_is_made_once() -> None:
    strategy = LongestPrompt()
    strategy.choose([stub(length) for length in range(1, 9)], [], 3)
    assert len(strategy.asked) == 1, (
        "one ranking for a plan, whoever waits: what depends on the running is computed in it, once"
    )


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_task_8_among_equals_who_came_first(strategy: Any) -> None:
    assert order(strategy(), [stub(7), stub(7), stub(7)], [stub(5, offset=9)]) == [0, 1, 2], "equal ranks: arrival decides"


@pytest.mark.parametrize("strategy", [*STRATEGIES, LongestPrompt])
@pytest.mark.parametrize("starving", [False, True])
def test_task_8_choosing_changes_nothing(strategy: Any, starving: bool) -> None:
    overtaken = [40, 33, 1, 0] if starving else [3, 2, 2, 0]
    waiting = [stub(length, overtaken=times) for length, times in zip((9, 2, 5, 1), overtaken, strict=True)]
    running = [stub(9, offset=12, generated=4), stub(30, offset=8)]
    lists, insides = (list(waiting), list(running)), deepcopy((waiting, running))
    for _ in range(3):
        strategy().choose(waiting, running, 2)
    assert (waiting, running) == lists, "choose only says who is next: whoever runs the queue takes it out"
    assert (waiting, running) == insides, "nobody is admitted yet, so nobody is overtaken, and nothing else changes either"


@pytest.mark.parametrize("strategy", [*STRATEGIES, LongestPrompt])
@pytest.mark.parametrize("starving", [0, 1, 3])
def test_task_8_as_many_as_are_wanted_and_there(strategy: Any, starving: int) -> None:
    waiting = [stub(length, overtaken=32 * (place < starving)) for place, length in enumerate((9, 2, 5))]
    for wanted, expected in ((0, 0), (1, 1), (2, 2), (3, 3), (9, 3)):
        chosen = strategy().choose(waiting, [], wanted)
        assert len(chosen) == expected, f"{wanted} are wanted and 3 are there, of whom {starving} have waited too long"
        assert len({request.request_id for request in chosen}) == expected, "nobody is chosen twice"
    assert list(strategy().choose([], [], 2)) == [], "nobody waits"


@pytest.mark.parametrize("strategy", [*STRATEGIES, LongestPrompt])
def test_task_8_the_queue_need_not_be_a_list(strategy: Any) -> None:
    queue = {request.request_id: request for request in (stub(9, overtaken=32), stub(2), stub(5))}
    chosen = strategy().choose(queue.values(), [], 2)
    assert chosen[0] is next(iter(queue.values())), "`waiting` may be any collection, such as the values of the book's queue"


def test_task_8_fifo_does_not_look_at_the_whole_queue() -> None:
    class Queue(list[Any]):
        looks = 0

        def __iter__(self) -> Any:
            for request in list.__iter__(self):
                Queue.looks += 1
                yield request

    waiting = Queue(stub(9) for _ in range(1000))
    assert answer.Fifo().choose(waiting, [], 3) == [waiting[0], waiting[1], waiting[2]], "first come, first served"
    assert Queue.looks < 20, f"{Queue.looks} requests were looked at to find the first 3 of 1000: the queue is in order already"


# Shortest remaining.

WORK = {
    "prompt and answer count together": ([stub(10, 20), stub(2, 3), stub(2, 40), stub(15, 1)], [1, 3, 0, 2]),
    "a long prompt is work, however short the answer": ([stub(30, 1), stub(2, 10)], [1, 0]),
    "a long answer is work, however short the prompt": ([stub(1, 30), stub(10, 10)], [1, 0]),
    "what was generated is no work any more": ([stub(5, 8), stub(5, 30, generated=25)], [1, 0]),
    "what was computed of the prompt is no work any more": ([stub(10, 6), stub(50, 5, offset=40)], [1, 0]),
    "equal work in other shares: arrival decides": ([stub(20, 10), stub(10, 20), stub(29, 1)], [0, 1, 2]),
    "equal work the other way round": ([stub(10, 20), stub(29, 1), stub(20, 10)], [0, 1, 2]),
}


@pytest.mark.parametrize("meaning", WORK)
@pytest.mark.parametrize("running", [[], [stub(12, 30, offset=20, generated=9)]], ids=["alone", "alongside another"])
def test_task_8_shortest_remaining(meaning: str, running: list[Any]) -> None:
    waiting, expected = WORK[meaning]
    work = [f"{len(w.prompt) - w.offset} + {w.max_tokens - len(w.generated_tokens)}" for w in waiting]
    assert order(answer.ShortestRemaining(), waiting, running) == expected, (
        f"{meaning}: the work, prompt tokens to compute and tokens that may be generated, is {', '.join(work)}"
    )


def test_task_8_shortest_remaining_of_one_that_has_begun() -> None:
    rank = answer.ShortestRemaining().ranking([])
    assert rank(stub(50, 30, offset=60, generated=11)) < rank(stub(10, 12)), "19 tokens are left, at most, against 22"


# Length balance.

BALANCE = {
    "the mean, not the median or an extreme": ([stub(10, offset=10)] * 2 + [stub(40, offset=40)], [38, 11, 21], [2, 1, 0]),
    "all who run, not the first or the last": (
        [stub(30, offset=30), stub(2, offset=2), stub(4, offset=4)],
        [29, 4, 11],
        [2, 1, 0],
    ),
    "a distance, in either direction": ([stub(20, offset=20)], [5, 24, 19, 30], [2, 1, 3, 0]),
    "a sequence that has grown counts with all its tokens": ([stub(5, offset=30, generated=26)], [5, 29], [1, 0]),
    "a half-read prompt counts as a whole": ([stub(40, offset=8)], [9, 39], [1, 0]),
    "a prompt that nobody has begun to read counts as a whole": ([stub(40)], [1, 39], [1, 0]),
    "some half-read, some grown": ([stub(40, offset=8), stub(4, offset=20, generated=17)], [12, 22, 31], [2, 1, 0]),
    "those who wait have no part in the mean": ([stub(10, offset=10)], [60, 12, 30], [1, 2, 0]),
    "what may still be generated has no part in it": ([stub(10, 40, offset=12, generated=3)], [50, 12], [1, 0]),
    "nor has what a newcomer may generate": ([stub(30, offset=30)], [10, 24], [1, 0]),
    "equally far, above first": ([stub(20, offset=20)], [22, 18], [0, 1]),
    "equally far, below first": ([stub(20, offset=20)], [18, 22], [0, 1]),
    "the mean need not be whole, above first": ([stub(20, offset=20), stub(21, offset=21)], [21, 20], [0, 1]),
    "the mean need not be whole, below first": ([stub(20, offset=20), stub(21, offset=21)], [20, 21], [0, 1]),
    "with nobody to match, arrival decides": ([], [30, 2, 9], [0, 1, 2]),
}
"""Who runs, the lengths of the waiting prompts, and their order."""


@pytest.mark.parametrize("meaning", BALANCE)
def test_task_8_length_balance(meaning: str) -> None:
    running, lengths, expected = BALANCE[meaning]
    waiting = [stub(length, max_tokens=20 if length == 10 else 50) for length in lengths]
    lengths_running = [max(request.offset, len(request.prompt)) for request in running]
    assert order(answer.LengthBalance(), waiting, running) == expected, (
        f"{meaning}: the running sequences have {lengths_running} tokens; of prompts of {lengths}, the nearest to the mean goes"
        " first"
    )


def test_task_8_the_running_are_looked_at_once() -> None:
    class Counted(list[Any]):
        looks = 0

        def __iter__(self) -> Any:
            Counted.looks += 1
            return super().__iter__()

    running = Counted([stub(10, offset=12), stub(20, offset=28)])
    answer.LengthBalance().choose([stub(length) for length in range(1, 200)], running, 1)
    assert Counted.looks <= 5, (
        f"the running were gone through {Counted.looks} times for 199 who wait: their mean length is the same for all of them"
    )


# The guard against starvation.


def starved(strategy: Any, *overtaken: int, max_overtakes: int = 3) -> list[int]:
    """The order of prompts of 50, 40, 30 … tokens, of which the last is the shortest, overtaken so many times."""
    strategy.max_overtakes = max_overtakes
    return order(strategy, [stub(50 - 10 * place, overtaken=times) for place, times in enumerate(overtaken)], [])


def test_task_8_the_guard_begins_at_max_overtakes() -> None:
    strategy = answer.ShortestRemaining()
    assert starved(strategy, 2, 0) == [1, 0], "overtaken 2 times of 3: once more is allowed"
    assert starved(strategy, 3, 0) == [0, 1], "overtaken 3 times of 3: now it goes first, whatever its rank"
    assert starved(strategy, 4, 0) == [0, 1], "several are admitted in one iteration, so it may be more than max_overtakes"
    assert starved(strategy, 0, 0, 0, max_overtakes=0) == [0, 1, 2], "no overtaking at all is arrival's order"


def test_task_8_of_several_starving_the_first() -> None:
    strategy = answer.ShortestRemaining()
    assert starved(strategy, 4, 3, 2, 0) == [0, 1, 3, 2], "two have waited too long: of these, who came first goes first"
    assert starved(strategy, 3, 3, 3, 0) == [0, 1, 2, 3], "three have been overtaken equally often: who came first goes first"
    assert starved(strategy, 3, 3, 3) == [0, 1, 2], "all have waited too long"
    waiting = [stub(1, overtaken=3), stub(9), stub(5)]
    assert order(strategy, waiting, []) == [0, 2, 1], "the first has waited too long, and is the shortest, too: it goes once"


@pytest.mark.parametrize("strategy", [answer.ShortestRemaining, answer.LengthBalance, LongestPrompt])
def test_task_8_every_ranking_is_guarded(strategy: Any) -> None:
    starving, liked = (stub(9, overtaken=32), stub(8 if strategy is not LongestPrompt else 10))
    running = [stub(2, offset=3)]
    assert strategy.max_overtakes == 32, "the guard's default"
    assert strategy().choose([starving, liked], running, 1) == [starving], "overtaken max_overtakes times, it goes next"
    starving.overtaken = 31
    assert strategy().choose([starving, liked], running, 1) == [liked], "before that, the rank decides"


def test_task_8_a_strategy_may_have_its_own_bound() -> None:
    class Patient(answer.ShortestRemaining):  # type: ignore[name-defined]
        max_overtakes = 50

    assert first(Patient(), [stub(50, overtaken=49), stub(1)]).prompt == [0], "overtaken 49 times of 50"
    assert first(Patient(), [stub(50, overtaken=50), stub(1)]).prompt == [0] * 50, "overtaken 50 times of 50"


def test_task_8_nobody_is_overtaken_for_ever() -> None:
    strategy = answer.ShortestRemaining()
    strategy.max_overtakes = 5
    book, victim = answer.RequestBook(1000, 260), answer.Request([5] * 100, 100)
    assert first(strategy, [victim]) is victim, "alone, it goes first"
    book.submit(victim)
    for turn in range(50):
        for _ in range(2):
            book.submit(answer.Request([5], 1))
        chosen = first(strategy, list(book.waiting.values()))
        book.admit(chosen)
        if chosen is victim:
            assert turn == 5, f"chosen after {turn} others: it may be overtaken max_overtakes = 5 times, no less and no more"
            return
    pytest.fail("50 newcomers went first and the long request starves: look at the guard in choose")
