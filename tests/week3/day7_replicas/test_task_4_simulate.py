"""Week 3 Day 7, task 4: many replicas in one simulated time, behind a router that knows what is known at the time."""

from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from answer import answer
from patience import SIMULATED
from replica_runs import Listener, PerToken, item, sizes
from support import refuses
from tiny_llm_kit.workloads.items import WorkItem

pytestmark = pytest.mark.timeout(SIMULATED)

R0, R1, R2 = "replica 0", "replica 1", "replica 2"


def random_items(seed: int, count: int = 40, tenants: int = 3) -> list[WorkItem]:
    random, now, made = Random(seed), 0.0, []
    for number in range(count):
        now += random.choice([0, 0, 0.5, 1, 4, 30])
        prompt = [
            *range(1000 * (number % tenants), 1000 * (number % tenants) + 40),
            *[900_000 + number] * random.randint(1, 30),
        ]
        made.append(item(now, prompt, random.randint(1, 9)))
    return made


def story(requests: Any) -> list[tuple[Any, ...]]:
    return [(t.arrived, t.admitted, t.tokens, t.ended, t.generated, t.preemptions) for t in requests.values()]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("cost", [PerToken(0.25, 1 / 64), PerToken(0.25, 1 / 64, True), PerToken(0.5)])
def test_task_4_one_replica_is_the_paged_engine(seed: int, cost: PerToken) -> None:
    items = random_items(seed)
    alone = answer.RunRecorder()
    options = {"num_blocks": 24, "block_size": 8, "max_num_seqs": 5, "max_num_batched_tokens": 24, "watermark": 0.3}
    report = answer.simulate_replicas(iter(items), answer.LeastTokens(), 1, cost, answer.EngineSizes(**options))
    answer.simulate_paged(iter(items), cost, **options, readers=[alone.read], wanted=alone.wanted)
    (replica,) = report.replicas
    assert story(replica.requests) == story(alone.requests), (
        "one replica behind a router is the same engine: the same times for every request, from the moment its client sent it"
    )
    assert report.seconds == alone.ended, "and the run takes as long"


def test_task_4_replicas_work_at_the_same_time() -> None:
    """A prompt and three tokens are three launches of a second; the last token is read in the fourth iteration."""
    items = [item(0, first=number) for number in range(4)]
    one = answer.simulate_replicas(items, answer.RoundRobin(), 1, PerToken(), sizes(max_num_seqs=1))
    four = answer.simulate_replicas(items, answer.RoundRobin(), 4, PerToken(), sizes(max_num_seqs=1))
    assert four.seconds == 3, f"each of four replicas serves one request in 3 seconds, all at once: {four.seconds}"
    assert one.seconds == 12, f"one after another they take 12: {one.seconds}"
    assert [replica.name for replica in four.replicas] == [R0, R1, R2, "replica 3"], "the names of the replicas"
    assert four.ttfts == [1.0] * 4, f"each first token comes with the prompt, after a second: {four.ttfts}"
    assert sorted(one.ttfts) == [1, 4, 7, 10], f"the others have waited, and that is part of their TTFT: {one.ttfts}"


def test_task_4_each_replica_has_its_own_device() -> None:
    router = Listener(R0, R0, R1)
    report = answer.simulate_replicas(
        [item(0), item(0, first=1), item(7, first=2)], router, 2, PerToken(), sizes(max_num_seqs=1)
    )
    (idle,) = report.replicas[1].requests.values()
    assert idle.tokens == [8.0], "an idle replica begins when a request comes, at 7 s, and one launch takes a second"
    assert report.seconds == 10, "its third token is there at 10 s"


