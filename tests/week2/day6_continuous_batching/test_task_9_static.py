"""Task 9: the static baseline. A group starts together, runs until its longest answer is done, and its metrics say so."""

from itertools import groupby
from typing import Any, NamedTuple

import pytest

from answer import answer
from support import CountingModel, ToyModel, alone, assert_alone, expect_no_error, make_prompt

pytestmark = pytest.mark.usefixtures("states")  # it stops a run that never ends


def some_requests(*max_tokens: int) -> list[Any]:
    """So many tokens each, and prompts that are longer or shorter than the one before."""
    lengths = (7, 3, 9, 5, 11, 4, 13)
    return [answer.Request(make_prompt(length), tokens) for length, tokens in zip(lengths, max_tokens, strict=False)]


class Seen(NamedTuple):
    """What the metrics were told of an iteration."""

    active: int
    slots: int
    queue: int


def rows_of_groups(model: CountingModel) -> list[list[int]]:
    """The rows of the decode steps, a list for each group: steps between which no prompt is read."""
    return [[rows for rows, _ in calls] for decodes, calls in groupby(model.calls, lambda call: call[1] == 1) if decodes]


def test_task_9_static_groups_wait_for_their_longest(toy: ToyModel) -> None:
    model = CountingModel(toy)
    requests = some_requests(12, 2, 3, 4, 9, 1, 2)
    answer.run_static(model, requests, 3, 512)
    assert_alone(toy, *requests)
    groups = rows_of_groups(model)
    assert len(groups) == 3, (
        f"seven requests are three groups of up to 3, and there are {len(groups)}: no request joins or leaves one"
    )
    for rows, size, longest in zip(groups, (3, 3, 1), (12, 9, 2), strict=True):
        assert len(rows) == longest - 1, (
            f"a group whose longest answer has {longest} tokens needs {longest - 1} decode steps, since the first token comes"
            f" from the prefill, and took {len(rows)}"
        )
        assert set(rows) == {size}, f"rows that are done run on with their group of {size}, that is the cost of it: {rows}"


def test_task_9_static_lets_nobody_join(toy: ToyModel) -> None:
    events: list[tuple[int, str]] = []
    requests = [
        answer.Request(make_prompt(4, row), tokens, on_update=lambda r, _, row=row: events.append((row, r.state)))
        for row, tokens in enumerate((10, 2, 3, 4))
    ]
    answer.run_static(toy, requests, 2, 8)
    expect_no_error(*requests)
    first_of_second_group = next(i for i, (row, _) in enumerate(events) if row >= 2)
    assert events.index((0, "finished")) < first_of_second_group, (
        "request 0 is the longest of its group: the others wait for it"
    )
    assert events.index((1, "finished")) < events.index((0, "finished")), (
        "the client of a request that is done is told at once, not with the group"
    )


def test_task_9_static_groups_are_in_order_of_arrival(toy: ToyModel) -> None:
    model = CountingModel(toy)
    lengths, tokens = [9, 3, 30, 5, 2, 4], [3, 9, 2, 4, 5, 2]
    requests = [answer.Request(make_prompt(length), most) for length, most in zip(lengths, tokens, strict=True)]
    answer.run_static(model, requests, 2, 64)
    assert_alone(toy, *requests)
    groups = [
        sorted(length for _, length in calls)
        for decodes, calls in groupby(model.calls, lambda call: call[1] == 1)
        if not decodes
    ]
    assert groups == [[3, 9], [5, 30], [2, 4]], (
        f"prompts of {lengths} tokens make groups of two in order of arrival, and these were prefilled together: {groups}"
    )


def test_task_9_static_utilization_counts_rows_that_had_something_to_say(toy: ToyModel, states: list[Any]) -> None:
    metrics = answer.run_static(toy, some_requests(4, 2, 3, 3, 1), 2)
    seen = [Seen(state.active_requests, state.max_slots, state.queue_size) for state in states]
    assert seen == [
        *[Seen(2, 2, 3), Seen(2, 2, 3), Seen(1, 2, 3), Seen(1, 2, 3)],  # 4 and 2 tokens
        *[Seen(2, 2, 1), Seen(2, 2, 1), Seen(2, 2, 1)],  # 3 and 3
        Seen(1, 2, 0),
    ], (
        "one iteration for each token of a group's longest answer; active are those of the group that have not ended, queued"
        " are those in later groups, and slots are batch_size also when the last group is smaller"
    )
    assert metrics.slot_utilization == pytest.approx(13 / 16), "13 tokens in 8 iterations of 2 rows"
    assert metrics.slot_utilization_while_waiting == pytest.approx(12 / 14), "the last group's iteration leaves none waiting"


