"""Task 8: scheduling strategies. Most need no model: a strategy looks at counters only."""

from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest

from answer import answer
from support import ToyModel, alone, finish_all, make_prompt

IDS = count()


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


def test_task_8_fifo() -> None:
    waiting = [stub(30), stub(2), stub(9, max_tokens=1)]
    assert order(answer.Fifo(), waiting, []) == [0, 1, 2], "first come, first served, whatever their sizes"


def test_task_8_shortest_remaining() -> None:
    waiting = [stub(10, 20), stub(2, 3), stub(2, 40), stub(15, 1)]
    assert order(answer.ShortestRemaining(), waiting, []) == [1, 3, 0, 2], (
        "work is prompt tokens to compute and tokens to generate together: 30, 5, 42 and 16"
    )


def test_task_8_shortest_remaining_counts_what_is_left() -> None:
    strategy = answer.ShortestRemaining()
    done, fresh = stub(50, 30, offset=60, generated=11), stub(10, 12)
    rank = strategy.ranking([])
    assert rank(done) < rank(fresh), "tokens that were computed or generated are no work any more"
    half, fresh = stub(50, 5, offset=40), stub(10, 6)
    assert rank(half) < rank(fresh), "40 of the 50 prompt tokens are computed: 15 left, against 16"


def test_task_8_length_balance() -> None:
    running = [stub(10, offset=12), stub(20, offset=28)]
    waiting = [stub(3), stub(40), stub(19), stub(25)]
    assert order(answer.LengthBalance(), waiting, running) == [2, 3, 0, 1], (
        "the running sequences hold 20 tokens on average: nearest to it are 19, 25, 3, 40"
    )


def test_task_8_length_balance_with_nobody_to_match() -> None:
    assert order(answer.LengthBalance(), [stub(30), stub(2), stub(9)], []) == [0, 1, 2], "then arrival decides"


@pytest.mark.parametrize("strategy", [answer.Fifo, answer.ShortestRemaining, answer.LengthBalance])
def test_task_8_among_equals_who_came_first(strategy: Any) -> None:
    assert order(strategy(), [stub(7), stub(7), stub(7)], [stub(5, offset=9)]) == [0, 1, 2]


def test_task_8_choosing_leaves_the_queue_alone() -> None:
    waiting = [stub(9), stub(2), stub(5)]
    before = list(waiting)
    for _ in range(3):
        answer.ShortestRemaining().choose(waiting, [], 2)
    assert waiting == before, "choose only says who is next: whoever runs the queue takes it out"
    assert [request.overtaken for request in waiting] == [0, 0, 0], "nobody is admitted yet, so nobody is overtaken"


@pytest.mark.parametrize("strategy", [answer.Fifo, answer.ShortestRemaining, answer.LengthBalance])
def test_task_8_as_many_as_are_wanted_and_there(strategy: Any) -> None:
    waiting = [stub(9), stub(2), stub(5)]
    assert [len(strategy().choose(waiting, [], count)) for count in (1, 2, 3, 9)] == [1, 2, 3, 3]
    assert strategy().choose([], [], 2) == []


def test_task_8_fifo_does_not_look_at_the_whole_queue() -> None:
    class Queue(list[Any]):
        looks = 0

        def __iter__(self) -> Any:
            for request in list.__iter__(self):
                Queue.looks += 1
                yield request

    waiting = Queue(stub(9) for _ in range(1000))
    assert answer.Fifo().choose(waiting, [], 3) == [waiting[0], waiting[1], waiting[2]]
    assert Queue.looks < 20, f"{Queue.looks} requests were looked at to find the first 3 of 1000: the queue is in order already"


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


def test_task_8_a_rank_of_ones_own() -> None:
    class LongestPrompt(answer.Strategy):
        def ranking(self, running: Any) -> Any:
            return lambda request: -len(request.prompt)

    assert order(LongestPrompt(), [stub(4), stub(9), stub(6)], []) == [1, 2, 0], "the lowest rank goes first"


def test_task_8_nobody_is_overtaken_for_ever() -> None:
    strategy = answer.ShortestRemaining()
    strategy.max_overtakes = 5
    book, victim = answer.RequestBook(1000, 260), answer.Request([5] * 100, 100)
    assert first(strategy, [victim]) is victim
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


def test_task_8_of_several_starving_the_first() -> None:
    strategy = answer.ShortestRemaining()
    strategy.max_overtakes = 3
    waiting = [stub(50, overtaken=4), stub(40, overtaken=3), stub(30, overtaken=2), stub(1)]
    assert order(strategy, waiting, []) == [0, 1, 3, 2], "two have waited too long: of these, who came first goes first"
    waiting = [stub(1, overtaken=3), stub(9), stub(5)]
    assert order(strategy, waiting, []) == [0, 2, 1], "the first has waited too long, and is the shortest, too: it goes once"


def test_task_8_there_is_a_guard_by_default() -> None:
    strategy = answer.ShortestRemaining()
    assert first(strategy, [stub(50, overtaken=strategy.max_overtakes), stub(1)]).prompt == [0] * 50


def serve(toy: ToyModel, strategy: Any, requests: list[Any]) -> list[int]:
    """One slot: the order in which the engine serves them, as places in `requests`."""
    scheduler = answer.ContinuousBatchScheduler(toy, 1, max_seq_len=64, strategy=strategy)
    for request in requests:
        scheduler.submit(request)
    return [requests.index(request) for request in finish_all(scheduler)]


@pytest.mark.parametrize(("name", "expected"), [("Fifo", [0, 1, 2, 3]), ("ShortestRemaining", [2, 0, 3, 1])])
def test_task_8_the_engine_asks_its_strategy(toy: ToyModel, name: str, expected: list[int]) -> None:
    strategy = getattr(answer, name)()
    assert first(strategy, [stub(1)]).overtaken == 0
    requests = [answer.Request(make_prompt(5), max_tokens) for max_tokens in (4, 9, 2, 6)]
    assert serve(toy, strategy, requests) == expected, "with one slot, requests end in the order in which they were admitted"
    for request in requests:
        assert request.generated_tokens == alone(toy, request.prompt, request.max_tokens), "the order changes no answer"


def test_task_8_fifo_is_the_default(toy: ToyModel) -> None:
    assert first(answer.Fifo(), [stub(1)]).overtaken == 0
    requests = [answer.Request(make_prompt(length), 3) for length in (9, 3, 6)]
    assert serve(toy, None, requests) == [0, 1, 2]


def test_task_8_a_stream_of_short_requests_cannot_starve_a_long_one(toy: ToyModel) -> None:
    strategy = answer.ShortestRemaining()
    strategy.max_overtakes = 4
    victim = answer.Request(make_prompt(20), 20)
    assert first(strategy, [victim]) is victim
    scheduler = answer.ContinuousBatchScheduler(toy, 1, max_seq_len=64, strategy=strategy)
    submitted = 0

    def submit_another(request: Any = None, new_text: str = "") -> None:
        nonlocal submitted
        if submitted < 40 and (request is None or request.state == "finished"):
            submitted += 1
            scheduler.submit(answer.Request(make_prompt(3, seed=submitted), 2, on_update=submit_another))

    scheduler.submit(victim)
    for _ in range(3):  # so that there is always somebody shorter in the queue
        submit_another()
    place = finish_all(scheduler).index(victim)
    assert place > 0, "shorter requests were there from the start: at first they go first"
    assert place <= 4, f"{place} short requests were served while the long one waited; max_overtakes is 4: it starves"
