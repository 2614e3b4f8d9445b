"""Week 3 Day 5, task 5: the speculating engine gives several tokens per step, within budget and pool, and stops in time."""

from collections import Counter
from itertools import pairwise
from typing import Any

import mlx.core as mx
import pytest

from answer import answer
from day6_engines import drawn_alone
from paged_engines import ask, ask_with_eos, serve, tokens_per_step
from speculating import ADVERSARY, ORACLE, Knowing, Scripted, engine, engine_knowing, sequence_of, wrong
from support import CountingModel, ToyModel, alone, assert_alone, expect_no_error, finish_all, make_prompt, refuses, step_until
from tiny_llm_kit.models.tiny_random import ByteTokenizer

# Several tokens in a step.


@pytest.mark.parametrize(
    ("right", "steps"), [(ORACLE, [5, 5, 5, 5, 5]), (ADVERSARY, [5] * 17 + [4, 3, 2, 1]), (2, [5] * 7 + [2])]
)
def test_task_5_engine_steps(toy: ToyModel, right: int, steps: list[int]) -> None:
    request, counting = ask(5, 21), CountingModel(toy)
    served, _ = engine_knowing(toy, [request], right, counting)
    served.submit(request)
    given = tokens_per_step(counting, served)
    assert_alone(toy, request)
    assert given == steps, (
        f"a prompt of 5 and an answer of 21 tokens, with 4 drafts per step of which {min(right, 4)} are right: it was given"
        f" {given} tokens, step by step, and {steps} are enough. A step gives the right drafts and one token more"
    )


def test_task_5_engine_returns_the_tokens_of_a_step_from_that_step(toy: ToyModel) -> None:
    request = ask(5, 20)
    served, _ = engine_knowing(toy, [request])
    served.submit(request)
    for tokens in (1, 6, 11, 16, 20):
        ended = served.step()
        served.check_integrity()
        assert len(request.generated_tokens) == tokens, "drafts are made for what was read, so each step reads what it launched"
        assert request.in_flight == 0, "between two steps nothing is on its way"
    assert ended == [request]


class CyclicModel:
    """Says 1, 2, … 9, 1, 2, …: each token by the one before it."""

    def __init__(self, toy: ToyModel) -> None:
        self.config = toy.config

    def __call__(self, tokens: mx.array, *_: Any, logits_to_keep: mx.array, **__: Any) -> mx.array:
        return (mx.arange(self.config.vocab_size) == (tokens[:, logits_to_keep] % 9 + 1)[..., None]) * 10.0


def test_task_5_engine_speculates_by_default(toy: ToyModel) -> None:
    counting = CountingModel(CyclicModel(toy))
    served = answer.SpeculativeEngine(counting, num_blocks=40, block_size=4)
    request = answer.PagedRequest([3], 100)
    serve(served, request)
    expect_no_error(request)
    assert request.generated_tokens == [(3 + place) % 9 + 1 for place in range(100)]
    assert len(counting.calls) < 40, f"a text with a period of 9 took {len(counting.calls)} steps: n-grams are right in most"


def test_task_5_engine_serves_several_together(toy: ToyModel) -> None:
    requests = [ask(5, 17), ask(9, 12, 1), ask(3, 20, 2), ask(30, 9, 3)]
    counting = CountingModel(toy)
    served, _ = engine_knowing(toy, requests, model=counting)
    for request in requests:
        served.submit(request)
    given = tokens_per_step(counting, served)
    assert_alone(toy, *requests)
    assert max(given) <= 24, f"the budget of a step is 24 tokens, and steps had {given}"
    assert len(given) <= 9, f"4 drafts, all right, and yet {len(given)} steps for answers of at most 20 tokens"


def test_task_5_engine_drafts_for_some_and_not_for_others(toy: ToyModel) -> None:
    known, unknown, partly = ask(5, 16), ask(6, 16, 1), ask(7, 16, 2)
    sequences = [sequence_of(toy, known), sequence_of(toy, partly)[:14]]
    counting = CountingModel(toy)
    served = engine(counting, lambda: Knowing(sequences))
    for request in (known, unknown, partly):
        served.submit(request)
    given = tokens_per_step(counting, served)
    assert_alone(toy, known, unknown, partly)
    assert len(given) == 16, "one of the three has no drafts, and 16 tokens to get"


