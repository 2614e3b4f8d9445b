"""Week 3 Day 4, task 4: which request loses blocks when they do not suffice, what the prefix cache has to do with it, and that
a plan is only a plan. Blocks hold 4 tokens."""

import pytest

from answer import answer
from planning import State, assert_plan

# Preemption


def test_task_4_the_youngest_is_preempted() -> None:
    state = State()
    state.decode("a", 4)
    state.decode("b", 4)
    state.decode("c", 6)
    state.leave_free(0)
    assert_plan(state, "decode a, b; preempt c", "a and b need a block each, and c, the youngest, has two")


def test_task_4_as_many_are_preempted_as_it_takes() -> None:
    state = State()
    for name in "abcd":
        state.decode(name, 4)
    state.leave_free(0)
    assert_plan(state, "decode a, b; preempt c, d", "each has a block and needs another: d's goes to a, c's to b")


def test_task_4_somebody_may_be_the_youngest_themselves() -> None:
    state = State()
    for name in "abc":
        state.decode(name, 4)
    state.leave_free(0)
    plan = assert_plan(
        state,
        "decode a; preempt b, c",
        "c's block goes to a; then b is the youngest, and there is no other to take one from",
    )
    state.carry_out(plan)
    assert state.pool.num_free == 1, "b's block is free now"


@pytest.mark.parametrize("reads", [False, True], ids=["decodes", "reads its prompt"])
def test_task_4_those_behind_one_that_gives_itself_up_compute_nothing(reads: bool) -> None:
    state = State()
    state.decode("a", 4)
    state.decode("b", 4)
    if reads:
        state.begun("c", prompt=4, done=1)
    else:
        state.decode("c", 3)
    state.leave_free(0)
    plan = assert_plan(state, "decode a; preempt b, c", "c's block goes to a, b gives itself up, and both compute nothing")
    state.carry_out(plan)


def test_task_4_nobody_is_preempted_without_need() -> None:
    state = State()
    state.decode("a", 5)
    state.decode("b", 4)
    state.decode("c", 7)
    state.leave_free(1)
    assert_plan(state, "decode a, b, c", "a and c have places left in their blocks, and b takes the free block")


def test_task_4_preemption_stops_when_there_is_enough() -> None:
    state = State()
    state.decode("a", 4)
    state.decode("b", 5)
    state.decode("c", 13)
    state.decode("d", 6)
    state.leave_free(0)
    assert_plan(state, "decode a, b, c; preempt d", "a needs one block, and d has two: c is not the cheapest, but older")


def test_task_4_a_prompt_that_is_being_read_may_be_the_victim() -> None:
    state = State()
    state.decode("a", 4)
    state.begun("b", prompt=30, done=8)
    state.leave_free(0)
    assert_plan(state, "decode a; preempt b", "b is the youngest: it loses its blocks, and computes no chunk in this step")


def test_task_4_the_oldest_is_never_preempted() -> None:
    state = State()
    state.begun("a", prompt=30, done=8)
    state.decode("b", 4)
    state.leave_free(0)
    assert_plan(state, "go on a 8:24; preempt b", "b needs a block and is the youngest; a, the oldest, goes on")
    state = State()
    state.decode("a", 4)
    state.leave_free(0)
    assert_plan(state, "nothing", "a is alone and there is no block for it yet: it keeps what it has, and waits for a step")


def test_task_4_nobody_is_admitted_in_a_step_that_preempts() -> None:
    state = State()
    state.decode("a", 4)
    state.decode("b", 40)
    state.leave_free(0)
    state.wait("c", 3)
    assert_plan(state, "decode a; preempt b", "b gave back 10 blocks. Whoever took them now would be preempted next")


def test_task_4_prompts_go_on_in_a_step_that_preempts() -> None:
    state = State()
    state.begun("a", prompt=30, done=8)
    state.decode("b", 4)
    state.decode("c", 4)
    state.leave_free(0)
    assert_plan(state, "decode b; go on a 8:23; preempt c", "a's blocks are its own already")


def test_task_4_blocks_of_those_who_only_wait_for_their_last_token_are_not_taken() -> None:
    state = State()
    state.decode("a", 4)
    state.decode("b", 4)
    state.decode("last", 8, in_flight=1, max_tokens=2)
    state.leave_free(0)
    assert_plan(state, "decode a; preempt b", "the youngest has nothing left to compute: of those who have, b is the youngest")


def test_task_4_what_the_prefix_cache_can_give_up_is_taken_first() -> None:
    state = State()
    state.decode("a", 4)
    state.decode("b", 8)
    state.cached(range(8))
    state.leave_free(0)
    plan = assert_plan(state, "decode a, b", "two blocks of the prefix cache are not held: no request loses its own")
    state.carry_out(plan)