def test_task_4_a_request_is_routed_when_it_comes_with_what_is_known_then() -> None:
    router = Listener(R0, R1, R0, R1)
    items = [item(0, max_tokens=4), item(0.5, max_tokens=2, first=1), item(2.25, first=2), item(2.75, first=3)]
    answer.simulate_replicas(items, router, 2, PerToken(), sizes())
    begun = [("started", 0, R0), ("started", 1, R1)]
    assert router.known[1] == begun[:1], "at 0.5 s nothing has come back; what was sent is known at once"
    assert router.known[2] == [*begun, ("progressed", 0, R0, 1), ("progressed", 1, R1, 1)], (
        "at 2.25 s the first tokens have come back, at 1 s and at 1.5 s. That request 1 ends at 2.5 s cannot be known yet,"
        f" though its replica may have been simulated up to there: {router.known[2]}"
    )
    assert router.known[3] == [*router.known[2], ("started", 2, R0), ("finished", 1, R1)], (
        f"at 2.75 s request 1 has ended, at 2.5 s: {router.known[3]}"
    )


@pytest.mark.parametrize("seed", range(3))
def test_task_4_nothing_is_known_before_its_time(seed: int) -> None:
    """Whatever a router is told before it routes a request has happened by the time at which that comes."""
    items = random_items(seed, count=60)
    names = [R0, R1, R2]
    random = Random(seed)
    router = Listener(*[random.choice(names) for _ in items])
    report = answer.simulate_replicas(
        items, router, 3, PerToken(0.25, 1 / 64), sizes(40, max_num_seqs=4, max_num_batched_tokens=24)
    )
    routed = [tuple(request.prompt) for request in router.seen]
    assert routed == [one.prompt for one in items], "requests are routed in the order in which they come"
    times = dict(enumerate(_in_order(report, items, router)))
    for number, (one, known) in enumerate(zip(items, router.known, strict=True)):
        ended = {n for n, t in times.items() if t.ended is not None and t.ended <= one.arrival and n < number}
        begun = {n for n, t in times.items() if t.tokens and t.tokens[0] <= one.arrival and n < number}
        assert {event[1] for event in known if event[0] == "finished"} == ended, (
            f"request {number} came at {one.arrival} s: ended by then had requests {sorted(ended)}, exactly those are known"
        )
        assert {event[1] for event in known if event[0] == "progressed"} == begun, (
            f"request {number} came at {one.arrival} s: a first token had come back for requests {sorted(begun)}"
        )


def _in_order(report: Any, items: list[WorkItem], router: Listener) -> list[Any]:
    """The times of all requests, in the order of arrival: each replica's are in the order in which they were sent to it."""
    queues = {replica.name: iter(replica.requests.values()) for replica in report.replicas}
    where = {event[1]: event[2] for event in router.heard if event[0] == "started"}
    return [next(queues[where[number]]) for number in range(len(items))]


def test_task_4_the_router_hears_everything_once_and_in_order() -> None:
    items = random_items(5, count=50)
    router = Listener()
    answer.simulate_replicas(items, router, 2, PerToken(0.25), sizes(40))
    for number in range(len(items)):
        told = [event[0] for event in router.heard if event[1] == number]
        assert told == ["started", "progressed", "finished"], (
            f"of each request: that it was sent, that its first token is there, that it has ended; of request {number}: {told}"
        )
    assert all(event[3] == 1 for event in router.heard if event[0] == "progressed"), "the first token is one token"


@pytest.mark.parametrize("kind", ["RoundRobin", "PowerOfTwoChoices", "LeastTokens", "ConsistentHash", "PrefixAware"])
def test_task_4_in_the_end_nothing_counts(kind: str) -> None:
    router, items = getattr(answer, kind)(), random_items(2)
    report = answer.simulate_replicas(items, router, 3, PerToken(0.25, 1 / 64), sizes())
    left = {replica.name: (router.requests(replica.name), router.tokens(replica.name)) for replica in report.replicas}
    assert set(left.values()) == {(0, 0)}, f"all requests have ended, and the router must have heard of it: {left}"
    assert sum(len(replica.requests) for replica in report.replicas) == len(items), "each request went to one replica"
    assert len(report.ttfts) == len(items), "each has had a first token"