@pytest.mark.parametrize("right", [ORACLE, 1, ADVERSARY])
@pytest.mark.parametrize(
    "sampling", [{"temperature": 2.0}, {"repetition_penalty": 1.5}, {"temperature": 2.0, "repetition_penalty": 1.3}]
)
def test_task_5_engine_draws_as_without_drafts(toy: ToyModel, right: int, sampling: dict[str, float]) -> None:
    drawing = [ask(5 + seed, 14, seed, sampling=answer.SamplingParams(seed=seed, **sampling)) for seed in range(2)]
    expected = [drawn_alone(toy, request, 14) for request in drawing]
    sequences = [[*request.prompt, *said] for request, said in zip(drawing, expected, strict=True)]
    served = engine(toy, lambda: Knowing(sequences, right))
    greedy = ask(4, 14, 7)
    serve(served, *drawing, greedy)
    assert_alone(toy, greedy)
    for request, said in zip(drawing, expected, strict=True):
        expect_no_error(request)
        assert request.generated_tokens == said, (
            f"with {sampling} it was told {request.generated_tokens}, and without drafts {said}: a token is a function of the"
            " seed, the position and the tokens before it"
        )


# The end of an answer.


@pytest.mark.parametrize("max_tokens", range(1, 9))
def test_task_5_engine_meets_max_tokens(toy: ToyModel, max_tokens: int) -> None:
    request = ask(5, max_tokens)
    served, made = engine_knowing(toy, [ask(5, 30)])
    serve(served, request)
    assert_alone(toy, request)
    assert (len(request.generated_tokens), request.finish_reason) == (max_tokens, "length")
    for drafter in made:
        for known, count in drafter.asked:
            left = 5 + max_tokens - known
            assert 1 <= count < left, (
                f"{count} drafts were asked for where {left} tokens are missing: the last of them is the model's own"
            )


def test_task_5_engine_stays_below_max_seq_len(toy: ToyModel) -> None:
    highest = 0

    class Watched(CountingModel):
        def __call__(self, tokens: mx.array, positions: Any = 0, *args: Any, **kwargs: Any) -> mx.array:
            nonlocal highest
            highest = max(highest, mx.max(positions).item())
            return super().__call__(tokens, positions, *args, **kwargs)

    request = ask(8, 100)
    served, _ = engine_knowing(toy, [ask(8, 40)], model=Watched(toy), max_seq_len=19)
    serve(served, request)
    assert request.generated_tokens == alone(toy, request.prompt, 11)
    assert highest < 18, f"a request may have 19 tokens, the last is not computed on, and position {highest} was computed"


@pytest.mark.parametrize("position", [1, 2, 3, 5, 6])
@pytest.mark.parametrize("right", [ORACLE, ADVERSARY])
def test_task_5_engine_ends_at_an_eos_among_drafts(toy: ToyModel, position: int, right: int) -> None:
    told: list[int] = []
    ending = ask_with_eos(toy, 5, position, 16, on_update=lambda request, _: told.append(len(request.generated_tokens)))
    other = ask(6, 16, 3)
    served, _ = engine_knowing(toy, [ending, other], right)
    ended = serve(served, ending, other)
    assert_alone(toy, ending, other)
    assert ending.finish_reason == "stop"
    assert ended == [ending, other]
    assert told == [*range(1, position + 1), position], (
        "a client hears of each token, and of the end, once; nothing comes after"
    )


@pytest.mark.parametrize("right", [ORACLE, ADVERSARY])
def test_task_5_engine_ends_at_a_stop_string_among_drafts(toy: ToyModel, right: int) -> None:
    said = alone(toy, make_prompt(5), 16)
    text = ByteTokenizer().decode(said)
    request = ask(5, 16, stop=[text[7:9]], detokenizer=ByteTokenizer().detokenizer())
    served, _ = engine_knowing(toy, [request], right)
    serve(served, request)
    expect_no_error(request)
    assert request.finish_reason == "stop"
    assert (request.generated_tokens, request.text) == (said[:9], text[:7]), "the answer ends before the stop string"


