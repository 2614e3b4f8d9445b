"""Week 3 Day 7, task 7: the course's routers in the place of Ray Serve's. No test here needs Ray."""

import asyncio
import sys

import pytest

from answer import answer
from event_loop import run
from fake_serve import Pending, ReplicaID, call, choose, replicas, route, routing
from support import refuses


def test_task_7_ranks_are_those_of_the_router() -> None:
    async def ranks() -> None:
        made = routing(answer.RoundRobin(), "a", "b", "c")
        first, second = await choose(made, call()), await choose(made, call())
        assert sorted(first) == ["a", "b", "c"], f"all three are ranked, in case the first is full: {first}"
        assert (first, second) == (["a", "b", "c"], ["b", "c", "a"]), (
            f"RoundRobin ranks a, b, c and then b, c, a; Ray was told {first} and {second}"
        )

    run(ranks())


def test_task_7_calls_that_are_no_requests_go_anywhere() -> None:
    async def ranks() -> None:
        made = routing(answer.RoundRobin(), "a", "b")
        for pending in (Pending([]), Pending(["a question"]), None):
            ranks = await made.choose_replicas(replicas("a", "b"), pending)
            assert [[one.replica_id.unique_id for one in rank] for rank in ranks] == [["a", "b"]], (
                f"a call without a RoutedRequest may go to any candidate, which is one rank of all; Ray was told {ranks}"
            )
            if pending is not None:
                made.on_request_routed(pending, ReplicaID("a"), None)
                made.on_request_completed(ReplicaID("a"), pending.key)
        assert not made.router.requests("a"), "what is no request is no load"

    run(ranks())


def test_task_7_ray_pauses_when_all_are_full() -> None:
    async def ranks() -> None:
        pending = call()
        await choose(routing(answer.RoundRobin(), "a"), pending)
        assert pending.routing_context.should_backoff, "routing_context.should_backoff must be set, or Ray asks without a pause"

    run(ranks())


def test_task_7_a_burst_is_spread() -> None:
    async def burst() -> None:
        made = routing(answer.LeastTokens(), "a", "b", "c", "d")
        first = [(await choose(made, call()))[0] for _ in range(8)]
        assert sorted(first) == sorted("aabbccdd"), (
            f"8 equal requests come before one is accepted, and go to {first}: a request counts from the moment in which it"
            " is chosen for, or all of a burst go to the same replica"
        )

    run(burst())


def test_task_7_the_load_is_that_of_the_open_requests() -> None:
    async def load() -> None:
        made = routing(answer.LeastTokens(), "a", "b")
        long, short = call(prompt=100), call()
        assert await route(made, long) != await route(made, short), "two requests, two replicas"
        where = {await route(made, call()) for _ in range(3)}
        assert len(where) == 1, f"one replica has 106 tokens to compute and the other 16, and three more go to {where}"
        (other,) = {"a", "b"} - where
        made.on_request_completed(ReplicaID(other), long.key)
        assert await route(made, call()) == other, f"the long request has ended, so {other} has nothing to do"

    run(load())


def test_task_7_the_first_may_be_full() -> None:
    async def full() -> None:
        made = routing(answer.LeastTokens(), "a", "b")
        pending = call()
        first, second = await choose(made, pending)
        made.on_request_routed(pending, ReplicaID(second), None)
        assert (made.router.requests(first), made.router.requests(second)) == (0, 1), (
            f"{first} was ranked first and {second} has accepted: the request counts at {second} alone"
        )
        made.on_request_completed(ReplicaID(second), pending.key)
        assert made.router.requests(second) == 0, "it has ended, and still counts"

    run(full())


def test_task_7_ray_asks_again() -> None:
    async def again() -> None:
        made = routing(answer.RoundRobin(), "a", "b")
        pending = call()
        for _ in range(5):
            await choose(made, pending)
        counted = made.router.requests("a") + made.router.requests("b")
        assert counted == 1, f"Ray has asked five times for one request, and it counts {counted} times"

    run(again())


def test_task_7_a_replica_that_did_not_accept() -> None:
    async def late() -> None:
        made = routing(answer.RoundRobin(), "a", "b")
        pending = call()
        assert (await choose(made, pending))[0] == "a"
        assert (await choose(made, pending))[0] == "b"
        made.on_request_completed(ReplicaID("a"), pending.key)
        assert made.router.requests("b") == 1, "a has not accepted the request, which is at b by now, and counts there no more"
        made.on_request_completed(ReplicaID("b"), pending.key)
        made.on_request_completed(ReplicaID("b"), pending.key)
        assert made.router.requests("b") == 0, "it has ended, and still counts"

    run(late())


def test_task_7_a_client_that_leaves_before_it_is_accepted() -> None:
    async def leaves() -> None:
        made = routing(answer.RoundRobin(), "a")
        pending = call()
        await choose(made, pending)
        pending.future.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert made.router.requests("a") == 0, (
            "Ray cancels the future of a request whose client has left, and says nothing else; this one counts for ever"
        )

    run(leaves())


def test_task_7_an_accepted_request_still_counts() -> None:
    async def accepted() -> None:
        made = routing(answer.RoundRobin(), "a")
        pending = call()
        await choose(made, pending)
        pending.future.set_result("a")
        made.on_request_routed(pending, ReplicaID("a"), None)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert made.router.requests("a") == 1, "a has accepted the request and computes it, and it counts no more"

    run(accepted())


def test_task_7_a_replica_dies() -> None:
    async def dies() -> None:
        made = routing(answer.LeastTokens(), "a", "b")
        pending = call(prompt=1)
        where = await route(made, pending)
        made.on_replica_actor_died(ReplicaID(where))
        assert ReplicaID(where) not in made.curr_replicas, "Ray's own on_replica_actor_died must hear of it, too"
        assert made.router.choose(call().args[0], ["a", "b"]) == sorted({"a", "b"} - {where}), "the router was not told"
        made.on_request_completed(ReplicaID(where), pending.key)
        assert (await choose(made, call()))[0] != where, f"{where} has died"

    run(dies())


def test_task_7_replicas_come_and_go() -> None:
    async def update() -> None:
        made = routing(answer.RoundRobin(), "a", "b")
        made.update_replicas(replicas("b", "c"))
        assert sorted(one.unique_id for one in made.curr_replicas) == ["b", "c"], (
            "Ray's own update_replicas must hear of it, too"
        )
        assert sorted(await choose(made, call())) == ["b", "c"], "c is new, and a is there no more"
        assert "a" not in made.router.choose(call().args[0], ["a", "b"]), "a is there no more, and the router was not told"
        made.update_replicas(replicas("b", "c"))
        assert sorted(await choose(made, call())) == ["b", "c"], "nothing has changed"

    run(update())


def test_task_7_nobody_is_left() -> None:
    async def nobody() -> None:
        made = routing(answer.RoundRobin(), "a")
        made.router.died("a")
        assert await choose(made, call()) == [], "no replica lives: no ranks, and no exception, which would end Ray's routing"

    run(nobody())


def test_task_7_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with refuses(ImportError, "Ray is an extra, and deploy should say how to get it", "pdm run setup-replicas"):
        answer.deploy(lambda: None, lambda engine: None, replicas=2)