def test_task_4_routers_see_tokens_and_lengths() -> None:
    router = Listener()
    answer.simulate_replicas([item(0, 20, 7), item(0, 5, 2, first=1)], router, 2, PerToken(), sizes())
    assert [(list(one.prompt), one.max_tokens) for one in router.seen] == [
        (list(range(20)), 7),
        (list(range(1000, 1005)), 2),
    ], "the router is given each request's prompt and the longest answer"
    assert len({one.request_id for one in router.seen}) == 2, "two requests have two ids"
    assert all(isinstance(one.request_id, str) for one in router.seen), "ids are strings"
    assert router.offered == [[R0, R1], [R0, R1]], "and the names of all replicas"


def test_task_4_what_the_prefix_caches_save() -> None:
    system = list(range(64))
    items = [item(10 * number, [*system, *[900_000 + number] * 8], 4) for number in range(6)]
    router = Listener(R0, R0, R0, R1, R1, R0)
    report = answer.simulate_replicas(items, router, 2, PerToken(), sizes())
    busy, other = report.replicas
    assert [busy.prompt_tokens, other.prompt_tokens] == [4 * 72, 2 * 72], "prompts of 72 tokens"
    assert [busy.cached_tokens, other.cached_tokens] == [3 * 64, 64], "a replica has the 64 tokens after its first request"
    assert [busy.computed_tokens, other.computed_tokens] == [72 + 3 * 8, 72 + 8], "and computes the other tokens of each prompt"
    assert [busy.generated_tokens, other.generated_tokens] == [16, 8], "answers of 4 tokens"
    assert [busy.work, other.work] == [112, 88], "the work of a replica is what it has computed and generated"
    assert (report.prompt_tokens, report.computed_tokens) == (6 * 72, 176), "both together"
    assert report.hit_rate == pytest.approx(4 * 64 / (6 * 72)), "the share of prompt tokens that were cached"
    assert report.imbalance == pytest.approx(1.12), "112 is 1.12 times the mean of 112 and 88"


def test_task_4_an_idle_replica_is_part_of_the_mean() -> None:
    report = answer.simulate_replicas([item(0), item(0, first=1)], Listener(R0, R0), 4, PerToken(), sizes())
    assert report.imbalance == 4, f"one of four does everything, four times the mean of all four: {report.imbalance}"


def test_task_4_without_prefix_caches_everything_is_computed() -> None:
    items = [item(10 * number, 64, 4) for number in range(4)]
    report = answer.simulate_replicas(items, answer.RoundRobin(), 2, PerToken(), sizes(prefix_caching=False))
    assert (report.hit_rate, report.computed_tokens) == (0, 256), "the same prompt four times, and nothing is kept"


def test_task_4_tokens_that_are_computed_again_are_work_and_no_hit() -> None:
    """Two requests of 3 blocks each in a pool of 4: the younger one is preempted, and finds nothing of the older one's."""
    items = [item(0, 20, 20), item(0, 20, 20, first=1)]
    options: dict[str, Any] = {"num_blocks": 4, "prefix_caching": False, "watermark": 0.0}
    report = answer.simulate_replicas(items, answer.RoundRobin(), 1, PerToken(), answer.EngineSizes(**options))
    (replica,) = report.replicas
    preemptions = sum(times.preemptions for times in replica.requests.values())
    assert preemptions == 1, "this pool is too small for both answers"
    assert replica.computed_tokens > 40, "prompts have 40 tokens, and what the preempted one had is computed again"
    assert (replica.cached_tokens, report.hit_rate) == (0, 0), "nothing was found"


