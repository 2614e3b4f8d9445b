"""Task 2: which requests meet an SLO, and goodput."""

from typing import Any

import pytest

from answer import answer
from week2.day7_measuring.logs import (
    ADMITTED,
    ARRIVED,
    CANCELLED,
    FAILED,
    FINISHED,
    FIRST_TOKEN,
    PREEMPTED,
    TOKEN,
    Told,
    life,
    simulated,
    state,
    told_of,
)

SLO = answer.Slo(ttft=4, tpot=2)


def only(told: list[Told]) -> Any:
    (times,) = told_of(told).requests.values()
    return times


@pytest.mark.parametrize(
    ("tokens", "met", "why"),
    [
        ([3, 4, 5], True, "a TTFT of 3 s and a TPOT of 1 s are within both limits"),
        ([4, 6, 8], True, "a limit that is just kept is kept"),
        ([4.25, 5, 6], False, "its first token came a quarter of a second late, however fast the others followed"),
        ([1, 3, 5.5], False, "its TPOT is 2.25 s, however early the first token came"),
        ([5, 8, 11], False, "it keeps to neither limit"),
        ([1, 1, 5], True, "one gap of 4 s, but the limit is on the mean of the gaps"),
        ([4], True, "a request of a single token has no TPOT, and cannot break that limit"),
        ([4.25], False, "a request of a single token has a TTFT like any other"),
    ],
)
def test_task_2_slo_has_two_limits(tokens: list[float], met: bool, why: str) -> None:
    assert SLO.met_by(only(life(1, 0, tokens))) is met, f"tokens at {tokens}, limits of 4 s and 2 s: {why}"


def test_task_2_slo_is_not_rounded() -> None:
    sharp = answer.Slo(ttft=2, tpot=0.5)
    late = 2**-12  # about a quarter of a millisecond
    for tokens, met in (([2, 2.5], True), ([2 + late, 2.5], False), ([2, 2.5 + late], False)):
        assert sharp.met_by(only(life(1, 0, tokens))) is met, (
            f"tokens at {tokens} s, limits of 2 s and 0.5 s: what is over is over"
        )


@pytest.mark.parametrize("end", [CANCELLED, FAILED])
def test_task_2_slo_is_met_by_those_who_finish(end: Any) -> None:
    assert SLO.met_by(only(life(1, 0, [1, 2, 3], end=end))) is False, f"it was fast, and then {end}: its user got no answer"
    assert SLO.met_by(only(life(1, 0, [], end=end))) is False, f"it was {end} before it spoke"
    assert SLO.met_by(only(life(1, 0, [1, 2, 3]))) is True, "one that finished in the same times"


def test_task_2_slo_of_one_that_is_still_on_the_way() -> None:
    waits: list[Told] = [(0, ARRIVED, 1, 5)]
    speaks: list[Told] = [*waits, (0, ADMITTED, 1), (1, FIRST_TOKEN, 1), (2, TOKEN, 1)]
    assert (SLO.met_by(only(waits)), SLO.met_by(only(speaks))) == (False, False), (
        "it has not finished, so it has met nothing yet"
    )


def test_task_2_slo_of_an_eos_as_the_only_token() -> None:
    told: list[Told] = [(0, ARRIVED, 1, 5), (0, ADMITTED, 1), (3, FIRST_TOKEN, 1), (3, FINISHED, 1, 0)]
    assert SLO.met_by(only(told)) is True, "an empty answer is an answer: it came in time, and has no TPOT"


def test_task_2_slo_without_a_limit() -> None:
    slow = only(life(1, 0, [1000, 5000]))
    for ttft, tpot, met in ((float("inf"), float("inf"), True), (float("inf"), 10, False), (10, float("inf"), False)):
        assert answer.Slo(ttft, tpot).met_by(slow) is met, f"limits of {ttft} and {tpot} s: infinity sets no limit"


def test_task_2_slo_sees_a_preemption() -> None:
    told = life(1, 0, [1, 2, 12])
    told[3:3] = [(1.5, PREEMPTED, 1)]
    assert SLO.met_by(only(told)) is False, "to its user it makes no difference why the third token took 10 s"


# Goodput.


def test_task_2_goodput_counts_requests_that_met_the_slo() -> None:
    recorder = told_of(
        life(1, 0, [2, 3, 4]),
        life(2, 0, [5, 6, 7]),  # its first token is late
        life(3, 1, [3, 6, 9]),  # its tokens are slow
        life(4, 2, [4, 5], end=CANCELLED),
        life(5, 3, [7, 8, 10]),
        simulated(6, 4, 6, 16, 6),
    )
    summary = answer.summarize(recorder, SLO)
    assert summary.goodput == pytest.approx(3 / 16), "requests 1, 5 and 6 met the SLO, and the run took 16 s"
    assert summary.requests_per_second == pytest.approx(5 / 16), "five requests finished, however long it took"


def test_task_2_goodput_wants_an_slo() -> None:
    recorder = told_of(life(1, 0, [2, 3, 4]))
    assert answer.summarize(recorder).goodput is None, "no SLO says what good is"
    assert answer.summarize(recorder, answer.Slo(1, 1)).goodput == 0, "no request met the SLO: that is 0, and not None"


def test_task_2_goodput_leaves_out_the_warm_up() -> None:
    recorder = told_of(life(1, 0, [1, 2, 3]), life(2, 4, [5, 6]), life(3, 6, [7, 8, 12]))
    summary = answer.summarize(recorder, SLO, warm_up=4)
    assert summary.goodput == pytest.approx(1 / 8), (
        "request 1 came in the warm-up, 2 met the SLO and 3 did not, from 4 s to 12 s"
    )


def test_task_2_goodput_falls_where_throughput_does_not() -> None:
    """The same server under a light load and under one that it cannot bear: it is as busy as can be, and of no use."""
    light = [life(number, 4 * number, [4 * number + 1, 4 * number + 2]) for number in range(8)]
    heavy = [life(number, number / 8, [number + 5, number + 6]) for number in range(32)]
    fine, drowned = (answer.summarize(told_of(*requests), SLO) for requests in (light, heavy))
    assert drowned.tokens_per_second > fine.tokens_per_second, "the server that drowns has the higher throughput"
    assert fine.goodput == pytest.approx(8 / 30), "in the light load all requests meet the SLO"
    assert drowned.goodput == 0, "in the heavy one all wait longer than the SLO allows"


def test_task_2_goodput_of_an_empty_run() -> None:
    recorder = answer.RunRecorder()
    recorder.read(state(3))
    summary = answer.summarize(recorder, SLO)
    assert (summary.goodput, summary.seconds) == (0, 0), "no request came: no time that counts, and no division by zero"
