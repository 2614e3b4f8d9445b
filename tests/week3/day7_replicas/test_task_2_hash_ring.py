"""Week 3 Day 7, task 2: the ring on which hardly any key moves when a node comes or goes, and the router that asks it."""

import os
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from answer import answer
from routing import NAMES, ask, assert_keeps_the_laws, send, tokens
from support import refuses

KEYS = [f"session {number}".encode() for number in range(2000)]


def ring_of(*nodes: str, virtual_nodes: int = 100) -> "answer.HashRing":  # type: ignore[name-defined]
    ring = answer.HashRing(virtual_nodes)
    for node in nodes:
        ring.add(node)
    return ring


def consistent_hash() -> Any:
    answer.stable_hash(b"")  # where nothing is done yet, the first thing to do is this task, and not the task of `choose`
    return answer.ConsistentHash()


def owners(ring: "answer.HashRing") -> dict[bytes, str]:  # type: ignore[name-defined]
    return {key: ring.owner(key) for key in KEYS}


def names(count: int) -> list[str]:
    return [f"replica {number}" for number in range(count)]


def test_task_2_the_hash_is_the_same_everywhere() -> None:
    assert answer.stable_hash(b"tiny") == 0xE8722DC7D75810CB, "blake2b with a digest of 8 bytes, read as a big-endian number"
    assert answer.stable_hash(b"") != answer.stable_hash(b"\0"), "other bytes, another number"
    assert all(0 <= answer.stable_hash(key) < 2**64 for key in KEYS), "a place on the ring is 64 bits"


def test_task_2_other_processes_agree() -> None:
    """Python's `hash` of a string is another one in each process: two routers would send a session to two replicas."""
    script = (
        f"import {answer.__name__} as answer; router = answer.ConsistentHash();"
        " asks = [answer.RoutedRequest(str(n), [n] * 9, 5, 'ada' * (n % 2)) for n in range(20)];"
        " print([router.choose(ask, ['a', 'b', 'c']) for ask in asks])"
    )
    environment = os.environ | {"PYTHONHASHSEED": "77", "PYTHONPATH": os.pathsep.join(sys.path)}
    router = consistent_hash()
    asks = [answer.RoutedRequest(str(number), [number] * 9, 5, "ada" * (number % 2)) for number in range(20)]
    here = str([router.choose(one, ["a", "b", "c"]) for one in asks])
    there = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert not there.returncode, f"choosing in another process failed: {there.stderr[-800:]}"
    assert there.stdout.strip() == here, "another process, with another PYTHONHASHSEED, must rank in the same way"


def test_task_2_the_order_of_adding_does_not_matter() -> None:
    nodes = names(5)
    assert owners(ring_of(*nodes)) == owners(ring_of(*reversed(nodes))), "the same nodes, the same owners"
    ring = ring_of(*nodes, "late")
    ring.remove("late")
    assert owners(ring) == owners(ring_of(*nodes)), "a node that came and went leaves nothing behind"


@pytest.mark.parametrize("count", [3, 5, 12])
def test_task_2_removing_a_node_moves_its_own_keys_only(count: int) -> None:
    nodes = names(count)
    before = owners(ring_of(*nodes))
    ring = ring_of(*nodes)
    ring.remove(nodes[1])
    after = owners(ring)
    moved = [key for key in KEYS if before[key] != after[key]]
    assert all(before[key] == nodes[1] for key in moved), f"only keys of {nodes[1]} may move"
    assert nodes[1] not in after.values(), f"{nodes[1]} is gone, and owns nothing"
    assert 0.5 / count < len(moved) / len(KEYS) < 1.6 / count, (
        f"about 1 of {count} keys belonged to it, and {len(moved)} of {len(KEYS)} have moved"
    )
    heirs = Counter(after[key] for key in moved)
    assert len(heirs) == count - 1, f"its places lie between those of all others, so each gets some of its keys: {dict(heirs)}"


