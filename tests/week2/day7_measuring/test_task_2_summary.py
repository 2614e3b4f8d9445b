"""Task 2: the figures of a run. Times are small sums of powers of two, so that sums are exact."""

from typing import Any

import numpy as np
import pytest

from answer import answer
from day6_engines import ask, ask_with_eos
from support import ToyModel, finish_all, refuses, step_until
from week2.day7_measuring.logs import (
    ADMITTED,
    ARRIVED,
    CANCELLED,
    FAILED,
    FINISHED,
    FIRST_TOKEN,
    TOKEN,
    life,
    read,
    simulated,
    state,
    told_of,
)

FIGURES = ("queue_time", "ttft", "tpot", "inter_token", "latency")


def numbers(spread: Any) -> tuple[float, ...]:
    return (spread.mean, spread.p50, spread.p95, spread.p99)


def of(values: list[float]) -> Any:
    """What a spread of these values has to say."""
    return pytest.approx((float(np.mean(values)), *(float(np.percentile(values, percent)) for percent in (50, 95, 99))))


def three_requests() -> Any:
    """Queue times of 1, 2 and 4 s; TTFT of 2, 5 and 8 s; TPOT of 2, 1.5 and 4 s; latencies of 8, 8 and 12 s."""
    return told_of(
        life(1, 10, [12, 14, 15, 18], admitted=11),
        life(2, 12, [17, 18, 20], admitted=14),
        life(3, 14, [22, 26], admitted=18),
    )


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("queue_time", [1, 2, 4]),
        ("ttft", [2, 5, 8]),
        ("tpot", [2, 1.5, 4]),
        ("inter_token", [2, 1, 3, 1, 2, 4]),
        ("latency", [8, 8, 12]),
    ],
)
def test_task_2_summary_spreads_each_figure(name: str, values: list[float]) -> None:
    summary = answer.summarize(three_requests())
    assert numbers(getattr(summary, name)) == of(values), (
        f"mean, p50, p95, p99 of {name}: the three requests' values are {values}"
    )


def test_task_2_summary_spreads_figures_of_0_too() -> None:
    summary = answer.summarize(told_of(life(1, 0, [0, 0]), life(2, 0, [4, 8], admitted=2), life(3, 0, [4, 4], admitted=4)))
    assert numbers(summary.queue_time) == of([0, 2, 4]), (
        "a request admitted at once has a queue time of 0, and that is a figure"
    )
    assert numbers(summary.ttft) == of([0, 4, 4]), "on this clock the first token came at once: 0 s is a time, unlike None"
    assert numbers(summary.tpot) == of([0, 4, 0]), "two answers came in one piece"
    assert numbers(summary.latency) == of([0, 8, 4]), "and one was over when it began"


def test_task_2_summary_counts_and_rates() -> None:
    summary = answer.summarize(three_requests())
    assert (summary.requests, summary.finished) == (3, 3), "three came, and three finished"
    assert summary.seconds == 16, "from the first arrival, at 10 s, to the end of the last step, at 26 s"
    assert summary.tokens_per_second == 9 / 16, "nine tokens were generated in that time"
    assert summary.requests_per_second == 3 / 16, "and three requests finished"


def test_task_2_summary_is_of_those_who_finished() -> None:
    hopeless = [
        life(11, 10, [90, 95], admitted=80, end=CANCELLED),
        life(12, 10, [], admitted=70, end=CANCELLED),
        life(13, 10, [50, 60, 90], admitted=40, end=FAILED),
        [(10, ARRIVED, 14, 5), (60, ADMITTED, 14), (80, FIRST_TOKEN, 14), (99, TOKEN, 14)],
        [(10, ARRIVED, 15, 5)],
    ]
    summary = answer.summarize(told_of(*hopeless, life(16, 12, [13, 15], admitted=12.5), life(17, 14, [18], admitted=16)))
    assert (summary.requests, summary.finished) == (7, 2), (
        "requests counts all who arrived: two finished, two were cancelled, one failed, and two are still open"
    )
    expected = {"queue_time": [0.5, 2], "ttft": [1, 4], "tpot": [2], "inter_token": [2], "latency": [3, 4]}
    for name, values in expected.items():
        assert numbers(getattr(summary, name)) == of(values), (
            f"{name} is of finished requests, whose values are {values}: one that was cancelled early would look fast"
        )
    assert summary.tokens_per_second == pytest.approx(3 / 89), "tokens of answers that no client got are no throughput"
    assert summary.requests_per_second == pytest.approx(2 / 89), "nor are requests that did not finish"


def test_task_2_summary_of_gaps_counts_each_gap() -> None:
    summary = answer.summarize(told_of(life(1, 0, [1, 2, 3, 4, 5, 6, 7]), life(2, 0, [1, 8])))
    assert summary.inter_token.mean == pytest.approx((6 * 1 + 7) / 7), (
        "over all gaps of all requests: six of 1 s and one of 7 s"
    )
    assert summary.tpot.mean == pytest.approx((1 + 7) / 2), "while each request has one TPOT, however long it is"