def test_task_9_static_time_is_counted_from_the_start(toy: ToyModel) -> None:
    """On a clock that counts calls of the model."""
    model = CountingModel(toy)
    requests = some_requests(4, 2, 3, 3)
    metrics = answer.run_static(model, requests, 2, 64, clock=lambda: float(len(model.calls)))
    queue_times = metrics.values("queue_time")
    assert max(queue_times[:2]) <= 2, f"the first group is admitted at once, or after its prompts are read: {queue_times}"
    assert min(queue_times[2:]) >= 5, (
        f"the second group waits for the first's 2 prompts and 3 decode steps, and its queue times are {queue_times[2:]}:"
        " all requests arrive at the start"
    )
    assert max(metrics.values("latency")) >= 2 + 3 + 2 + 2, "a latency is the time from the start to the request's end"


def test_task_9_static_tells_the_log_of_every_chunk(toy: ToyModel, states: list[Any]) -> None:
    requests = some_requests(4, 2, 3)
    answer.run_static(toy, requests, 2, 4)
    chunks = [[e for e in state.events if e.kind.value == "prefill chunk"] for state in states]
    for request in requests:
        positions = [(e.tokens, e.position) for found in chunks for e in found if e.request_id == request.request_id]
        length = len(request.prompt)
        expected = [(min(4, length - start), min(start + 4, length)) for start in range(0, length, 4)]
        assert positions == expected, (
            f"a prompt of {length} is launched in chunks of 4, and each is logged (log_chunk) with its tokens and its position"
        )


@pytest.mark.parametrize("count", [2, 3])
def test_task_9_static_answers_of_one_token_need_no_decode_step(toy: ToyModel, count: int) -> None:
    model = CountingModel(toy)
    requests = some_requests(*[1] * count)
    metrics = answer.run_static(model, requests, 2, 64)
    assert_alone(toy, *requests)
    assert model.decode_rows == [], "the one token of each comes from its prefill"
    assert metrics.slot_utilization == pytest.approx(count / 2 / ((count + 1) // 2)), "an iteration for each group"


@pytest.mark.parametrize("tokens", [(1, 9), (9, 1), (1, 1, 9)])
def test_task_9_static_rows_have_room_to_run_on(toy: ToyModel, tokens: tuple[int, ...]) -> None:
    """The longest prompt with the shortest answer runs on as long as the shortest prompt with the longest answer."""
    for lengths in ((30, 2, 5), (2, 30, 5)):
        requests = [answer.Request(make_prompt(length), most) for length, most in zip(lengths, tokens, strict=False)]
        answer.run_static(toy, requests, 3, 64)
        assert_alone(toy, *requests)


@pytest.mark.parametrize("position", [0, 3])
def test_task_9_static_knows_the_end_of_an_answer(toy: ToyModel, position: int) -> None:
    eos = alone(toy, make_prompt(3), 8)[position]
    requests = [answer.Request(make_prompt(3), 8, eos_token_ids=[eos]), answer.Request(make_prompt(7), 6)]
    answer.run_static(toy, requests, 2, 8)
    assert_alone(toy, *requests)
    assert requests[0].finish_reason == "stop", f"it says its EOS, and ended with {requests[0].finish_reason!r}"


def test_task_9_static_groups_that_say_nothing_but_eos(toy: ToyModel) -> None:
    requests = [
        answer.Request(make_prompt(length), 5, eos_token_ids=alone(toy, make_prompt(length), 1)) for length in (3, 4, 5, 6, 7)
    ]
    metrics = answer.run_static(toy, requests, 2, 8)
    assert_alone(toy, *requests)
    assert [request.generated_tokens for request in requests] == [[]] * 5, "their first token is the EOS"
    assert (metrics.finished_requests, metrics.total_tokens) == (5, 0), "all have ended, and no token was kept"