@pytest.mark.parametrize("count", [3, 10])
def test_task_2_a_new_node_takes_keys_and_moves_no_others(count: int) -> None:
    ring = ring_of(*names(count))
    before = owners(ring)
    ring.add("new")
    after = owners(ring)
    moved = [key for key in KEYS if before[key] != after[key]]
    assert all(after[key] == "new" for key in moved), "keys that move go to the new node"
    assert 0.5 / (count + 1) < len(moved) / len(KEYS) < 1.6 / (count + 1), f"{len(moved)} of {len(KEYS)} moved to the new one"
    ring.remove("new")
    assert owners(ring) == before, "when it goes, its keys are where they were"


def test_task_2_virtual_nodes_make_equal_parts() -> None:
    def worst(virtual_nodes: int) -> float:
        parts = Counter(owners(ring_of(*names(8), virtual_nodes=virtual_nodes)).values())
        return max(parts.values()) / (len(KEYS) / 8)

    assert worst(200) < 1.35, "with 200 places per node, the largest part is not far above the mean"
    assert worst(1) > 1.6, "with one place per node, one owns much more than others: are places counted per node?"


def test_task_2_ranked_begins_with_the_owner_and_goes_on_with_the_heirs() -> None:
    nodes = names(6)
    ring = ring_of(*nodes, virtual_nodes=20)
    for key in KEYS[:150]:
        ranked = ring.ranked(key)
        assert sorted(ranked) == nodes, f"ranked has all nodes, each once: {ranked}"
        assert ranked[0] == ring.owner(key), "the owner is first"
        smaller = ring_of(*nodes, virtual_nodes=20) if key in KEYS[:10] else None
        for gone, heir in pairwise(ranked) if smaller else []:
            smaller.remove(gone)  # type: ignore[union-attr]
            assert smaller.owner(key) == heir, f"without {gone}, the next of the ranking owns the key"  # type: ignore[union-attr]


def test_task_2_a_key_belongs_to_the_first_place_at_or_behind_its_own() -> None:
    places = {answer.stable_hash(b"a#0"): "a", answer.stable_hash(b"b#0"): "b"}
    low, high = sorted(places)
    ring = ring_of("a", "b", virtual_nodes=1)
    for key in KEYS[:300]:
        place = answer.stable_hash(key)
        expected = places[low] if place <= low or place > high else places[high]
        assert ring.owner(key) == expected, (
            "the places are stable_hash of 'a#0', 'b#0'; after the last one the ring starts over"
        )
    assert ring.owner(b"a#0") == "a", "a key at the very place of a node is that node's"
    assert ring.owner(b"b#0") == "b", "a key at the very place of a node is that node's"


def test_task_2_what_is_not_on_the_ring() -> None:
    ring = ring_of()
    assert ring.ranked(b"key") == [], "no node is on the ring, so none is ranked"
    with refuses(ValueError, "an empty ring has no owner"):
        ring.owner(b"key")
    ring.add("ada")
    assert ring.ranked(b"key") == ["ada"], "the only one owns everything"
    with refuses(ValueError, "a node that is there already", "ada"):
        ring.add("ada")
    with refuses(ValueError, "a node that is not there", "bob"):
        ring.remove("bob")
    ring.remove("ada")
    assert ring.ranked(b"key") == [], "the last one has gone"
    with refuses(ValueError, "a node without a place", "0"):
        answer.HashRing(0)


def test_task_2_the_router_keeps_the_laws() -> None:
    assert_keeps_the_laws(consistent_hash)


def test_task_2_a_session_stays_where_it_is() -> None:
    router = consistent_hash()
    first = {session: send(router, ask(session=session)) for session in map(str, range(30))}
    assert len(set(first.values())) == len(NAMES), "30 sessions are spread over all replicas"
    for session, name in first.items():
        assert send(router, ask(500, session=session)) == name, (
            "another prompt of the same session goes where the first one went"
        )
    assert {s: consistent_hash().choose(ask(session=s), NAMES)[0] for s in first} == first, "other routers agree"


