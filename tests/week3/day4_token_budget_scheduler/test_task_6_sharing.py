"""Week 3 Day 4, task 6: requests share the blocks of equal beginnings, and no answer shows it."""

from typing import Any

import mlx.core as mx
import pytest

from answer import answer
from day6_engines import assert_failed
from paged_engines import ask, ask_with_eos, engine, serve
from support import POISON, CountingModel, ToyModel, assert_alone, finish_all, make_prompt, step_until


def hits(served: Any, *requests: Any) -> int:
    """How many prompt tokens these requests, served together, found in the cache."""
    __tracebackhide__ = True
    before = served.metrics.prefix_cache_hits
    serve(served, *requests)
    return int(served.metrics.prefix_cache_hits - before)


def computed(model: CountingModel) -> int:
    """How many tokens the model has been given since the last call of this."""
    calls, model.calls[:] = list(model.calls), []
    return sum(rows * length for rows, length in calls)


@pytest.mark.parametrize(
    ("shared", "own", "found"), [(16, 5, 16), (17, 5, 16), (19, 1, 16), (3, 9, 0), (20, 0, 19), (18, 0, 16)]
)
def test_task_6_sharing_a_beginning(toy: ToyModel, shared: int, own: int, found: int) -> None:
    model = CountingModel(toy)
    served = engine(model)
    common = make_prompt(shared, seed=3)
    first = answer.PagedRequest([*common, *make_prompt(8)], 4)
    serve(served, first)
    computed(model)
    second = answer.PagedRequest([*common, *make_prompt(own, seed=1)], 6)
    serve(served, second)
    assert computed(model) == shared + own - found + 5, (
        f"{shared} tokens are common, and {found} of them need not be computed: those in full blocks of 4, and never the last"
        " token of a prompt, whose logits are wanted"
    )
    assert_alone(toy, first, second)


def test_task_6_sharing_the_same_prompt(toy: ToyModel) -> None:
    served = engine(toy)
    requests = [ask(12, 9, sampling=answer.SamplingParams(temperature=t, seed=1)) for t in (0.0, 0.0, 3.0)]
    found = [hits(served, request) for request in requests]
    assert_alone(toy, *requests[:2])
    assert found == [0, 11, 11], (
        "the whole prompt is cached, and its last token is computed again, into a copy of the last block"
    )
    cold = engine(toy)
    sampled = ask(12, 9, sampling=requests[2].sampling)
    serve(cold, sampled)
    assert requests[2].generated_tokens == sampled.generated_tokens, "it draws the same, cached or not"


def test_task_6_sharing_while_the_owner_still_writes(toy: ToyModel) -> None:
    served = engine(toy)
    owner = served.submit(ask(12, 20))
    step_until(served, lambda: len(owner.generated_tokens) == 2)
    copies = [ask(12, 9) for _ in range(2)]
    longer = answer.PagedRequest([*owner.prompt, *make_prompt(3, seed=5)], 9)
    found = hits(served, *copies, longer)
    assert_alone(toy, owner, *copies, longer)
    assert found == 11 + 11 + 12, "the owner's blocks are found while it runs"


def test_task_6_sharing_answers_too(toy: ToyModel) -> None:
    served = engine(toy)
    first = ask(6, 15)
    serve(served, first)
    follow_up = answer.PagedRequest([*first.tokens, *make_prompt(5, seed=1)], 5)
    found = hits(served, follow_up)
    assert found == 20, (
        "of the 21 tokens that the first request had, all but its last were computed: five full blocks, which the next turn"
        " of the same conversation finds"
    )
    assert_alone(toy, first, follow_up)


@pytest.mark.parametrize("end", ["one token", "EOS at once", "max_tokens", "EOS"])
def test_task_6_sharing_what_the_last_token_completes(toy: ToyModel, end: str) -> None:
    served = engine(toy)
    first = {
        "one token": ask(12, 1),
        "EOS at once": ask_with_eos(toy, 12, 0, 5),
        "max_tokens": ask(9, 4),
        "EOS": ask_with_eos(toy, 9, 3, 9),
    }[end]
    serve(served, first)
    second = answer.PagedRequest([*first.tokens[:12], *make_prompt(3, seed=1)], 4)
    found = hits(served, second)
    assert found == 12, (
        f"the first request ended by {end}, and the 12 tokens before that were computed and are sound: three full blocks"
    )
    assert_alone(toy, first, second)


