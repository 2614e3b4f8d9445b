"""Week 3 Day 7, task 6: how many replicas there should be, and what a simulation makes of it."""

from collections.abc import Iterable
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from answer import answer
from replica_runs import Listener, PerToken, item, sizes
from support import refuses


def scaler(target_load: float = 10, **options: Any) -> Any:
    return answer.Autoscaler(target_load, **{"least": 1, "most": 8, "up_delay": 3.0, "down_delay": 6.0, **options})


def looks(autoscaler: Any, loads: Iterable[float], replicas: int, start: float = 0.0) -> list[int]:
    """How many replicas there are after each look, one per second, if all that is decided is done."""
    found = []
    for second, load in enumerate(loads):
        replicas = autoscaler.decide(start + second, load, replicas)
        found.append(replicas)
    return found


@pytest.mark.parametrize(
    ("load", "wanted"), [(0, 1), (1, 1), (10, 1), (10.5, 2), (11, 2), (20, 2), (21, 3), (80, 8), (81, 8), (1e9, 8)]
)
def test_task_6_as_many_as_the_load_wants(load: float, wanted: int) -> None:
    assert scaler().wanted(load) == wanted, f"{load} open requests, 10 of them per replica, and from 1 to 8 replicas"


def test_task_6_bounds_hold() -> None:
    bounded = scaler(least=2, most=3)
    assert [bounded.wanted(load) for load in (0, 15, 25, 1000)] == [2, 2, 3, 3], "from 2 to 3 replicas, whatever the load is"
    got = looks(bounded, [0] * 20 + [1000] * 20 + [0] * 20, 2)
    assert set(got) == {2, 3}, f"never fewer than 2 and never more than 3: {got}"
    assert bounded.decide(100, 15, 1) == 2, "one of two has died: the least number does not wait"
    assert bounded.decide(101, 15, 9) == 3, "more than there may be: at once"


def test_task_6_it_waits_before_there_are_more() -> None:
    assert looks(scaler(), [5, 35, 35, 35, 35, 35], 1) == [1, 1, 1, 1, 4, 4], (
        "the load wants 4 from second 1 on; 3 seconds later, at second 4, it has wanted them long enough"
    )
    assert looks(scaler(up_delay=0.0), [35], 1) == [4], "without a delay: at the first look"


def test_task_6_a_peak_moves_nothing() -> None:
    assert looks(scaler(), [5, 95, 5, 95, 95, 5, 95, 95, 95, 5], 1) == [1] * 10, "no peak lasts 3 seconds"
    assert looks(scaler(), [5, 25, 95, 35, 25, 25], 1) == [1, 1, 1, 1, 3, 3], (
        "for 3 seconds more than one was wanted, and at every look at least 3: not the 8 of one of them"
    )


def test_task_6_it_waits_longer_before_there_are_fewer() -> None:
    assert looks(scaler(), [35] * 2 + [5] * 8, 4) == [4] * 8 + [1, 1], "the load wants one from second 2 on, 6 seconds long"
    assert looks(scaler(), [5] * 4 + [25] + [5] * 3, 4) == [4] * 6 + [3, 3], (
        "for 6 seconds fewer than 4 were wanted, and never more than 3: down to 3, not to 1"
    )
    assert looks(scaler(), ([5] * 5 + [35]) * 5, 4) == [4] * 30, "every sixth look wants all four: none goes"


def test_task_6_after_a_change_the_time_begins_anew() -> None:
    assert looks(scaler(), [15] * 4 + [45] * 6, 1) == [1, 1, 1, 2, 2, 2, 2, 5, 5, 5], (
        "from 1 to 2 at second 3; at second 4 the load wants 5, and gets them 3 seconds later"
    )
    assert looks(scaler(), [75] * 4 + [5] * 8, 1) == [1, 1, 1, 8, 8, 8, 8, 8, 8, 8, 1, 1], (
        "to 8 at second 3, and down when fewer have been wanted for 6 seconds, from second 4 on"
    )


def test_task_6_being_brought_within_the_bounds_is_a_change() -> None:
    bounded = scaler(least=2)
    got = [bounded.decide(now, 25, replicas) for now, replicas in ((0, 2), (2, 1), (3, 2), (5, 2), (6, 2))]
    assert got == [2, 2, 2, 2, 3], (
        f"three are wanted from second 0 on; at second 2 one of two is missing and comes back at once, which is a change:"
        f" the time starts over at second 3. {got}"
    )


