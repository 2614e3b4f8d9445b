"""Week 3 Day 7, task 3: the replica that was sent the longest beginning of a prompt, unless it has much more to do."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from answer import answer
from routing import NAMES, ask, assert_keeps_the_laws, send, tokens
from support import refuses

SIZE = 16


def prefix_aware(**options: Any) -> Any:
    answer.block_keys([], SIZE)  # where nothing is done yet, the first thing to do is this task, and not the task of `choose`
    return answer.PrefixAware(**{"block_size": SIZE, **options})


def with_end(beginning: list[int], length: int, seed: int = 0) -> list[int]:
    """A prompt with a beginning that others share, and an end that none does."""
    return [*beginning, *(-1 - seed * 10_000 - place for place in range(length))]


def serve(router: Any, request: Any, name: str) -> None:
    """The request was sent to this replica, whatever was chosen, and has ended."""
    router.started(request, name)
    router.finished(request, name)


def test_task_3_keys_are_of_full_blocks() -> None:
    for length, count in ((0, 0), (1, 0), (15, 0), (16, 1), (17, 1), (31, 1), (32, 2), (100, 6)):
        keys = answer.block_keys(tokens(length, 1), SIZE)
        assert len(keys) == count, f"{length} tokens have {count} full blocks of 16, and block_keys gives {len(keys)} keys"
    assert len(answer.block_keys(tokens(12, 1), 4)) == 3, "12 tokens have three full blocks of 4"
    assert all(isinstance(key, bytes) for key in answer.block_keys(tokens(40, 1), SIZE)), "keys are bytes"


def test_task_3_keys_are_equal_as_far_as_the_blocks_are() -> None:
    one = answer.block_keys(tokens(64, 1), SIZE)
    assert one == answer.block_keys(tuple(tokens(64, 1)), SIZE), "the same tokens, the same keys, in a list or a tuple"
    assert one[:3] == answer.block_keys(tokens(50, 1), SIZE), "a shorter prompt has the first of the keys"
    for place in (16, 20, 31):
        changed = tokens(64, 1)
        changed[place] += 1
        other = answer.block_keys(changed, SIZE)
        assert other[0] == one[0], "the first block is the same"
        assert not set(other[1:]) & set(one), (
            f"token {place}, in the second block, is another: so are the block's key and the keys of all later blocks"
        )
    assert len(set(answer.block_keys([7] * 160, SIZE))) == 10, (
        "equal blocks in a row are other blocks: what precedes them differs"
    )
    swapped = [*tokens(64, 1)[16:32], *tokens(64, 1)[:16]]
    assert not set(answer.block_keys(swapped, SIZE)) & set(one), "the same blocks in another order are other beginnings"


def test_task_3_keys_do_not_mix_up_token_ids() -> None:
    pairs = [([1, 23] * 8, [12, 3] * 8), ([256] * 16, [0] * 16), ([258] * 16, [1, 2] * 8), ([2**17 + 5] * 16, [5] * 16)]
    for one, other in pairs:
        assert answer.block_keys(one, SIZE) != answer.block_keys(other, SIZE), f"{one[:2]}… and {other[:2]}… are other tokens"


def test_task_3_the_router_keeps_the_laws() -> None:
    assert_keeps_the_laws(prefix_aware)


def test_task_3_without_a_match_the_least_loaded_is_first() -> None:
    """SGLang #14305: a miss went to the replica with the smallest tree, which was the one that could remember least."""
    router = prefix_aware()
    for number in range(5):
        serve(router, ask(160), "ada")
        serve(router, ask(160), "bob" if number else "dan")
    router.started(ask(10, 10), "cleo")
    router.started(ask(20, 10), "dan")
    router.started(ask(5, 10), "ada")
    assert router.choose(ask(64), NAMES) == ["bob", "ada", "cleo", "dan"], (
        "none has this beginning, so loads decide: bob 0, ada 15, cleo 20, dan 30 tokens. How much each remembers does not"
    )


def test_task_3_misses_are_spread() -> None:
    router, got = prefix_aware(), Counter[str]()
    for _ in range(12):
        request = ask(64)
        name = send(router, request)
        router.finished(request, name)
        got[name] += 1
    assert got == dict.fromkeys(NAMES, 3), f"all are idle whenever one comes, and none has its beginning: in turns. {got}"


def test_task_3_the_longest_match_is_first() -> None:
    router, beginning = prefix_aware(), tokens(96, 1)
    serve(router, ask(beginning[:40]), "bob")
    serve(router, ask(beginning), "cleo")
    serve(router, ask(beginning[:20]), "dan")
    assert router.choose(ask(with_end(beginning, 30)), NAMES) == ["cleo", "bob", "dan", "ada"], (
        "cleo has 6 blocks of this beginning, bob 2, dan 1, ada none, and none has anything to do"
    )