def test_task_2_summary_of_a_log_without_tokens() -> None:
    summary = answer.summarize(told_of(simulated(1, 0, 2, 10, 5), simulated(2, 1, 4, 8, 3), simulated(3, 2, 6, 6, 1)))
    assert numbers(summary.ttft) == of([2, 3, 4]), "a simulation logs when each first token came"
    assert numbers(summary.tpot) == of([2, 2]), "and how many there were at the end"
    assert numbers(summary.inter_token) == (0, 0, 0, 0), "it does not log every token, so nothing is known of the gaps"
    assert summary.tokens_per_second == 9 / 10, "5, 3 and 1 tokens in 10 s"


@pytest.mark.parametrize("seconds", [0.25, 1.5])
def test_task_2_summary_of_a_broken_number_of_seconds(seconds: float) -> None:
    summary = answer.summarize(told_of(life(1, 2, [2.125, 2 + seconds]), life(2, 2, [2 + seconds])), answer.Slo(10, 10))
    rates = (summary.tokens_per_second, summary.requests_per_second, summary.goodput)
    assert rates == (3 / seconds, 2 / seconds, 2 / seconds), (
        f"three tokens and two requests, which met the SLO, in {seconds} s: {3 / seconds} and twice {2 / seconds} per second,"
        f" not {rates}"
    )


def test_task_2_summary_ends_with_the_last_step() -> None:
    steps = [state(5, life(1, 2, [3, 4]), active=1, new_tokens=2), state(8), state(18)]
    assert answer.summarize(read(*steps)).seconds == 16, "from the arrival at 2 s to the end of the last step, which was idle"


def test_task_2_summary_utilization() -> None:
    """Requests of 4, 12 and 8 steps in a static batch of three: two slots are empty while the longest runs on."""
    active = [3] * 4 + [2] * 4 + [1] * 4
    recorder = read(*(state(step + 1, active=rows, slots=3, step=step) for step, rows in enumerate(active)))
    assert answer.summarize(recorder).slot_utilization == pytest.approx(24 / 36), "24 of 36 slots were in use"
    recorder.read(state(100, active=0, slots=12))
    assert answer.summarize(recorder).slot_utilization == pytest.approx(24 / 48), (
        "each step counts with its slots, however long it took, and an idle one, too"
    )


# Warm-up.


def warming_up() -> Any:
    """The first two requests find a cold machine: they come at 100 and 103 s, the others at 104 s and later."""
    return told_of(
        life(1, 100, [120, 130], admitted=110),
        life(2, 103, [124, 128], admitted=104),
        life(3, 104, [125, 126, 127], admitted=105),
        life(4, 108, [126, 128], admitted=126),
    )


def test_task_2_warm_up_leaves_out_who_came_in_it() -> None:
    summary = answer.summarize(warming_up(), warm_up=4)
    assert (summary.requests, summary.finished) == (2, 2), (
        "the run began at 100 s, so a warm-up of 4 s leaves out who came before 104 s; who came at 104 s counts"
    )
    assert numbers(summary.ttft) == of([21, 18]), "nor do their figures count"
    assert summary.seconds == 26, "from the first arrival that counts, at 104 s, to the end at 130 s"
    assert summary.tokens_per_second == pytest.approx(5 / 26), "three tokens and two"


def test_task_2_warm_up_counts_from_the_first_arrival() -> None:
    assert answer.summarize(warming_up()).requests == 4, "without a warm-up every request counts, the first, too"
    assert answer.summarize(warming_up(), warm_up=3.5).requests == 2, "who came at 103 s came in the first 3.5 s"
    assert answer.summarize(warming_up(), warm_up=4 + 2**-12).requests == 1, (
        "who came at 104 s came a quarter of a millisecond before the end of this warm-up, and that is in it"
    )
    assert answer.summarize(warming_up(), warm_up=3).requests == 3, (
        "who came 3 s after the first came when a warm-up of 3 s was over"
    )


def test_task_2_warm_up_and_seconds_begin_with_an_arrival() -> None:
    summary = answer.summarize(warming_up(), warm_up=6)
    assert summary.seconds == 22, "the first who counts came at 108 s: the time between the warm-up's end and that is no load"


def test_task_2_warm_up_longer_than_the_run() -> None:
    summary = answer.summarize(warming_up(), answer.Slo(100, 100), warm_up=9)
    assert (summary.requests, summary.finished, summary.seconds) == (0, 0, 0), "no request came after it"
    assert (summary.tokens_per_second, summary.requests_per_second, summary.goodput) == (0, 0, 0), "so all rates are 0"
    for name in FIGURES:
        assert numbers(getattr(summary, name)) == (0, 0, 0, 0), f"and so is all of {name}"


