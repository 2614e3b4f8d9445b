"""Task 8: scheduling strategies. A strategy looks at counters only, so no test here needs a model."""

from typing import Any

import pytest

from answer import answer

STRATEGIES = [answer.Fifo, answer.ShortestRemaining, answer.LengthBalance]


def made(prompt: int, max_tokens: int = 8, offset: int = 0, generated: int = 0, overtaken: int = 0) -> Any:
    """A request that has come so far. `prompt` and `generated` are numbers of tokens."""
    request = answer.Request([0] * prompt, max(max_tokens, generated + 1))
    request.offset, request.overtaken = offset, overtaken
    request.generated_tokens = [0] * generated
    return request


def begun(request: Any) -> Any:
    """With a cache of its own, so that it is in the middle of its prompt even if nothing of it is computed."""
    request.kv_cache = []
    return request


def order(strategy: Any, waiting: list[Any], running: list[Any]) -> list[int]:
    """In which order the waiting are chosen when no others come; by their places in the queue."""
    chosen = strategy.choose(waiting, running, len(waiting))
    left = list(waiting)
    for request in chosen:
        assert strategy.choose(left, running, 1) == [request], "one at a time gives the same order as all together"
        left.remove(request)
    return [waiting.index(request) for request in chosen]


def counters(*groups: list[Any]) -> list[tuple[Any, ...]]:
    """All that a strategy could change of these requests."""
    return [
        (r.offset, r.overtaken, r.max_tokens, list(r.prompt), list(r.generated_tokens), r.kv_cache, r.state)
        for group in groups
        for r in group
    ]


def first(strategy: Any, waiting: list[Any]) -> Any:
    (chosen,) = strategy.choose(waiting, [], 1)
    return chosen