def test_task_3_of_equal_matches_the_least_loaded_is_first() -> None:
    router, beginning = prefix_aware(), tokens(64, 1)
    for name in ("ada", "bob", "dan"):
        serve(router, ask(beginning), name)
    for length, name in ((30, "ada"), (10, "bob"), (20, "dan")):
        router.started(ask(length, 1), name)
    assert router.choose(ask(with_end(beginning, 9)), NAMES) == ["bob", "dan", "ada", "cleo"], (
        "ada, bob and dan have the same 4 blocks of it; their loads are 31, 11 and 21 tokens"
    )
    ties = prefix_aware()
    for name in NAMES:
        serve(ties, ask(beginning), name)
    got = Counter[str]()
    for number in range(12):
        request = ask(with_end(beginning, 9, number))
        name = send(ties, request)
        ties.finished(request, name)
        got[name] += 1
    assert got == dict.fromkeys(NAMES, 3), f"all have it and all are idle: in turns. {got}"


def test_task_3_only_full_blocks_match() -> None:
    router = prefix_aware()
    serve(router, ask(tokens(31, 1)), "bob")
    for length, matched in ((15, 0), (16, 16), (31, 16)):
        got = router.matched(ask(with_end(tokens(length, 1), 3)), ["ada", "bob"])
        assert got == {"ada": 0, "bob": matched}, (
            f"bob was sent 31 tokens; of a prompt with {length} of these {matched} match: {got}"
        )


def test_task_3_a_match_has_no_gap() -> None:
    router = prefix_aware(max_blocks=4)
    serve(router, ask(tokens(64, 1)), "ada")
    other = [*tokens(16, 9), *tokens(64, 1)[16:]]
    assert router.matched(ask(other), ["ada"]) == {"ada": 0}, "the first block is another, so nothing after it is of any use"


def test_task_3_whom_it_was_sent_to_is_remembered_at_once() -> None:
    router, beginning = prefix_aware(), tokens(320, 1)
    for name in NAMES:
        router.started(ask(1000), name)
    got = {send(router, ask(with_end(beginning, 5, number), 2)) for number in range(6)}
    assert len(got) == 1, (
        f"a burst with one beginning of 320 tokens: the first has not even begun when the others come, and yet all go after it."
        f" The replicas: {got}"
    )


def test_task_3_choosing_is_not_sending() -> None:
    router, beginning = prefix_aware(), tokens(64, 1)
    router.choose(ask(beginning), NAMES)
    assert router.matched(ask(beginning), NAMES) == dict.fromkeys(NAMES, 0), "no replica was sent anything yet"
    serve(router, ask(beginning), "dan")
    assert router.choose(ask(beginning), NAMES)[0] == "dan", "it went to dan, and so does the next one"


def test_task_3_a_request_that_goes_on_has_its_id_and_a_longer_prompt() -> None:
    router = prefix_aware()
    before = answer.RoutedRequest("one", tokens(40, 1), 9)
    after = answer.RoutedRequest("one", tokens(70, 1), 5)
    router.choose(before, NAMES)
    router.started(before, "bob")
    router.died("bob")
    router.choose(after, NAMES)
    router.started(after, "cleo")
    assert router.matched(after, ["cleo"]) == {"cleo": 64}, "the 70 tokens of the longer prompt are 4 blocks, and cleo has them"


def test_task_3_what_is_found_is_no_load() -> None:
    router, beginning = prefix_aware(), tokens(320, 1)
    serve(router, ask(beginning), "ada")
    for name in ("ada", "bob"):
        router.started(ask(with_end(beginning, 10), 5), name)
    assert [router.tokens(name) for name in ("ada", "bob")] == [15, 335], (
        "ada has 320 of the 330 prompt tokens already, so 10 and an answer of 5 are to come; bob has none of them"
    )
    router.started(ask(with_end(beginning, 10), 5), "bob")
    assert router.tokens("bob") == 350, "bob was sent this beginning a moment ago, and will have it"


def overloaded(router: Any, ahead: int, beginning: list[int]) -> Any:
    """Ada has the beginning, and this many tokens more to do than the others, who have 1000 each."""
    serve(router, ask(beginning), "ada")
    for name in NAMES:
        router.started(ask(999 + ahead * (name == "ada"), 1), name)
    return router