def test_task_6_a_load_between_two_numbers_does_not_flap() -> None:
    assert looks(scaler(), [19, 21, 21] * 100, 2) == [2] * 300, "three are never wanted for 3 seconds"
    assert looks(scaler(), [19, 19, 19, 21] * 75, 3) == [3] * 300, "two are never wanted for 6 seconds"
    random = Random(2)
    loads = [20 + random.choice([-1, 1]) for _ in range(300)]
    changes = [sum(a != b for a, b in pairwise(numbers)) for numbers in (looks(scaler(), loads, 2), loads)]
    assert changes[0] < changes[1] / 20, f"a load around two replicas' worth, at random: {changes[0]} changes of {changes[1]}"


def test_task_6_those_that_start_count() -> None:
    """Who counts only the replicas that serve asks for more and more while the first are starting."""
    asked = scaler(up_delay=0.0)
    assert [asked.decide(second, 35, replicas) for second, replicas in enumerate([1, 4, 4])] == [4, 4, 4], (
        "4 are there or starting, and 4 are wanted"
    )


def test_task_6_bad_input_is_refused() -> None:
    scaler().decide(0, 1, 1)
    for options in ({"least": 0}, {"least": 5, "most": 4}, {"up_delay": -1.0}, {"down_delay": -1.0}, {"cold_start": -1.0}):
        with refuses(ValueError, f"{options} must be refused", str(next(iter(options.values())))):
            scaler(**options)
    for options in ({"target_load": 0}, {"interval": 0.0}, {"target_load": float("nan")}):
        with refuses(ValueError, f"{options} must be refused", next(iter(options))):
            scaler(**options)


def crowd(count: int, start: float = 0.0, gap: float = 0.1, max_tokens: int = 10) -> list[Any]:
    return [item(start + gap * number, 8, max_tokens, first=number) for number in range(count)]


def run(items: list[Any], router: Any, autoscaler: Any, replicas: int = 1, **options: Any) -> Any:
    scaler().wanted(1)  # where nothing is done yet, the first thing to do is this task, and not the simulation's
    return answer.simulate_replicas(items, router, replicas, PerToken(1.0), sizes(**options), autoscaler)


def test_task_6_a_new_replica_is_cold() -> None:
    """Four requests per second; more than one replica is wanted from the first look on, at 1 s."""
    router, items = Listener(), crowd(120, gap=0.25)
    run(items, router, scaler(up_delay=0.0, cold_start=10.0, down_delay=100.0, most=2, target_load=2))
    when = [one.arrival for one, offered in zip(items, router.offered, strict=True) if len(offered) > 1]
    assert when, "the load wants a second replica at the first look, and it is never offered to the router"
    assert when[0] == 11, f"asked for at 1 s, it can serve from 11 s on; it was offered first at {when[0]} s"
    assert [one.arrival for one in items if one.arrival >= 11] == when, "from then on it is always there"


def test_task_6_looks_are_an_interval_apart_with_the_load_of_the_time() -> None:
    seen = []

    class Watching(answer.Autoscaler):  # type: ignore[misc, name-defined]
        def decide(self, now: float, load: float, replicas: int) -> int:
            seen.append((now, load, replicas))
            return int(replicas)

    items = [item(0, max_tokens=3), item(0.5, max_tokens=3, first=1), item(4.5, max_tokens=2, first=2)]
    run(items, Listener(), Watching(10, interval=2.0))
    assert seen[:3] == [(2.0, 2, 1), (4.0, 1, 1), (6.0, 1, 1)], (
        f"at 2 s two requests are open, at 4 s and at 6 s one: what has ended at a look counts no more. Looks (now, load,"
        f" replicas): {seen}"
    )


def test_task_6_whoever_comes_at_a_look_is_seen_by_it() -> None:
    loads = []

    class Watching(answer.Autoscaler):  # type: ignore[misc, name-defined]
        def decide(self, now: float, load: float, replicas: int) -> int:
            loads.append(load)
            return int(replicas)

    run([item(2.0, max_tokens=5), item(4.0, max_tokens=5, first=1)], Listener(), Watching(10, interval=2.0))
    assert loads[:2] == [1, 2], f"requests come at 2 s and at 4 s, and the load is looked at then, too: {loads[:2]}"


def test_task_6_those_that_start_are_told_to_the_autoscaler() -> None:
    counts = []

    class Watching(answer.Autoscaler):  # type: ignore[misc, name-defined]
        def decide(self, now: float, load: float, replicas: int) -> int:
            counts.append(replicas)
            return 3

    report = run(crowd(80), Listener(), Watching(10, cold_start=1000.0))
    assert counts[:3] == [1, 3, 3], f"one serves and two are starting: three. decide was told {counts[:3]}"
    assert len(report.replicas) == 3, "so there are no more than three"