def test_task_2_warm_up_does_not_touch_the_slots() -> None:
    recorder = read(state(2, life(1, 1, [2]), active=1, new_tokens=1), state(9, life(2, 8, [9]), active=3, new_tokens=1))
    assert answer.summarize(recorder, warm_up=5).slot_utilization == 4 / 8, "utilization is over all steps of the run"


@pytest.mark.parametrize("warm_up", [-0.5, -10])
def test_task_2_warm_up_is_not_negative(warm_up: float) -> None:
    with refuses(ValueError, f"summarize, with a warm_up of {warm_up}", named=f"{warm_up}"):
        answer.summarize(warming_up(), warm_up=warm_up)


# Runs that are cut short, looked at twice, or empty.


def test_task_2_summary_of_an_empty_run() -> None:
    for recorder in (answer.RunRecorder(), read(state(3), state(5))):
        summary = answer.summarize(recorder)
        assert (summary.requests, summary.finished, summary.seconds) == (0, 0, 0), "no request has arrived"
        assert (summary.tokens_per_second, summary.requests_per_second, summary.slot_utilization) == (0, 0, 0), (
            "no division by zero"
        )
        for name in FIGURES:
            assert numbers(getattr(summary, name)) == (0, 0, 0, 0), f"{name} is all 0 where no request has it"


def test_task_2_summary_of_no_time_at_all() -> None:
    summary = answer.summarize(told_of(life(1, 7, [7, 7])))
    assert (summary.finished, summary.seconds, summary.tokens_per_second) == (1, 0, 0), (
        "on a clock that stands still no time passes: rates are 0, and no division by zero"
    )


def test_task_2_summary_in_the_middle_of_a_run() -> None:
    recorder = read(state(4, [(0, ARRIVED, 1, 5), (1, ADMITTED, 1), (4, FIRST_TOKEN, 1)], active=1, new_tokens=1))
    early = answer.summarize(recorder)
    assert (early.requests, early.finished, early.seconds, early.tokens_per_second) == (1, 0, 4, 0), "none has finished yet"
    recorder.read(state(8, [(8, TOKEN, 1), (8, FINISHED, 1, 2)], active=1, new_tokens=1))
    late = answer.summarize(recorder)
    assert (late.finished, late.seconds, late.tokens_per_second) == (1, 8, 2 / 8), "the recorder reads on after a summary"


def test_task_2_summary_changes_nothing() -> None:
    recorder = warming_up()
    first = answer.summarize(recorder, answer.Slo(30, 30))
    answer.summarize(recorder, answer.Slo(1, 1), warm_up=4)
    assert answer.summarize(recorder, answer.Slo(30, 30)) == first, "a summary only looks, so others may follow, as they like"


def test_task_2_summary_of_one_whose_arrival_was_lost() -> None:
    recorder = read(state(5, [(4, FIRST_TOKEN, 1), (5, FINISHED, 1, 3)], active=1, new_tokens=1), state(9, life(2, 6, [8, 9])))
    summary = answer.summarize(recorder)
    assert (summary.requests, summary.finished, summary.seconds) == (1, 1, 3), (
        "it is not known when it came, so it does not count"
    )
    assert summary.tokens_per_second == pytest.approx(2 / 3), "nor do its tokens"


# A run of the engine.


def test_task_2_summary_of_an_engine(toy: ToyModel) -> None:
    """On a clock that ticks once per step; the engine's own metrics read the same log."""
    now = 0.0
    engine = answer.ContinuousBatchScheduler(toy, 2, max_seq_len=64, prefill_step=8, clock=lambda: now)
    recorder = answer.RunRecorder()
    engine.event_log.readers.append(recorder.read)
    step = engine.step

    def tick() -> Any:
        nonlocal now
        now += 1
        return step()

    engine.step = tick
    requests = [ask(5, 6), ask(12, 4, seed=1), ask(6, 1, seed=2), ask_with_eos(toy, 5, 3, 12, seed=3)]
    for request in requests:
        engine.submit(request)
    step_until(engine, lambda: requests[2].state == "finished")
    finish_all(engine)
    summary, metrics = answer.summarize(recorder, answer.Slo(ttft=3, tpot=100)), engine.metrics
    assert (summary.requests, summary.finished, summary.seconds) == (4, 4, now), "all came at 0 s, and all finished"
    assert summary.tokens_per_second == pytest.approx(metrics.throughput_tokens_per_sec), (
        "all have finished, so every token counts, as in the engine's metrics"
    )
    assert summary.slot_utilization == pytest.approx(metrics.slot_utilization), "of the two slots, over all steps"
    for name in ("queue_time", "ttft", "tpot", "latency"):
        assert numbers(getattr(summary, name)) == of(metrics.values(name)), f"{name}, as in the engine's metrics"
    in_time = sum(ttft <= 3 for ttft in metrics.values("ttft"))
    assert summary.goodput == pytest.approx(in_time / now), f"{in_time} of the four had their first token within 3 s"