def test_task_4_shared_blocks_of_a_victim_do_not_become_free() -> None:
    state = State()
    a = state.decode("a", 4)
    state.decode("b", 4)
    state.decode("c", 4, shared=a.blocks)
    state.leave_free(0)
    assert_plan(state, "decode a; preempt b, c", "c's only block is also a's: it does not become free, so b has to go as well")


@pytest.mark.parametrize("cached", [False, True], ids=["own", "cached"])
def test_task_4_a_block_of_two_victims_becomes_free_with_the_second(cached: bool) -> None:
    state = State()
    state.decode("a", 4)
    blocks = state.cached(range(4)) if cached else []
    b = state.decode("b", 4, shared=blocks)
    state.decode("c", 4, shared=b.blocks)
    state.leave_free(0)
    plan = assert_plan(state, "decode a; preempt b, c", "b and c share one block, which no other holds once both are gone")
    state.carry_out(plan)


def test_task_4_blocks_of_a_victim_that_are_cached_can_be_evicted() -> None:
    state = State()
    state.decode("a", 4)
    state.decode("b", 8, shared=state.cached(range(8)))
    state.leave_free(0)
    plan = assert_plan(state, "decode a; preempt b", "without b, only the prefix cache holds its blocks, and it gives them up")
    state.carry_out(plan)


def test_task_4_cached_blocks_of_a_victim_that_others_hold_stay() -> None:
    state = State()
    blocks = state.cached(range(8))
    state.decode("a", 8, shared=blocks)
    state.decode("b", 12)
    state.decode("c", 8, shared=blocks)
    state.leave_free(0)
    plan = assert_plan(state, "decode a; preempt b, c", "a holds c's cached blocks, too: they can't be evicted")
    state.carry_out(plan)


# The prefix cache


def test_task_4_a_hit_is_where_a_newcomer_begins() -> None:
    state = State()
    blocks = state.cached(range(8))
    state.wait("a", [*range(8), 70, 71, 72])
    plan = assert_plan(
        state, "admit a 8:11", "8 of a's 11 tokens are cached, and a budget of 3 is enough for the rest", seqs=2, tokens=3
    )
    assert plan.chunks[0].match == answer.Match(blocks, 8), (
        "the chunk says which blocks are locked, and how many tokens they hold"
    )


def test_task_4_without_a_hit_the_match_is_empty() -> None:
    state = State()
    state.cached(range(8))
    state.wait("a", 6)
    plan = assert_plan(state, "admit a 0:6", "nothing of a's prompt is cached")
    assert plan.chunks[0].match == answer.Match([], 0), "a is admitted, so its chunk has a match, if with nothing in it"


def test_task_4_what_a_hit_saves_is_left_for_others() -> None:
    state = State()
    state.cached(range(8))
    state.wait("a", [*range(8), 70, 71])
    state.wait("b", 20)
    assert_plan(state, "admit a 8:10, b 0:14", "a takes 2 of a budget of 16")


def test_task_4_an_answer_that_is_cached_is_a_hit() -> None:
    state = State()
    a = state.wait("a", 6, answered=4)
    state.cached(a.tokens[:8])
    assert_plan(state, "admit a 8:10", "a was preempted: the cache knows its prompt and 2 tokens of its answer")


def test_task_4_hits_are_looked_up_anew_for_each_plan() -> None:
    state = State()
    state.cached(range(8))
    state.wait("a", [*range(8), 70, 71])
    assert_plan(state, "admit a 8:10", "8 tokens are cached")
    state.cache.evict(1)
    assert_plan(state, "admit a 4:10", "the second block has been evicted since then")
    state.cache.evict(1)
    assert_plan(state, "admit a 0:10", "now nothing is cached any more")


def test_task_4_a_prompt_of_which_all_is_cached_computes_its_last_token() -> None:
    state = State()
    blocks = state.cached(range(8))
    state.wait("a", range(8))
    plan = assert_plan(state, "admit a 7:8", "the logits after the last token have to be computed")
    assert plan.chunks[0].match == answer.Match(blocks, 7), "both blocks are in the match, the second is used in part"
    state.carry_out(plan)


@pytest.mark.parametrize(("others", "expected"), [(0, "nothing"), (1, "admit a 8:11")])
def test_task_4_matched_blocks_are_not_evicted_for_the_rest(others: int, expected: str) -> None:
    state = State()
    state.cached(range(8))
    state.cached(range(50, 50 + 4 * others))
    state.leave_free(0)
    state.wait("a", [*range(8), 70, 71, 72])
    look_at = f"a keeps its 2 cached blocks and needs a third, {others} other blocks can be evicted, and none is free"
    plan = assert_plan(state, expected, look_at)
    state.carry_out(plan)