@pytest.mark.parametrize(
    ("max_imbalance", "ahead", "stays"), [(1.5, 700, True), (1.5, 900, False), (3.0, 4000, True), (1.2, 300, False)]
)
def test_task_3_a_match_is_worth_so_much_load(max_imbalance: float, ahead: int, stays: bool) -> None:
    """SGLang #32195: affinity must bend under imbalance, and not break at every slight one."""
    beginning = tokens(160, 1)
    router = overloaded(prefix_aware(max_imbalance=max_imbalance), ahead, beginning)
    first = router.choose(ask(with_end(beginning, 20)), NAMES)[0]
    times = (1000 + ahead) / (1000 + ahead / 4)
    assert (first == "ada") is stays, (
        f"ada has the beginning, and {times:.2f} times the mean load, where {max_imbalance} times are allowed: first is {first}"
    )


def test_task_3_at_the_limits_it_stays() -> None:
    beginning = tokens(160, 1)
    router = overloaded(prefix_aware(), 800, beginning)
    assert router.choose(ask(with_end(beginning, 20)), NAMES)[0] == "ada", (
        "ada has 1800 tokens to do, exactly 1.5 times the mean of 1200: only with more than that it is not asked to do more"
    )
    router = overloaded(prefix_aware(max_imbalance=1.0), 160, beginning)
    assert router.choose(ask(with_end(beginning, 20)), NAMES)[0] == "ada", (
        "ada is ahead by 160 tokens and matches 160: only if it is ahead by more, the ranking is by load"
    )


def test_task_3_whoever_has_too_much_to_do_leaves_it_to_the_least_loaded() -> None:
    beginning = tokens(160, 1)
    router = overloaded(prefix_aware(), 20_000, beginning)
    serve(router, ask(beginning[:80]), "bob")
    router.started(ask(50, 1), "bob")
    router.started(ask(30, 1), "dan")
    ranked = router.choose(ask(with_end(beginning, 20)), NAMES)
    assert ranked == ["cleo", "dan", "bob", "ada"], f"ada, who has it, is far above the mean: by load, cleo is first. {ranked}"


def test_task_3_a_match_is_not_left_for_less_than_it_saves() -> None:
    """With little to do, a replica that does anything is far above the mean."""
    beginning = tokens(320, 1)
    router = prefix_aware()
    serve(router, ask(beginning), "ada")
    router.started(ask(100, 200), "ada")
    assert router.choose(ask(with_end(beginning, 20)), NAMES)[0] == "ada", (
        "ada has 300 tokens to do and the others nothing, which is 4 times the mean; but elsewhere 320 tokens would be computed"
        " again, which is more than 300"
    )
    router.started(ask(40, 1), "ada")
    assert router.choose(ask(with_end(beginning, 20)), NAMES)[0] != "ada", "now ada is ahead by 341 tokens, and saves only 320"


def test_task_3_after_a_move_both_are_asked() -> None:
    beginning = tokens(160, 1)
    router = overloaded(prefix_aware(), 5000, beginning)
    moved = send(router, ask(with_end(beginning, 20)))
    assert moved != "ada", "ada has too much to do"
    assert send(router, ask(with_end(beginning, 20, 1))) == moved, "the next one finds its beginning where the last one went"


@pytest.mark.parametrize("most", [1, 5, 40])
def test_task_3_what_is_remembered_is_bounded(most: int) -> None:
    router = prefix_aware(max_blocks=most)
    for _ in range(30):
        for name in ("ada", "bob"):
            serve(router, ask(70), name)
        assert router.remembered("ada") <= most, (
            f"{router.remembered('ada')} keys of one replica are remembered, at most {most}"
        )
        assert router.remembered("bob") <= most, "each replica has a bound of its own"
    assert router.remembered("ada") == most, "as many are remembered as may be"
    assert router.remembered("cleo") == 0, "cleo was sent nothing"


def test_task_3_equal_blocks_are_remembered_once() -> None:
    router = prefix_aware()
    for number in range(50):
        serve(router, ask(with_end(tokens(64, 1), 5, number)), "ada")
    assert router.remembered("ada") == 4, "the same 4 blocks each time; the ends are no full blocks"


def test_task_3_the_oldest_is_forgotten_first() -> None:
    router = prefix_aware(max_blocks=8)
    for tenant in (1, 2):
        serve(router, ask(tokens(64, tenant)), "ada")
    serve(router, ask(tokens(64, 1)), "ada")
    serve(router, ask(tokens(64, 3)), "ada")
    got = {tenant: router.matched(ask(tokens(64, tenant)), ["ada"])["ada"] for tenant in (1, 2, 3)}
    assert got == {1: 64, 2: 0, 3: 64}, (
        f"8 blocks are remembered: 3 is new, 1 was sent again, 2 is the one sent longest ago. {got}"
    )