# What drafts may take.


def test_task_5_engine_leaves_the_budget_to_prompts(toy: ToyModel) -> None:
    first, reader = ask(3, 30), ask(44, 5, 1)
    counting = CountingModel(toy)
    served, _ = engine_knowing(toy, [first, reader], model=counting, max_num_batched_tokens=12)
    served.submit(first)
    step_until(served, lambda: len(first.generated_tokens) >= 1)
    served.submit(reader)
    reached = []
    while not reader.generated_tokens:
        before = len(first.generated_tokens)
        counting.calls.clear()
        served.step()
        assert counting.calls[0][1] <= 12, f"the budget of a step is 12 tokens, and one had {counting.calls[0][1]}"
        reached.append((reader.offset, len(first.generated_tokens) - before))
    assert reached == [(11, 1), (22, 1), (33, 1), (44, 1)], (
        f"{reached}: a prompt of 44 tokens alongside one decode, with a budget of 12, takes 4 steps. Drafts take what is left"
    )
    finish_all(served, after_step=served.check_integrity)
    assert_alone(toy, first, reader)


@pytest.mark.parametrize("budget", [3, 4, 5, 9, 14, 30])
def test_task_5_engine_stays_within_the_budget(toy: ToyModel, budget: int) -> None:
    requests = [ask(3, 24), ask(4, 24, 1), ask(5, 24, 2)]
    counting = CountingModel(toy)
    served, _ = engine_knowing(toy, requests, ADVERSARY, counting, max_num_batched_tokens=budget, max_num_seqs=3)
    for request in requests:
        served.submit(request)
    step_until(served, lambda: all(request.generated_tokens for request in requests))
    counting.calls.clear()
    before = [len(request.generated_tokens) for request in requests]
    served.step()
    expected = min(budget, 3 + 3 * 4)
    assert counting.calls == [(1, expected)], (
        f"3 decodes with a budget of {budget}: a step computes {expected} tokens, decodes and as many drafts as fit"
    )
    assert [len(request.generated_tokens) for request in requests] == [count + 1 for count in before]
    finish_all(served, after_step=served.check_integrity)
    assert_alone(toy, *requests)


@pytest.mark.parametrize("block_size", [1, 2, 4])
def test_task_5_engine_gives_back_the_blocks_of_wrong_drafts(toy: ToyModel, block_size: int) -> None:
    request = ask(5, 20)
    served, _ = engine_knowing(toy, [request], ADVERSARY, block_size=block_size, num_blocks=40)
    served.submit(request)
    while served.has_work:
        served.step()
        served.check_integrity()
        if request.finish_reason is None:
            known = 5 + len(request.generated_tokens)
            enough = answer.blocks_for(known, block_size)
            assert len(request.blocks) <= enough, (
                f"{known} tokens are known and take {enough} blocks of {block_size}; it holds {len(request.blocks)}: those"
                " of drafts that were wrong are to be given back in the same step"
            )
            assert request.offset == known - 1, f"{known} tokens are known: all but the last are computed, not {request.offset}"
    assert_alone(toy, request)


@pytest.mark.parametrize("right", [ORACLE, 1, ADVERSARY])
def test_task_5_engine_evicts_for_no_draft(toy: ToyModel, right: int) -> None:
    earlier, request = ask(18, 3, 1), ask(5, 16)
    served, _ = engine_knowing(toy, [request], right, num_blocks=8)
    serve(served, earlier)
    free = served.pool.num_free
    assert 0 < free < 4, "the prefix cache should keep what the first request has computed"
    served.submit(request)
    while served.has_work:
        served.step()
        served.check_integrity()
        needed = answer.blocks_for(5 + len(request.generated_tokens) - 1, 4)
        evicted = served.metrics.num_evictions
        assert evicted <= max(0, needed - free), (
            f"{needed} blocks hold what has been computed, {free} were free, and {evicted} were evicted: no draft may evict"
        )
    assert_alone(toy, request)