@pytest.mark.parametrize(("free", "expected"), [(1, "go on b 9:11; admit a 8:11"), (0, "go on b 9:11")])
def test_task_4_blocks_that_others_hold_anyway_cost_nothing(free: int, expected: str) -> None:
    state = State()
    state.begun("b", [*range(8), 80, 81, 82], done=9, shared=state.cached(range(8)))
    state.leave_free(free)
    state.wait("a", [*range(8), 70, 71, 72])
    plan = assert_plan(state, expected, f"a shares 2 blocks with b and needs 1 of its own, and {free} are free")
    state.carry_out(plan)


@pytest.mark.parametrize(("free", "expected"), [(2, "admit a 8:11, b 8:10"), (1, "admit a 8:11"), (0, "nothing")])
def test_task_4_newcomers_share_what_they_both_find(free: int, expected: str) -> None:
    state = State()
    state.cached(range(8))
    state.leave_free(free)
    state.wait("a", [*range(8), 70, 71, 72])
    state.wait("b", [*range(8), 80, 81])
    plan = assert_plan(
        state, expected, f"both keep the same 2 cached blocks and need 1 each: {free} are free, and no others can be evicted"
    )
    state.carry_out(plan)


@pytest.mark.parametrize(
    ("free", "expected"),
    [(1, "admit a 7:8"), (0, "admit a 4:8")],
    ids=["room for the copy", "no room"],
)
def test_task_4_the_copy_of_a_block_takes_a_block(free: int, expected: str) -> None:
    state = State()
    blocks = state.cached(range(8))
    state.leave_free(free)
    state.wait("a", range(8))
    plan = assert_plan(
        state,
        expected,
        f"all of a's prompt is cached. It writes into a copy of the last block, for which {free} blocks are free. Where there"
        " is no room for both, it does without the cached one, and computes these 4 tokens",
    )
    if not free:
        assert plan.chunks[0].match == answer.Match(blocks[:1], 4), "the match is without the block that is not used"
    state.carry_out(plan)


def test_task_4_a_prompt_as_large_as_the_pool_is_not_kept_out_by_being_cached() -> None:
    state = State(num_blocks=3)
    state.cached(range(12))
    state.wait("a", range(12))
    plan = assert_plan(state, "admit a 8:12", "the pool has just as many blocks as the prompt needs: there is none for a copy")
    state.carry_out(plan)


@pytest.mark.parametrize(("free", "expected"), [(1, "go on b 8:12; admit a 7:8"), (0, "go on b 8:12")])
def test_task_4_the_copy_needs_a_block_when_others_hold_the_original(free: int, expected: str) -> None:
    state = State()
    state.begun("b", [*range(8), 80, 81, 82, 83], done=8, shared=state.cached(range(8)))
    state.leave_free(free)
    state.wait("a", range(8))
    plan = assert_plan(state, expected, f"b holds the cached blocks, so a needs one for its copy, and {free} are free")
    state.carry_out(plan)


# What a plan leaves alone


def test_task_4_a_plan_changes_nothing() -> None:
    state = State(num_blocks=30)
    state.decode("a", 4)
    state.decode("b", 9, in_flight=1)
    state.begun("c", prompt=20, done=3)
    state.cached(range(8))
    state.cached(range(50, 58))
    state.wait("d", [*range(8), 70, 71])
    state.wait("e", range(50, 58))
    state.leave_free(4)
    before, queues = state.everything(), ([*state.running], [*state.waiting])
    plan = state.plan(tokens=64)
    assert state.everything() == before, "blocks, prefix cache and requests are as they were: a plan is carried out by others"
    assert ([*state.running], [*state.waiting]) == queues, "and so are those who run and those who wait"
    assert state.show(state.plan(tokens=64)) == state.show(plan), "planned again, the plan is the same"
    tight = State()
    for name in "abc":
        tight.decode(name, 4)
    tight.leave_free(0)
    before = tight.everything()
    tight.plan()
    assert tight.everything() == before, "a plan that preempts takes no blocks away: that comes with the step"


def test_task_4_a_plan_is_no_use_of_the_prefix_cache() -> None:
    state = State()
    oldest, newer = state.cached(range(4)), state.cached(range(50, 54))
    state.wait("a", [*range(4), 70])
    state.leave_free(1)
    state.plan()
    state.cache.evict(1)
    assert (state.cache.holds(oldest[0]), state.cache.holds(newer[0])) == (False, True), (
        "the block that a plan looked at is still the one that was used least recently: only a lock is a use"
    )
