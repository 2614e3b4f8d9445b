"""Task 9: the baselines serve the same requests as the engine, only by another schedule, and say what it cost."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from answer import answer
from support import CountingModel, ToyModel, alone, assert_alone, expect_no_error, make_prompt, refuses
from tiny_llm_kit.workloads.lists import heavy_tail

pytestmark = pytest.mark.usefixtures("states")  # it stops a run that never ends


def some_requests(*max_tokens: int) -> list[Any]:
    """So many tokens each, and prompts that are longer or shorter than the one before."""
    lengths = (7, 3, 9, 5, 11, 4, 13)
    return [answer.Request(make_prompt(length), tokens) for length, tokens in zip(lengths, max_tokens, strict=False)]


def sequential(model: Any, requests: Sequence[Any], prefill_step: int = 64) -> Any:
    return answer.run_sequential(model, requests, 512, prefill_step)


def continuous(model: Any, requests: Sequence[Any], prefill_step: int = 64) -> Any:
    return answer.run_continuous(model, requests, 2, 512, prefill_step)


def static(model: Any, requests: Sequence[Any], prefill_step: int = 64) -> Any:
    return answer.run_static(model, requests, 2, prefill_step)


each_baseline = pytest.mark.parametrize("serve", [sequential, continuous, static])


# What all of them have to do.


@each_baseline
def test_task_9_each_baseline_gives_the_answers_of_requests_alone(toy: ToyModel, serve: Callable[..., Any]) -> None:
    requests = some_requests(5, 9, 1, 4, 6)
    metrics = serve(toy, requests)
    assert_alone(toy, *requests)
    assert (metrics.total_requests, metrics.finished_requests) == (5, 5), "the metrics know of every request"
    assert metrics.total_tokens == 5 + 9 + 1 + 4 + 6, "the metrics count every token, the first ones and the last ones, too"
    assert (metrics.queue_size, len(metrics.values("latency"))) == (0, 5), "at the end none waits, and all have a latency"


@each_baseline
def test_task_9_each_baseline_takes_an_empty_list(toy: ToyModel, serve: Callable[..., Any]) -> None:
    model = CountingModel(toy)
    metrics = serve(model, [])
    assert (metrics.total_requests, metrics.total_tokens, model.calls) == (0, 0, []), "there is nothing to do"


@each_baseline
@pytest.mark.parametrize("prefill_step", [4, 10, 64])
def test_task_9_each_baseline_reads_prompts_in_chunks(toy: ToyModel, serve: Callable[..., Any], prefill_step: int) -> None:
    model = CountingModel(toy)
    lengths = (18, 6, 30)
    serve(model, [answer.Request(make_prompt(length), 3) for length in lengths], prefill_step)
    assert max(model.lengths) == min(prefill_step, 30), (
        f"the longest call has {max(model.lengths)} tokens, and prefill_step is {prefill_step}: with other chunks it is not"
        " only the schedule that differs"
    )
    assert model.prompt_tokens == sum(lengths), "each prompt token is computed once"


@pytest.mark.parametrize("name", ["run_sequential", "run_continuous", "run_static"])
def test_task_9_each_baseline_has_a_default_prefill_step_of_128(toy: ToyModel, name: str) -> None:
    model = CountingModel(toy)
    sizes = [] if name == "run_sequential" else [2]
    getattr(answer, name)(model, [answer.Request(make_prompt(200), 2)], *sizes)
    assert model.lengths[:2] == [128, 72], f"a prompt of 200 tokens was read in chunks of {model.lengths}"


@each_baseline
def test_task_9_each_baseline_hears_of_all_requests_before_it_serves_the_first(
    toy: ToyModel, serve: Callable[..., Any], states: list[Any]
) -> None:
    metrics = serve(toy, some_requests(6, 6, 6, 6, 6))
    most = 1 if serve is sequential else 2
    assert states[0].queue_size >= 5 - most, (
        f"of five requests {states[0].queue_size} wait after the first iteration: all arrive at the start, and one that is"
        " submitted only when its turn comes has no queue time"
    )
    slowest_start, fastest_end = max(metrics.values("queue_time")), min(metrics.values("latency"))
    assert slowest_start > fastest_end, "the last request waits in the queue at least until the first is done"


@each_baseline
def test_task_9_each_baseline_ends_only_the_request_whose_client_fails(toy: ToyModel, serve: Callable[..., Any]) -> None:
    def fail(request: Any, new_text: str) -> None:
        if len(request.generated_tokens) == 2:
            raise OSError("the client's connection is gone")

    requests = some_requests(5, 7, 4)
    failing = answer.Request(make_prompt(6), 7, on_update=fail)
    metrics = serve(toy, [requests[0], failing, *requests[1:]])
    assert_alone(toy, *requests)
    assert (failing.finish_reason, type(failing.error)) == ("error", OSError), f"its client failed: {failing.error!r}"
    assert len(failing.generated_tokens) == 2, "after the end nothing more is accepted"
    assert metrics.finished_requests == 4, "who ends by an error has finished, too"


@each_baseline
def test_task_9_each_baseline_stops_when_everybody_has_said_eos(toy: ToyModel, serve: Callable[..., Any]) -> None:
    """Each of them may speak for 200 tokens, and says its EOS soon."""
    model = CountingModel(toy)
    ends = {3: 4, 7: 2, 5: 0, 9: 3}  # length of the prompt: tokens before the EOS
    requests = [
        answer.Request(make_prompt(length), 200, eos_token_ids=[alone(toy, make_prompt(length), 9)[tokens]])
        for length, tokens in ends.items()
    ]
    serve(model, requests)
    for request in requests:
        expect_no_error(request)
        expected = alone(toy, request.prompt, 9, request.eos_token_ids)
        assert (request.generated_tokens, request.finish_reason) == (expected, "stop"), "the answer ends before its EOS"
    # One row is needed for each token and for the EOS, but for what the prefill yields, and one more is launched by then. An
    # engine that lets a newcomer decode at once launches two rows before it reads an EOS that comes first.
    allowed = (4 + 1) + (3 + 1) if serve is static else sum(max(tokens, 1) + 1 for tokens in ends.values())
    assert len(model.decode_rows) <= allowed, (
        f"{len(model.decode_rows)} decode steps, where {allowed} are enough: when the last of a batch has ended, it is over,"
        " whatever max_tokens says"
    )


@pytest.mark.parametrize("batch_size", [0, -1])
@pytest.mark.parametrize("name", ["run_continuous", "run_static"])
@pytest.mark.parametrize("count", [0, 2], ids=["no request", "two requests"])
def test_task_9_a_batch_has_at_least_one_slot(toy: ToyModel, name: str, batch_size: int, count: int) -> None:
    model = CountingModel(toy)
    requests = some_requests(*[3] * count)
    with refuses(ValueError, f"{name} with batch_size {batch_size}: a batch without slots serves no request"):
        getattr(answer, name)(model, requests, batch_size)
    assert model.calls == [], "a size that makes no sense is refused before any request is served"


# One at a time, and the engine.


def test_task_9_sequential_is_one_after_another(toy: ToyModel, states: list[Any]) -> None:
    model = CountingModel(toy)
    requests = some_requests(5, 9, 1, 4)
    metrics = answer.run_sequential(model, requests, 64, 16)
    assert_alone(toy, *requests)
    expected = [(1, length) for request in requests for length in (len(request.prompt), *[1] * (request.max_tokens - 1))]
    assert model.calls == expected, (
        "each prompt is read when the answer before it is over, in order of arrival, and none share a step"
    )
    assert {state.max_slots for state in states} == {1}, "it is a batch of one slot"
    ends = metrics.values("latency")
    assert ends == sorted(ends), "first come, first served"


@pytest.mark.parametrize("serve", [sequential, continuous])
def test_task_9_max_seq_len_is_handed_on(toy: ToyModel, serve: Callable[..., Any]) -> None:
    sizes = [] if serve is sequential else [2]
    run = answer.run_sequential if serve is sequential else answer.run_continuous
    request = answer.Request(make_prompt(15), 10)
    run(toy, [request], *sizes, 20)
    assert_alone(toy, request)
    assert len(request.generated_tokens) == 5, "a prompt of 15 tokens leaves 5 for the answer when max_seq_len is 20"


def test_task_9_continuous_uses_its_slots(toy: ToyModel, states: list[Any]) -> None:
    model = CountingModel(toy)
    requests = some_requests(5, 9, 2, 4)
    answer.run_continuous(model, requests, 3, 64, 16)
    assert_alone(toy, *requests)
    assert max(model.decode_rows) == 3, "four requests and three slots: three run together"
    assert sum(model.decode_rows) == 4 + 8 + 1 + 3, "each answer needs one row for every token but its first"
    assert {state.max_slots for state in states} == {3}, "it is a batch of three slots"


@pytest.mark.parametrize("name", ["run_continuous", "run_static"])
def test_task_9_a_batch_has_its_slots_though_fewer_come(toy: ToyModel, states: list[Any], name: str) -> None:
    metrics = getattr(answer, name)(toy, some_requests(3, 3), 8)
    assert {state.max_slots for state in states} == {8}, "a batch of 8 slots has 8, and its utilization is out of 8"
    assert metrics.slot_utilization <= 2 / 8, "two requests use two slots of eight, and no more"


# And what continuous batching gains.


def test_task_9_what_it_is_good_for(toy: ToyModel) -> None:
    """Most answers are short and a few are long: a static batch waits for its longest, a continuous one does not."""
    answer.run_static(toy, [], 1)
    items = heavy_tail(vocab_size=256)
    models = {name: CountingModel(toy) for name in ("static", "continuous")}
    waves = {name: [answer.Request(item.prompt, item.max_tokens) for item in items] for name in models}
    static = answer.run_static(models["static"], waves["static"], 4, 256)
    continuous = answer.run_continuous(models["continuous"], waves["continuous"], 4, 512, 256)

    expect_no_error(*waves["static"], *waves["continuous"])
    for one, other, item in zip(*waves.values(), items, strict=True):
        assert one.generated_tokens == other.generated_tokens, "the schedule must not change an answer"
        assert len(one.generated_tokens) == item.max_tokens, "there is no EOS here, so each has all its tokens"
    steps = {name: len(model.decode_rows) for name, model in models.items()}
    assert steps["continuous"] < 0.7 * steps["static"], f"decode steps: {steps}. Is a free slot given to the next at once?"
    assert sum(models["continuous"].decode_rows) <= sum(item.max_tokens for item in items), "rows were computed for nothing"
    assert continuous.slot_utilization_while_waiting >= 0.95, (
        f"while requests wait, {continuous.slot_utilization_while_waiting:.0%} of the slots are in use: fill them at once"
    )
    assert static.slot_utilization_while_waiting < continuous.slot_utilization_while_waiting, "static batches leave rows idle"