@pytest.mark.parametrize("prefix_caching", [False, True])
def test_task_5_engine_preempts_for_no_draft(toy: ToyModel, prefix_caching: bool) -> None:
    def make() -> list[Any]:
        return [ask(5, 20), ask(6, 20, 1), ask(7, 20, 2)]

    options = {"num_blocks": 12, "max_num_batched_tokens": 24, "prefix_caching": prefix_caching}
    plain = answer.Engine(toy, block_size=4, max_num_seqs=4, **options)
    serve(plain, *make())
    requests = make()
    served, _ = engine_knowing(toy, requests, ADVERSARY, **options)
    serve(served, *requests)
    assert_alone(toy, *requests)
    assert plain.metrics.num_preemptions > 0, "this test means a pool in which a request is preempted"
    assert served.metrics.num_preemptions <= plain.metrics.num_preemptions, (
        f"{served.metrics.num_preemptions} preemptions, and {plain.metrics.num_preemptions} without drafts: these take free"
        " blocks only, and give them back when they are wrong"
    )


def test_task_5_engine_drafts_as_far_as_free_blocks_reach(toy: ToyModel) -> None:
    earlier, request = ask(18, 3, 1), ask(5, 16)
    served, made = engine_knowing(toy, [request], num_blocks=8, num_speculative_tokens=9)
    serve(served, earlier)
    assert served.pool.num_free == 3, "the prefix cache should keep the 5 full blocks that the first request has computed"
    serve(served, request)
    assert_alone(toy, request)
    assert made[-1].asked[0] == (6, 6), (
        "3 free blocks hold 12 tokens, of which 6 are known: there is room for 6 drafts, and what could be evicted is not taken"
    )


def test_task_5_engine_takes_blocks_for_drafts_that_came(toy: ToyModel) -> None:
    silent, drafting = ask(5, 12), ask(6, 12, 1)
    served, made = engine_knowing(toy, [drafting], num_blocks=5, prefix_caching=False)
    serve(served, silent, drafting)
    assert_alone(toy, silent, drafting)
    assert made[1].asked[0] == (7, 4), (
        "one block is free. The older request's drafter was asked for 4 tokens and proposed none, so the block is left to the"
        f" younger one, which has room for 4 drafts: with (tokens, drafts wanted) its drafter was asked for {made[1].asked[0]}"
    )


# Who drafts, and how much.


def test_task_5_engine_makes_a_drafter_for_each_request(toy: ToyModel) -> None:
    requests = [ask(5, 12), ask(6, 12, 1)]
    served, made = engine_knowing(toy, requests, 1)
    serve(served, *requests)
    assert len(made) == 2, f"2 requests, and {len(made)} drafters: each request has one, as long as it runs"
    for drafter, request in zip(made, requests, strict=True):
        lengths = [known for known, _ in drafter.asked]
        assert all(one < other for one, other in pairwise(lengths)), "a drafter sees the tokens of one request grow"
        assert lengths[0] == len(request.prompt) + 1, "the first drafts are made when the first token is there"


@pytest.mark.parametrize("most", [1, 2, 7])
def test_task_5_engine_always_asks_for_as_many_as_it_is_told(toy: ToyModel, most: int) -> None:
    request = ask(5, 30)
    served, made = engine_knowing(toy, [request], 1, num_speculative_tokens=most)
    serve(served, request)
    assert_alone(toy, request)
    counts = {count for known, count in made[0].asked if 35 - known > most}
    assert counts == {most}, f"with num_speculative_tokens={most}, and without AdaptiveDraft, steps asked for {counts} drafts"