def test_task_4_recomputed_tokens_that_are_found_are_no_hit_of_a_prompt() -> None:
    """With a prefix cache, the preempted one finds its own blocks when it comes back: its first admission counts alone."""
    items = [item(0, 20, 20), item(0, 20, 20, first=1)]
    report = answer.simulate_replicas(items, answer.RoundRobin(), 1, PerToken(), answer.EngineSizes(4, watermark=0.0))
    assert sum(times.preemptions for times in report.replicas[0].requests.values()) >= 1, "this pool is too small for both"
    assert report.hit_rate == 0, "no prompt was found in the cache when it came"


def test_task_4_nobody_comes() -> None:
    report = answer.simulate_replicas([], answer.RoundRobin(), 2, PerToken(), sizes())
    assert (report.seconds, report.hit_rate, report.imbalance, report.ttfts) == (0, 0, 1, []), "a run without requests is over"
    assert len(report.replicas) == 2, "both replicas were there"


def test_task_4_bad_input_is_refused() -> None:
    with refuses(ValueError, "0 replicas can serve no request", "0"):
        answer.simulate_replicas([item(0)], answer.RoundRobin(), 0, PerToken(), sizes())
    with refuses(ValueError, "arrivals that do not ascend"):
        answer.simulate_replicas([item(3), item(2)], answer.RoundRobin(), 2, PerToken(), sizes())
    with refuses(ValueError, "a request that can never fit", "num_blocks"):
        answer.simulate_replicas([item(0, 100)], answer.RoundRobin(), 2, PerToken(), sizes(4))

    class Nobody(answer.Router):  # type: ignore[misc, name-defined]
        def rank(self, request: Any, living: list[str]) -> list[str]:
            return []

    with refuses(ValueError, "a router that ranks no replica", "rank"):
        answer.simulate_replicas([item(0)], Nobody(), 2, PerToken(), sizes())


def test_task_4_requests_are_taken_when_they_come() -> None:
    """There may be a million: none is taken from the iterator long before its time."""
    taken: list[float] = []

    class Watching(Listener):
        def choose(self, request: Any, replicas: Any) -> list[str]:
            came = 5.0 * len(self.seen)
            assert len(taken) <= len(self.seen) + 2, (
                f"at {came} s {len(taken)} requests were taken, and {len(self.seen)} had come"
            )
            return super().choose(request, replicas)

    def coming() -> Iterator[WorkItem]:
        for number in range(30):
            taken.append(5.0 * number)
            yield item(5.0 * number, first=number)

    report = answer.simulate_replicas(coming(), Watching(), 2, PerToken(), sizes())
    assert len(report.ttfts) == 30, "all are served"


def tenants(seed: int, count: int, gap: float) -> list[WorkItem]:
    """Requests of 12 tenants, whose prompts begin with 80 tokens of theirs."""
    random = Random(seed)
    made = []
    for number in range(count):
        tenant = random.randrange(12)
        own = [900_000 + number] * random.randint(5, 25)
        made.append(item(gap * number, [*range(1000 * tenant, 1000 * tenant + 80), *own], random.randint(2, 10)))
    return made


def test_task_4_prefix_aware_computes_much_less_and_stays_even() -> None:
    """Caches that hold the beginnings of about four of the twelve tenants."""
    small = sizes(40, max_num_seqs=8, max_num_batched_tokens=32)
    reports = {
        kind: answer.simulate_replicas(tenants(1, 150, 1.0), getattr(answer, kind)(), 4, PerToken(0.25, 1 / 32), small)
        for kind in ("RoundRobin", "PrefixAware")
    }
    blind, aware = reports["RoundRobin"], reports["PrefixAware"]
    ratio = aware.computed_tokens / blind.computed_tokens
    assert ratio <= 0.6, (
        f"of the prompt tokens that round robin computes, prefix-aware routing computes {ratio:.0%}: at most 60 %"
    )
    assert aware.imbalance <= 1.5, f"the busiest replica has {aware.imbalance:.2f} times the mean load: at most 1.5"
    assert aware.hit_rate > blind.hit_rate, "what is not computed was found"