def test_task_6_the_autoscaler_is_told_of_all_open_requests_and_of_those_who_stay() -> None:
    told = []

    class Watching(answer.Autoscaler):  # type: ignore[misc, name-defined]
        def decide(self, now: float, load: float, replicas: int) -> int:
            told.append((load, replicas))
            return 2

    items = [item(0.1 * number, max_tokens=9, first=number) for number in range(7)]
    run(items, answer.RoundRobin(), Watching(10), replicas=3)
    assert told[:3] == [(7, 3), (7, 2), (7, 2)], (
        f"7 requests are open in the whole fleet; from the first look on one of three replicas drains, and two stay. decide was"
        f" told (load, replicas): {told[:3]}"
    )


def test_task_6_those_who_go_serve_what_they_have() -> None:
    """Two replicas; at 1 s one is wanted. The younger one has a long answer to end, and gets nothing new."""
    router = Listener("replica 1", "replica 0", "replica 0")
    items = [item(0, max_tokens=20), item(0.5, first=1), item(3, first=2), item(40, first=3)]
    report = run(items, router, scaler(least=1, down_delay=0.0), replicas=2)
    assert len(report.ttfts) == 4, "every request is served to its end"
    older, younger = report.replicas
    assert [len(older.requests), len(younger.requests)] == [3, 1], "the younger one keeps its request"
    assert router.offered == [["replica 0", "replica 1"]] * 2 + [["replica 0"]] * 2, "from 1 s on the router is not offered it"
    assert 20 <= younger.stopped <= 22, f"it goes when its answer has ended, at 20 s: {younger.stopped}"
    died = router.heard.index(("died", "replica 1"))
    assert died > router.heard.index(("finished", 0, "replica 1")), "the router hears of it when it is gone, after its last end"


def test_task_6_nobody_is_taken_away_twice_and_names_are_new() -> None:
    items = [*crowd(60), *crowd(60, start=300.0)]
    router = answer.LeastTokens()
    report = run(items, router, scaler(up_delay=1.0, down_delay=5.0, cold_start=2.0, target_load=5, most=4))
    names = [replica.name for replica in report.replicas]
    assert names == [f"replica {number}" for number in range(len(names))], f"a new replica has a new name: {names}"
    assert len(names) >= 5, "the second crowd finds one replica again, and gets new ones"
    assert len(report.ttfts) == 120, "every request is served"


def test_task_6_seconds_are_paid_for() -> None:
    fixed = run([item(0, max_tokens=9), item(0, first=1)], answer.RoundRobin(), None, replicas=3)
    assert fixed.replica_seconds == pytest.approx(3 * fixed.seconds), "three replicas from the beginning to the end"
    items = [item(0, max_tokens=30)]
    report = run(items, answer.RoundRobin(), scaler(down_delay=4.0), replicas=2)
    _, second = report.replicas
    assert second.stopped < report.seconds, "the second one is not needed and goes"
    assert report.replica_seconds == pytest.approx(report.seconds + second.stopped), "each is paid for from start to stop"


def test_task_6_a_cold_replica_is_paid_for_from_the_beginning() -> None:
    report = run(crowd(100), answer.LeastTokens(), scaler(up_delay=0.0, cold_start=5.0, target_load=5, most=2, down_delay=99.0))
    _, second = report.replicas
    assert second.started == 1.0, "it was asked for at the first look, at 1 s"
    assert report.replica_seconds == pytest.approx(2 * report.seconds - 1), "it costs from then on, though it starts for 5 s"


def test_task_6_more_replicas_for_a_crowd_and_fewer_afterwards() -> None:
    crowded = [item(0.1 * number, 8, 20, first=number) for number in range(200)]
    items = [*crowded, *(item(200.0 + 5 * number, 8, 5, first=1000 + number) for number in range(20))]
    options: dict[str, Any] = {"max_num_seqs": 8}
    small = run(items, answer.LeastTokens(), None, 1, **options)
    large = run(items, answer.LeastTokens(), None, 6, **options)
    autoscaler = scaler(target_load=8, most=6, up_delay=2.0, down_delay=20.0, cold_start=5.0)
    scaled = run(items, answer.LeastTokens(), autoscaler, 1, **options)
    worst = {name: max(report.ttfts) for name, report in (("one", small), ("six", large), ("scaled", scaled))}
    assert worst["six"] < worst["scaled"] < worst["one"], f"longest TTFT: it lies between one and six replicas: {worst}"
    assert scaled.replica_seconds < 0.7 * large.replica_seconds, "and it costs much less than six all the time"
    assert len(scaled.ttfts) == len(items), "every request is served"