def test_task_2_without_a_session_the_beginning_of_the_prompt_decides() -> None:
    router, random = consistent_hash(), Random(4)
    got = set()
    for tenant in range(30):
        system = tokens(64, tenant)
        places = {send(router, ask([*system, *random.choices(range(50), k=20 + n)])) for n in range(5)}
        assert len(places) == 1, "prompts with the same 64 tokens at the beginning go to the same replica, however they go on"
        got |= places
    assert len(got) == len(NAMES), "other beginnings are spread over all replicas"
    short = {n: send(router, ask(tokens(63, 7)[:n])) for n in range(1, 64)}
    assert len(set(short.values())) > 1, "a prompt of fewer tokens has all of them for a key"
    assert all(send(router, ask(tokens(63, 7)[:n])) == name for n, name in short.items()), (
        "the same short prompt, the same replica"
    )


def test_task_2_all_of_the_first_64_tokens_count() -> None:
    router = consistent_hash()
    for place in (0, 31, 32, 63):
        prompts = [[*tokens(64, 5)[:place], 7000 + number, *tokens(64, 5)[place + 1 :]] for number in range(30)]
        got = {send(router, ask(prompt)) for prompt in prompts}
        assert len(got) > 1, f"30 prompts that differ at place {place}, one of the first 64, all go to {got}"


def test_task_2_token_ids_are_not_mixed_up() -> None:
    router = consistent_hash()
    pairs = [([1, 23, n], [12, 3, n]) for n in range(40)]
    assert any(send(router, ask(one)) != send(router, ask(other)) for one, other in pairs), "1, 23 and 12, 3 are other tokens"
    assert any(send(router, ask([n])) != send(router, ask([n + 256])) for n in range(40)), "ids are larger than a byte"


@pytest.mark.parametrize(("one", "other"), [([5], [5, 0]), ([5, 7], [7, 5]), ([70_000], [70_000 - 2**16])])
def test_task_2_other_tokens_are_another_key(one: list[int], other: list[int]) -> None:
    router = consistent_hash()
    assert router.choose(ask(one), names(20)) != router.choose(ask(other), names(20)), (
        f"prompts of {one} and {other}, fewer than 64 tokens, have two keys: twenty replicas are ranked in two ways"
    )


def test_task_2_loads_do_not_matter() -> None:
    router = consistent_hash()
    got = {send(router, ask(10_000, session="ada")) for _ in range(20)}
    assert len(got) == 1, "whatever its replica has to do already, a session goes there"


def test_task_2_hardly_a_session_moves_when_a_replica_dies() -> None:
    router, sessions = consistent_hash(), [str(number) for number in range(300)]
    before = {session: router.choose(ask(session=session), NAMES) for session in sessions}
    router.died("bob")
    for session in sessions:
        after = router.choose(ask(session=session), NAMES)
        assert after == [name for name in before[session] if name != "bob"], (
            "without bob, the ranking of the others is the same"
        )
    router.joined("bob")
    assert {s: router.choose(ask(session=s), NAMES) for s in sessions} == before, "bob is back, and so are his sessions"


def test_task_2_hardly_a_session_moves_when_a_replica_comes_or_goes() -> None:
    router, sessions = consistent_hash(), [str(number) for number in range(300)]
    before = {session: router.choose(ask(session=session), NAMES)[0] for session in sessions}
    more = {session: router.choose(ask(session=session), [*NAMES, "eve"])[0] for session in sessions}
    moved = [session for session in sessions if before[session] != more[session]]
    assert {more[session] for session in moved} == {"eve"}, "a session that moves goes to eve"
    assert 30 < len(moved) < 100, f"about a fifth moves to a fifth replica: {len(moved)} of 300"
    assert {s: router.choose(ask(session=s), NAMES)[0] for s in sessions} == before, "eve is not in the list any more"