class Noting:
    """In place of `AdaptiveDraft`: says 3, and notes what it is told."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.told: list[tuple[int, int]] = []

    def length(self, rows: int) -> int:
        self.rows.append(rows)
        return 3

    def update(self, proposed: int, accepted: int) -> None:
        self.told.append((proposed, accepted))


@pytest.mark.parametrize("right", [ORACLE, 1, ADVERSARY])
def test_task_5_engine_adapts(toy: ToyModel, right: int) -> None:
    made: list[Noting] = []

    def adaptive() -> Noting:
        made.append(Noting())
        return made[-1]

    requests = [ask(5, 9), ask(6, 9, 1), ask(7, 9, 2)]
    served, drafters = engine_knowing(toy, requests, right, adaptive=adaptive, max_num_batched_tokens=30)
    serve(served, *requests)
    assert_alone(toy, *requests)
    assert len(made) == 3, f"3 requests, and {len(made)} objects to say how much each should draft"
    for one, drafter in zip(made, drafters, strict=True):
        told = [pair for pair in one.told if pair != (0, 0)]
        counts = [count for _, count in drafter.asked]
        assert max(counts) == 3, "`length` said 3"
        judged = [count for count, _ in told]
        assert [some <= count for some, count in zip(judged, counts, strict=False)] == [True] * len(counts), (
            f"drafts of {counts} tokens: `update` was told of {judged}. Of one that was cut, the first is judged all the same"
        )
        assert told == [(count, min(right, count)) for count in judged], (
            f"drafts of {judged} tokens, of which {right} are right, if there are as many: `update` was told {told}"
        )
        assert one.rows[0] == 3, f"3 requests decode in that step, and `length` was told {one.rows[0]}"


def test_task_5_engine_adapts_to_those_who_decode(toy: ToyModel) -> None:
    made: list[Noting] = []

    def adaptive() -> Noting:
        made.append(Noting())
        return made[-1]

    requests = [ask(5, 20), ask(6, 20, 1), ask(7, 3, 2)]
    served, _ = engine_knowing(toy, requests, 1, adaptive=adaptive)
    served.submit(requests[0]), served.submit(requests[1])
    step_until(served, lambda: all(request.generated_tokens for request in requests[:2]))
    served.submit(requests[2])
    served.step()
    assert requests[2].generated_tokens, "this test means a step that reads a whole prompt alongside two decodes"
    assert [one.rows[-1] for one in made[:2]] == [2, 2], (
        f"2 requests decode while the prompt of a third is read: `length` was told {[one.rows[-1] for one in made[:2]]}"
    )
    serve(served)
    assert_alone(toy, *requests)


@pytest.mark.parametrize("adapts", [True, False])
def test_task_5_engine_cuts_drafts_to_whole_tiles(toy: ToyModel, adapts: bool) -> None:
    requests = [ask(5 + seed, 20, seed) for seed in range(8)]
    made: list[Noting] = []

    def adaptive() -> Noting:
        made.append(Noting())
        return made[-1]

    counting = CountingModel(toy)
    sequences = [sequence_of(toy, requests[0])]  # the drafter knows what one of 8 says
    options = {"num_blocks": 80, "max_num_seqs": 8, "max_num_batched_tokens": 100}
    served = engine(
        counting, lambda: Knowing(sequences), adaptive=adaptive if adapts else None, num_speculative_tokens=3, **options
    )
    for request in requests:
        served.submit(request)
    served.step()
    served.step()
    served.check_integrity()
    given = counting.calls[-1][1]
    if adapts:
        assert given == 8, f"8 tokens are planned, and 3 drafts would begin a tile of 8 for themselves: {given} were computed"
        assert made[0].told == [(1, 1)], (
            "its drafts were cut, and the token that the model said is what the first of them was: that is a right draft for"
            f" `update`, which was told {made[0].told}"
        )
    else:
        assert given == 11, f"without AdaptiveDraft, drafts are as long as they are told to be: {given} tokens were computed"
    drafted = served.metrics.spec_decode_num_draft_tokens
    assert drafted == given - 8, f"{given - 8} drafts were checked, and {drafted} are counted"
    serve(served)
    assert_alone(toy, *requests)


def test_task_5_engine_stops_drafting_what_is_never_right(toy: ToyModel) -> None:
    request = ask(5, 60)
    served, _ = engine_knowing(toy, [request], ADVERSARY, adaptive=answer.AdaptiveDraft)
    serve(served, request)
    assert_alone(toy, request)
    drafted = served.metrics.spec_decode_num_draft_tokens
    assert 0 < drafted < 60, f"{drafted} drafts in 60 steps, of which none was right: AdaptiveDraft is told, and says so"


@pytest.mark.parametrize("count", [0, -1])
def test_task_5_engine_refuses_to_speculate_with_nothing(toy: ToyModel, count: int) -> None:
    engine(toy, Knowing).check_integrity()
    with refuses(ValueError, "num_speculative_tokens", named=str(count)):
        engine(toy, Knowing, num_speculative_tokens=count)


# The prefix cache.


@pytest.mark.parametrize("block_size", [1, 2, 4])
@pytest.mark.parametrize("right", [ORACLE, 2, ADVERSARY])
def test_task_5_engine_files_what_was_read_and_nothing_else(toy: ToyModel, right: int, block_size: int) -> None:
    request = ask(5, 18)
    served, _ = engine_knowing(toy, [request], right, block_size=block_size, num_blocks=64)
    served.submit(request)
    said = alone(toy, request.prompt, 18)
    while served.has_work:
        served.step()
        done = len(request.generated_tokens)
        if done < 17:
            for place in range(done, done + 4):  # what was drafted after what was read, and wrong
                guess = [*request.prompt, *said[:place], *map(wrong, said[place : place + 4])]
                found = served.prefix_cache.match([*guess, 0]).tokens
                assert found <= 5 + done, f"{5 + done} tokens are known, and the prefix cache has {found} of a guess"
    whole = [*request.prompt, *said]
    found = served.prefix_cache.match([*whole, 0]).tokens
    expected = (len(whole) - 1) // block_size * block_size
    assert found == expected, (
        f"all but the last of {len(whole)} tokens are computed: {expected} in full blocks, not {found}, are filed"
    )


@pytest.mark.parametrize("right", [ORACLE, 2, ADVERSARY])
def test_task_5_engine_shares_what_drafts_have_computed(toy: ToyModel, right: int) -> None:
    first = ask(5, 18)
    served, _ = engine_knowing(toy, [first], right)
    serve(served, first)
    again = [answer.PagedRequest([*first.prompt, *first.generated_tokens[:count]], 6) for count in (7, 12, 15)]
    serve(served, *again)
    assert served.metrics.prefix_cache_hits >= 3 * 8, "the blocks of the first answer are found by who begins with it"
    assert_alone(toy, first, *again)


# What is counted.


@pytest.mark.parametrize(("right", "drafted", "accepted"), [(ORACLE, 16, 16), (ADVERSARY, 70, 0), (1, 36, 10)])
def test_task_5_engine_counts_drafts(toy: ToyModel, right: int, drafted: int, accepted: int) -> None:
    request, counting = ask(5, 21), CountingModel(toy)
    served, _ = engine_knowing(toy, [request], right, counting)
    serve(served, request)
    assert_alone(toy, request)
    metrics = served.metrics
    counts = (metrics.spec_decode_num_draft_tokens, metrics.spec_decode_num_accepted_tokens)
    assert counts == (drafted, accepted), (
        f"drafts and accepted drafts of an answer of 21 tokens: {counts}, {drafted} and {accepted} expected"
    )
    assert metrics.computed_tokens == sum(counting.lengths), (
        "computed_tokens are those that the model was given, drafts included"
    )
    assert metrics.total_tokens == 21, "tokens that became part of an answer"


def test_task_5_engine_logs_each_token(toy: ToyModel) -> None:
    request = ask(11, 12)
    served, _ = engine_knowing(toy, [request], max_num_batched_tokens=8)
    states: list[Any] = []
    served.event_log.readers.append(states.append)
    serve(served, request)
    kinds = Counter(event.kind.name for state in states for event in state.events)
    assert kinds == {"ARRIVED": 1, "ADMITTED": 1, "PREFILL_CHUNK": 2, "FIRST_TOKEN": 1, "TOKEN": 11, "FINISHED": 1}
    assert [state.new_tokens for state in states] == [0, 1, 5, 5, 1], "tokens by step: a prompt in two chunks, then drafts"


# What stays as it is in `Engine`.


def test_task_5_engine_takes_turns_by_what_users_got(toy: ToyModel) -> None:
    talking = [ask(2, 24, seed, user="talker") for seed in range(2)]
    asking = [ask(10, 1, seed, user="asker") for seed in range(2, 4)]
    served, _ = engine_knowing(toy, talking, max_num_seqs=1)
    ended = serve(served, *talking, *asking)
    assert_alone(toy, *talking, *asking)
    names = {request: f"{request.user} {number}" for number, request in enumerate([*talking, *asking])}
    assert [names[request] for request in ended] == ["talker 0", "asker 2", "asker 3", "talker 1"], (
        "the talker's first request used 26 tokens and each of the asker's 11, so two of these come before the talker's next:"
        f" the order was {[names[request] for request in ended]}. Charge the queue for every token that a step gives"
    )


def test_task_5_engine_ends_who_is_late(toy: ToyModel) -> None:
    now = [0.0]
    late, other = ask(5, 20, deadline=5.0), ask(6, 20, 1)
    served, _ = engine_knowing(toy, [late, other], 1, clock=lambda: now[0])
    served.submit(late), served.submit(other)
    step_until(served, lambda: len(late.generated_tokens) >= 3)
    now[0] = 5.0
    serve(served)
    assert isinstance(late.error, TimeoutError), (
        f"its deadline passed while it ran, and it ended with {late.error!r}: `step` begins as `Engine.step` does"
    )
    assert_alone(toy, other)


# Others meddle.


def test_task_5_engine_after_a_preemption(toy: ToyModel) -> None:
    for after in (1, 6, 11):
        request, other = ask(5, 20), ask(6, 20, 1)
        served, made = engine_knowing(toy, [request, other], 4)
        served.submit(request), served.submit(other)
        step_until(served, lambda after=after, request=request: len(request.generated_tokens) >= after)
        served.preempt(request)
        served.check_integrity()
        serve(served)
        assert_alone(toy, request, other)
        assert request.preemptions == 1
        assert 2 <= len(made) <= 3, "a request that is admitted again may get a new drafter"


@pytest.mark.parametrize("deed", ["cancel", "preempt"])
@pytest.mark.parametrize("to_whom", ["itself", "an older one", "a younger one"])
def test_task_5_engine_when_a_client_meddles_among_its_tokens(toy: ToyModel, deed: str, to_whom: str) -> None:
    requests = [ask(5, 20, seed) for seed in range(3)]
    victim = requests[{"itself": 1, "an older one": 0, "a younger one": 2}[to_whom]]

    def meddle(request: Any, _: str) -> None:
        if len(request.generated_tokens) == 8 and victim.finish_reason is None:  # in the middle of a step's 5
            getattr(served, deed)(victim)

    requests[1].on_update = meddle
    served, _ = engine_knowing(toy, requests)
    serve(served, *requests)
    expect_no_error(*requests)
    if deed == "preempt":
        assert_alone(toy, *requests)
        assert victim.preemptions == 1
    else:
        assert_alone(toy, *(request for request in requests if request is not victim))
        assert victim.finish_reason == "cancelled"
        said = victim.generated_tokens
        assert said == alone(toy, victim.prompt, 20)[: len(said)]
        assert to_whom != "itself" or len(said) == 8, f"it was cancelled at 8 tokens, and was given {len(said)}"


def test_task_5_engine_hands_out_tokens_to_whoever_has_been_preempted(toy: ToyModel) -> None:
    request = ask(5, 20)
    served, _ = engine_knowing(toy, [request])
    request.on_update = lambda told, _: served.preempt(told) if len(told.generated_tokens) == 8 else None
    served.submit(request)
    step_until(served, lambda: request.preemptions > 0)
    assert len(request.generated_tokens) == 11, (
        "a step gave it its tokens 7 to 11, and it was preempted at the 8th: the others have been computed and read, so they go"
        f" to the request that waits. It has {len(request.generated_tokens)}"
    )
    serve(served)
    assert_alone(toy, request)


def test_task_5_engine_when_a_drafter_uses_one_list_for_all(toy: ToyModel) -> None:
    requests = [ask(5, 16), ask(6, 16, 1)]
    sequences = [sequence_of(toy, request) for request in requests]
    kept: list[int] = []

    def says(tokens: Any, count: int) -> list[int]:
        kept[:] = Knowing(sequences).propose(tokens, count)
        return kept

    served = engine(toy, lambda: Scripted(says))
    serve(served, *requests)
    assert_alone(toy, *requests)
    metrics = served.metrics
    assert metrics.spec_decode_num_accepted_tokens == metrics.spec_decode_num_draft_tokens > 0, (
        "all drafts are right; but the drafter uses the list that it has returned again, for the next request: copy it"
    )