def test_task_6_sharing_is_no_sooner_than_tokens_come_back(toy: ToyModel) -> None:
    served = engine(toy, max_num_batched_tokens=64)
    first, second = served.submit(ask(16, 5)), served.submit(ask(16, 5))
    served.step()
    third = served.submit(ask(16, 5))
    served.step()
    assert served.metrics.prefix_cache_hits == 0, (
        "the first request's prompt was launched in the first step, and its token is read in the second: until then it is not"
        " known whether what is in its blocks means anything"
    )
    served.step()
    fourth = ask(16, 5)
    assert hits(served, fourth) == 15, "once its token has come back, the next one finds it"
    assert_alone(toy, first, second, third, fourth)


def test_task_6_sharing_nothing_that_is_not_sound(toy: ToyModel) -> None:
    sick = ToyModel()
    healthy = sick.token_embedding
    sick.token_embedding = mx.where(mx.arange(healthy.shape[0])[:, None] == POISON, mx.nan, healthy)
    served = engine(sick)
    prompt = [*make_prompt(9), POISON, *make_prompt(4)]
    poisoned = answer.PagedRequest(prompt, 5)
    serve(served, poisoned)
    assert_failed(toy, poisoned, FloatingPointError, "its logits were NaN")
    sick.token_embedding = healthy
    again = answer.PagedRequest(prompt, 5)
    assert hits(served, again) == 0, "no token of the poisoned request was sound, so nothing of it is shared"
    assert_alone(toy, again)


def test_task_6_sharing_can_be_switched_off(toy: ToyModel) -> None:
    model = CountingModel(toy)
    served = engine(model, prefix_caching=False)
    requests = [ask(12, 4) for _ in range(3)]
    serve(served, requests[0])
    serve(served, *requests[1:])
    assert computed(model) == 3 * (12 + 3), "with prefix_caching=False each computes the whole prompt"
    assert served.pool.num_free == served.pool.num_blocks, "and nothing is kept"
    assert_alone(toy, *requests)
    assert served.metrics.prefix_cache_queries == 0, "nothing was looked for"


def test_task_6_sharing_gives_way_to_those_who_run(toy: ToyModel) -> None:
    served = engine(toy, num_blocks=12)
    for seed in range(8):
        request = ask(13, 6, seed)
        serve(served, request)
        assert_alone(toy, request)
    large = ask(40, 8)
    serve(served, large)
    assert large.preemptions == 0, "blocks that are not held are evicted when they are in the way"
    assert_alone(toy, large)


def test_task_6_sharing_in_a_pool_without_room_for_a_copy(toy: ToyModel) -> None:
    served = engine(toy, num_blocks=4, max_seq_len=17)
    first, second = ask(12, 4), ask(12, 4)
    serve(served, first)
    serve(served, second)
    assert_alone(toy, first, second)
    third, fourth = ask(16, 1, seed=1), ask(16, 1, seed=1)
    serve(served, third)
    serve(served, fourth)
    assert_alone(toy, third, fourth)  # all four blocks are cached, and there is none for a copy of the last