class LongestPrompt(answer.Strategy):  # type: ignore[name-defined]
    """A ranking of one's own; it notes which requests it was asked about."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def ranking(self, running: Any) -> Any:
        self.asked.append(running)
        return lambda request: -len(request.prompt) / 100


# What `choose` promises, whatever the ranking.


def test_task_8_fifo() -> None:
    waiting = [made(30), made(2), made(9, max_tokens=1)]
    assert order(answer.Fifo(), waiting, []) == [0, 1, 2], "first come, first served, whatever their sizes"


def test_task_8_a_rank_of_ones_own() -> None:
    strategy, running = LongestPrompt(), [made(5, offset=6)]
    waiting = [made(4), made(9), made(6), made(9)]
    assert order(strategy, waiting, running) == [1, 3, 2, 0], (
        "the lowest rank goes first, and among equals who came first; ranks are floats, here between -0.09 and -0.04"
    )
    assert all(asked == running for asked in strategy.asked), "ranking is asked about those who run"


def test_task_8_a_ranking_is_made_once() -> None:
    strategy = LongestPrompt()
    strategy.choose([made(length) for length in range(1, 9)], [], 3)
    assert len(strategy.asked) == 1, (
        "one ranking per plan, however many wait: what depends on the running is computed in it, once"
    )


def test_task_8_each_choice_has_a_ranking_of_its_own() -> None:
    strategy, short, long = answer.LengthBalance(), made(10), made(30)
    for running, expected in ((made(12, offset=12), short), (made(28, offset=28), long), (made(11, offset=11), short)):
        assert strategy.choose([short, long], [running], 1) == [expected], (
            f"now a sequence of {running.offset} tokens runs, and the prompts have 10 and 30: others may run at each choice,"
            " so a ranking must not outlive its choice"
        )


def test_task_8_the_best_may_stand_at_the_very_end() -> None:
    waiting = [*(made(9) for _ in range(999)), made(2)]
    for strategy, running in ((answer.ShortestRemaining(), []), (answer.LengthBalance(), [made(3, offset=3)])):
        assert strategy.choose(waiting, running, 1) == [waiting[-1]], "each waiting request is looked at, also the last of 1000"


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_task_8_among_equals_who_came_first(strategy: Any) -> None:
    assert order(strategy(), [made(7), made(7), made(7)], [made(5, offset=9)]) == [0, 1, 2], "equal ranks: arrival decides"
    late_ids_first = [made(7), made(7), made(7)][::-1]
    assert order(strategy(), late_ids_first, []) == [0, 1, 2], (
        "arrival is the order of `waiting`: a request may be made early and submitted late, so its id does not tell"
    )


@pytest.mark.parametrize("strategy", [*STRATEGIES, LongestPrompt])
@pytest.mark.parametrize("starving", [False, True])
def test_task_8_choosing_changes_nothing(strategy: Any, starving: bool) -> None:
    overtaken = [40, 33, 1, 0] if starving else [3, 2, 2, 0]
    waiting = [made(length, overtaken=times) for length, times in zip((9, 2, 5, 1), overtaken, strict=True)]
    running = [made(9, offset=12, generated=4), made(30, offset=8)]
    lists, insides = (list(waiting), list(running)), counters(waiting, running)
    for _ in range(3):
        strategy().choose(waiting, running, 2)
    assert (waiting, running) == lists, "choose only says which is next: the owner of the queue takes it out"
    assert counters(waiting, running) == insides, "none is admitted, so none is overtaken, and nothing else changes either"


@pytest.mark.parametrize("strategy", [*STRATEGIES, LongestPrompt])
@pytest.mark.parametrize("starving", [0, 1, 3])
def test_task_8_as_many_as_are_wanted_and_there(strategy: Any, starving: int) -> None:
    waiting = [made(length, overtaken=32 * (place < starving)) for place, length in enumerate((9, 2, 5))]
    for wanted, expected in ((0, 0), (1, 1), (2, 2), (3, 3), (9, 3)):
        chosen = strategy().choose(waiting, [], wanted)
        assert len(chosen) == expected, f"{wanted} are wanted and 3 are there, of which {starving} have waited too long"
        assert len({request.request_id for request in chosen}) == expected, "none is chosen twice"
    assert list(strategy().choose([], [], 2)) == [], "none waits"


@pytest.mark.parametrize("strategy", [*STRATEGIES, LongestPrompt])
def test_task_8_the_queue_need_not_be_a_list(strategy: Any) -> None:
    queue = {request.request_id: request for request in (made(9, overtaken=32), made(2), made(5))}
    chosen = strategy().choose(queue.values(), [], 2)
    assert chosen[0] is next(iter(queue.values())), "`waiting` may be any collection, such as the values of the book's queue"


def test_task_8_fifo_does_not_look_at_the_whole_queue() -> None:
    class Queue(list[Any]):
        looks = 0

        def __iter__(self) -> Any:
            for request in list.__iter__(self):
                Queue.looks += 1
                yield request

    waiting = Queue(made(9) for _ in range(1000))
    assert answer.Fifo().choose(waiting, [], 3) == [waiting[0], waiting[1], waiting[2]], "first come, first served"
    assert Queue.looks < 20, f"{Queue.looks} requests were looked at to find the first 3 of 1000: the queue is in order already"


# Shortest remaining.

WORK = {
    "prompt and answer count together": ([made(10, 20), made(2, 3), made(2, 40), made(15, 1)], [1, 3, 0, 2]),
    "a long prompt is work, however short the answer": ([made(30, 1), made(2, 10)], [1, 0]),
    "a long answer is work, however short the prompt": ([made(1, 30), made(10, 10)], [1, 0]),
    "what was generated is no work any more": ([made(5, 8), made(5, 30, generated=25)], [1, 0]),
    "what was computed of the prompt is no work any more": ([made(10, 6), made(50, 5, offset=40)], [1, 0]),
    "equal work in other shares: arrival decides": ([made(20, 10), made(10, 20), made(29, 1)], [0, 1, 2]),
    "equal work the other way round": ([made(10, 20), made(29, 1), made(20, 10)], [0, 1, 2]),
}


@pytest.mark.parametrize("meaning", WORK)
@pytest.mark.parametrize("running", [[], [made(12, 30, offset=20, generated=9)]], ids=["alone", "alongside another"])
def test_task_8_shortest_remaining(meaning: str, running: list[Any]) -> None:
    waiting, expected = WORK[meaning]
    work = [f"{len(w.prompt) - w.offset} + {w.max_tokens - len(w.generated_tokens)}" for w in waiting]
    assert order(answer.ShortestRemaining(), waiting, running) == expected, (
        f"{meaning}: the work, prompt tokens to compute and tokens that may be generated, is {', '.join(work)}"
    )


def test_task_8_shortest_remaining_of_one_that_has_begun() -> None:
    rank = answer.ShortestRemaining().ranking([])
    assert rank(made(50, 30, offset=60, generated=11)) < rank(made(10, 12)), "19 tokens are left, at most, against 22"


# Length balance.

BALANCE = {
    "the mean, not the median or an extreme": ([made(10, offset=10)] * 2 + [made(40, offset=40)], [38, 11, 21], [2, 1, 0]),
    "all who run, not the first or the last": (
        [made(30, offset=30), made(2, offset=2), made(4, offset=4)],
        [29, 4, 11],
        [2, 1, 0],
    ),
    "a distance, in either direction": ([made(20, offset=20)], [5, 24, 19, 30], [2, 1, 3, 0]),
    "a sequence that has grown counts with all its tokens": ([made(5, offset=30, generated=26)], [5, 29], [1, 0]),
    "a half-read prompt counts as a whole": ([made(40, offset=8)], [9, 39], [1, 0]),
    "a prompt that has not been begun counts as a whole": ([begun(made(40))], [1, 39], [1, 0]),
    "some half-read, some grown": ([made(40, offset=8), made(4, offset=20, generated=17)], [12, 22, 31], [2, 1, 0]),
    "those who wait have no part in the mean": ([made(10, offset=10)], [60, 12, 30], [1, 2, 0]),
    "what may still be generated has no part in it": ([made(10, 40, offset=12, generated=3)], [50, 12], [1, 0]),
    "nor has what a newcomer may generate": ([made(30, offset=30)], [10, 24], [1, 0]),
    "equally far, above first": ([made(20, offset=20)], [22, 18], [0, 1]),
    "equally far, below first": ([made(20, offset=20)], [18, 22], [0, 1]),
    "the mean need not be whole, above first": ([made(20, offset=20), made(21, offset=21)], [21, 20], [0, 1]),
    "the mean need not be whole, below first": ([made(20, offset=20), made(21, offset=21)], [20, 21], [0, 1]),
    "with none to match, arrival decides": ([], [30, 2, 9], [0, 1, 2]),
}
"""Running requests, the lengths of the waiting prompts, and their order."""


@pytest.mark.parametrize("meaning", BALANCE)
def test_task_8_length_balance(meaning: str) -> None:
    running, lengths, expected = BALANCE[meaning]
    waiting = [made(length, max_tokens=20 if length == 10 else 50) for length in lengths]
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

    running = Counted([made(10, offset=12), made(20, offset=28)])
    answer.LengthBalance().choose([made(length) for length in range(1, 200)], running, 1)
    assert Counted.looks <= 5, (
        f"the running were gone through {Counted.looks} times for 199 who wait: their mean length is the same for all of them"
    )


# The guard against starvation.


def starved(strategy: Any, *overtaken: int, max_overtakes: int = 3) -> list[int]:
    """The order of prompts of 50, 40, 30 … tokens, of which the last is the shortest, overtaken this many times."""
    strategy.max_overtakes = max_overtakes
    return order(strategy, [made(50 - 10 * place, overtaken=times) for place, times in enumerate(overtaken)], [])


def test_task_8_the_guard_begins_at_max_overtakes() -> None:
    strategy = answer.ShortestRemaining()
    assert starved(strategy, 2, 0) == [1, 0], "overtaken 2 times of 3: once more is allowed"
    assert starved(strategy, 3, 0) == [0, 1], "overtaken 3 times of 3: now it goes first, whatever its rank"
    assert starved(strategy, 4, 0) == [0, 1], "several are admitted in one iteration, so it may be more than max_overtakes"
    assert starved(strategy, 0, 0, 0, max_overtakes=0) == [0, 1, 2], "no overtaking at all is arrival's order"


def test_task_8_of_several_starving_the_first() -> None:
    strategy = answer.ShortestRemaining()
    assert starved(strategy, 4, 3, 2, 0) == [0, 1, 3, 2], "two have waited too long: of these, who came first goes first"
    assert starved(strategy, 3, 3, 3, 0) == [0, 1, 2, 3], (
        "three have been overtaken equally often: the first to come goes first"
    )
    assert starved(strategy, 3, 3, 3) == [0, 1, 2], "all have waited too long"
    waiting = [made(1, overtaken=3), made(9), made(5)]
    assert order(strategy, waiting, []) == [0, 2, 1], "the first has waited too long, and is the shortest, too: it goes once"


@pytest.mark.parametrize("strategy", [answer.ShortestRemaining, answer.LengthBalance, LongestPrompt])
def test_task_8_every_ranking_is_guarded(strategy: Any) -> None:
    starving, liked = (made(9, overtaken=32), made(8 if strategy is not LongestPrompt else 10))
    running = [made(2, offset=3)]
    assert strategy.max_overtakes == 32, "the guard's default"
    assert strategy().choose([starving, liked], running, 1) == [starving], "overtaken max_overtakes times, it goes next"
    starving.overtaken = 31
    assert strategy().choose([starving, liked], running, 1) == [liked], "before that, the rank decides"


def test_task_8_a_strategy_may_have_its_own_bound() -> None:
    class Patient(answer.ShortestRemaining):  # type: ignore[name-defined]
        max_overtakes = 50

    assert first(Patient(), [made(50, overtaken=49), made(1)]).prompt == [0], "overtaken 49 times of 50"
    assert first(Patient(), [made(50, overtaken=50), made(1)]).prompt == [0] * 50, "overtaken 50 times of 50"


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