def test_task_3_looking_is_not_sending() -> None:
    router = prefix_aware(max_blocks=8)
    for tenant in (1, 2):
        serve(router, ask(tokens(64, tenant)), "ada")
    router.choose(ask(tokens(64, 1)), NAMES)
    router.matched(ask(tokens(64, 1)), NAMES)
    serve(router, ask(tokens(64, 3)), "ada")
    got = {tenant: router.matched(ask(tokens(64, tenant)), ["ada"])["ada"] for tenant in (1, 2, 3)}
    assert got == {1: 0, 2: 64, 3: 64}, (
        f"1 was sent longest ago; that a replica was ranked for it since makes it no later. {got}"
    )


def test_task_3_the_end_of_a_prompt_is_forgotten_before_its_beginning() -> None:
    router = prefix_aware(max_blocks=6)
    serve(router, ask(tokens(64, 1)), "ada")
    serve(router, ask(tokens(64, 2)), "ada")
    assert router.matched(ask(tokens(64, 2)), ["ada"]) == {"ada": 64}, "what was sent last is remembered in full"
    assert router.matched(ask(tokens(64, 1)), ["ada"]) == {"ada": 32}, (
        "two blocks of the older prompt are left: its first two, since the others are of no use without these"
    )
    serve(router, ask(tokens(160, 3)), "ada")
    assert router.matched(ask(tokens(160, 3)), ["ada"]) == {"ada": 96}, "of a prompt of 10 blocks its first 6"


def test_task_3_the_dead_are_forgotten() -> None:
    router, beginning = prefix_aware(), tokens(64, 1)
    serve(router, ask(beginning), "ada")
    serve(router, ask(beginning[:32]), "bob")
    router.died("ada")
    router.started(ask(beginning), "ada")
    router.joined("ada")
    got = router.matched(ask(beginning), NAMES)
    assert got == {"ada": 0, "bob": 32, "cleo": 0, "dan": 0}, f"ada is back with an empty cache, and bob never died: {got}"
    assert router.remembered("ada") == 0, "nothing of a dead replica is kept"
    router.started(ask(1000), "ada")
    assert router.choose(ask(beginning), NAMES)[0] != "ada", "so nothing draws this prompt to ada"


def test_task_3_nothing_reads_a_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    own = threading.get_ident()  # other threads may look at it

    def watched(clock: Callable[[], float]) -> Callable[[], float]:
        def read() -> float:
            assert threading.get_ident() != own, "a router reads the clock: in a simulation there is another one"
            return clock()

        return read

    for name in ("time", "monotonic", "perf_counter", "time_ns", "monotonic_ns", "perf_counter_ns"):
        monkeypatch.setattr(time, name, watched(getattr(time, name)))
    router = prefix_aware(max_blocks=5)
    for number in range(10):
        request = ask(with_end(tokens(64, number % 3), 5))
        name = send(router, request)
        router.progressed(request, name, 1)
        router.finished(request, name)
    assert router.remembered("ada") <= 5, "ten requests came and went"


@pytest.mark.parametrize(
    "options", [{"block_size": 0}, {"max_imbalance": 0.9}, {"max_imbalance": float("nan")}, {"max_blocks": 0}]
)
def test_task_3_sizes_that_make_no_sense_are_refused(options: dict[str, float]) -> None:
    router = prefix_aware()
    router.choose(ask(), NAMES)
    name, value = next(iter(options.items()))
    with refuses(ValueError, f"{name} = {value} must be refused, and named", name):
        answer.PrefixAware(**options)


def test_task_3_tenants_keep_their_replicas_and_loads_stay_even() -> None:
    """Three times as many tenants as replicas, of unequal size; 20 requests are open at a time."""
    router, random, opened, hits, work = prefix_aware(), Random(1), [], 0, Counter[str]()
    for number in range(400):
        tenant = random.choices(range(12), weights=[1 / (rank + 1) for rank in range(12)])[0]
        request = ask(with_end(tokens(400, tenant), random.randint(20, 60), number), 32)
        name = router.choose(request, NAMES)[0]
        found = router.matched(request, [name])[name]
        hits += found == 400
        work[name] += len(request.prompt) - found + 32
        router.started(request, name)
        opened.append((request, name))
        if len(opened) > 20:
            router.finished(*opened.pop(random.randrange(20)))
    assert hits > 300, f"of 400 requests {hits} went to a replica that has its tenant's 400 tokens"
    assert max(work.values()) < 1.5 * sum(work.values()) / 4, f"no replica computes far more than the mean: {dict(work)}"