class WatchedModel(CountingModel):
    """Notes into which blocks each call writes, and who else holds them."""

    served: Any = None

    def __call__(self, tokens: mx.array, offset: Any, cache: Any, *args: Any, **kwargs: Any) -> mx.array:
        for block in sorted({slot // 4 for slot in cache[0].batch.slots.tolist()}):
            holders = self.served.pool.references(block)
            assert (holders, self.served.prefix_cache.holds(block)) == (1, False), (
                f"a step writes into block {block}, which {holders} hold, the prefix cache among them if it is in there: others"
                " read it, so it has to be copied first"
            )
        return super().__call__(tokens, offset, cache, *args, **kwargs)


def test_task_6_sharing_nobody_writes_what_others_read(toy: ToyModel) -> None:
    model = WatchedModel(toy)
    served = model.served = engine(model)
    owner = served.submit(ask(12, 20))
    step_until(served, lambda: len(owner.generated_tokens) == 2)
    serve(served, ask(12, 9), ask(12, 5), answer.PagedRequest([*owner.prompt, 7], 6))
    serve(served, ask(12, 9))
    assert_alone(toy, owner)


@pytest.mark.parametrize("others", [1, 2, 3])
def test_task_6_sharing_what_is_found_is_held_before_anything_is_evicted(toy: ToyModel, others: int) -> None:
    served = engine(toy, num_blocks=14)
    runs = served.submit(ask(4, 40))
    step_until(served, lambda: runs.state == "decoding")
    first = ask(8, 1, seed=1)
    served.submit(first)
    step_until(served, lambda: first.state == "finished")
    seed = 2
    while served.pool.num_free > 0:
        filler = served.submit(ask(4 * min(2, served.pool.num_free), 1, seed))
        step_until(served, lambda: filler.state == "finished" or not served.pool.num_free)  # noqa: B023
        seed += 1
    step_until(served, lambda: runs.offset == 4 * len(runs.blocks))
    before = served.metrics.prefix_cache_hits
    found = [served.submit(answer.PagedRequest([*first.prompt, *make_prompt(2, seed=30 + i)], 5)) for i in range(others)]
    served.step()
    assert served.metrics.prefix_cache_hits >= before + 8, (
        "in this step one request begins a block, and another is admitted that begins with what was used longest ago: it holds"
        " that before anything is evicted"
    )
    finish_all(served, after_step=served.check_integrity)
    assert_alone(toy, runs, *found)


def test_task_6_sharing_no_more_is_evicted_than_must_be(toy: ToyModel) -> None:
    served = engine(toy, num_blocks=12)
    for seed in range(3):
        serve(served, ask(12, 1, seed))
    assert served.metrics.num_evictions == 0, "three prompts of 3 blocks each fit into 12: nothing has been evicted yet"
    serve(served, ask(18, 1, seed=9))
    assert served.metrics.num_evictions == 2, "5 blocks were wanted and 3 were free: `num_evictions` counts the other two"
    found = [hits(served, ask(12, 1, seed)) for seed in (2, 1)]
    assert found == [11, 11], (
        "9 of 12 blocks were cached and 5 were wanted: the two that were used longest ago had to go, and not what came later"
    )


# What is counted.


def test_task_6_sharing_hits_are_counted_once_for_each_request(toy: ToyModel) -> None:
    served = engine(toy)
    common = make_prompt(16, seed=3)
    tails = (2, 7, 12)
    serve(served, answer.PagedRequest([*common, 1], 2))
    requests = [answer.PagedRequest([*common, *make_prompt(tail, seed=4)], 8) for tail in tails]
    for request in requests:
        served.submit(request)
    for _ in range(30):
        served.step()
        for request in [request for request in requests if request.request_id in served.running][:1]:
            if request.preemptions < 3 and request.generated_tokens:
                served.preempt(request)
    finish_all(served)
    assert_alone(toy, *requests)
    metrics = served.metrics
    assert metrics.num_preemptions > 0, "a request was preempted, and found its own tokens again"
    assert metrics.prefix_cache_queries == 17 + sum(16 + tail for tail in tails), (
        "each prompt is looked for once, when its request is first admitted"
    )
    assert metrics.prefix_cache_hits == 3 * 16, "three prompts found 16 tokens; what a preempted request finds again is no hit"
    assert metrics.prefix_cache_hit_rate == pytest.approx(48 / metrics.prefix_cache_queries), "hits among what was looked for"


def test_task_6_sharing_hits_count_a_copied_block(toy: ToyModel) -> None:
    served = engine(toy)
    assert served.metrics.prefix_cache_hit_rate == 0, "nothing was looked for yet"
    for _ in range(3):
        serve(served, ask(12, 4))
    assert (served.metrics.prefix_cache_queries, served.metrics.prefix_cache_hits) == (36, 22), (
        "twelve tokens are looked for three times, and found twice, but for the last, which is always computed"
    )


def test_task_6_sharing_computed_tokens_are_counted(toy: ToyModel) -> None:
    model = CountingModel(toy)
    served = engine(model, num_blocks=12, watermark=0)
    serve(served, *(ask(9 + seed, 14, seed) for seed in range(3)), ask(9, 14))
    assert served.metrics.num_preemptions > 0, "this test means a run in which something is computed twice"
    assert served.metrics.computed_tokens == computed(model), "all tokens given to the model, some of them twice"


def test_task_6_sharing_among_many(toy: ToyModel) -> None:
    model = CountingModel(toy)
    served = engine(model, num_blocks=80)
    system = make_prompt(24, seed=9)
    requests: list[Any] = [answer.PagedRequest([*system, *make_prompt(3 + i, seed=i + 1)], 5) for i in range(12)]
    serve(served, requests[0])
    serve(served, *requests[1:])
    assert_alone(toy, *requests)
    tails = sum(3 + i for i in range(12))
    assert computed(model) == 24 + tails + 12 * 4, "one computes the common 24 tokens, and all others only their own"
