"""Task 1: the figures of one request. Times are small whole numbers, so that every figure is exact."""

from itertools import accumulate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from answer import answer
from week2.day7_measuring.logs import FIGURES, MEANINGS


def times(arrived: float = 10, **known: Any) -> Any:
    return answer.RequestTimes(arrived, **known)


def ended(time: float, generated: int, kind: str = "FINISHED") -> dict[str, Any]:
    return {"ended": time, "end": answer.EventKind[kind], "generated": generated}


@pytest.mark.parametrize(("name", "expected"), [("queue_time", 1), ("ttft", 4), ("tpot", 4), ("latency", 16)])
def test_task_1_times_each_figure_of_a_request(name: str, expected: float) -> None:
    request = times(10, admitted=11, tokens=[14, 15, 17, 26], **ended(26, 4))
    found = getattr(request, name)
    assert found == expected, f"{name} goes {MEANINGS[name]}: it should be {expected}, was {found}"


def test_task_1_times_gaps_between_tokens() -> None:
    request = times(10, admitted=11, tokens=[14, 15, 17, 25], **ended(25, 4))
    assert request.inter_token_latencies == [1, 2, 8], (
        "tokens came at 14, 15, 17 and 25 s: of four tokens there are three gaps, and the wait for the first is none of them"
    )


def test_task_1_times_the_gap_before_an_eos_is_one() -> None:
    request = times(10, admitted=11, tokens=[14, 15, 17, 25], **ended(25, 3))
    assert request.inter_token_latencies == [1, 2, 8], (
        "three tokens of the answer came at 14, 15 and 17 s and its EOS at 25 s: a step was spent on the EOS as on the others,"
        f" so there is a gap for each entry of `tokens` but the first, and not {request.inter_token_latencies}"
    )
    alone = times(10, admitted=11, tokens=[14], **ended(14, 0))
    assert alone.inter_token_latencies == [], "an EOS and nothing else: there is no gap between two of them"


@pytest.mark.parametrize(
    ("known", "figures", "gaps"),
    [
        ({}, {}, []),
        ({"admitted": 12}, {"queue_time": 2}, []),
        ({"admitted": 12, "tokens": [18]}, {"queue_time": 2, "ttft": 8}, []),
        ({"admitted": 12, "tokens": [18, 20, 26]}, {"queue_time": 2, "ttft": 8}, [2, 6]),
        ({"admitted": 12, "tokens": [18], **ended(18, 1)}, {"queue_time": 2, "ttft": 8, "latency": 8}, []),
        ({"admitted": 12, "tokens": [18], **ended(18, 0)}, {"queue_time": 2, "ttft": 8, "latency": 8}, []),
        ({"admitted": 12, **ended(14, 0, "CANCELLED")}, {"queue_time": 2, "latency": 4}, []),
        (ended(14, 0, "CANCELLED"), {"latency": 4}, []),
        (ended(14, 0, "FAILED"), {"latency": 4}, []),
        (
            {"admitted": 12, "tokens": [18, 20, 26], **ended(30, 3, "CANCELLED")},
            {"queue_time": 2, "ttft": 8, "tpot": 6, "latency": 20},
            [2, 6],
        ),
    ],
    ids=[
        "waits",
        "was admitted",
        "has spoken once",
        "has spoken three times",
        "ended with one token",
        "ended with an EOS and nothing else",
        "cancelled before it spoke",
        "cancelled as it waited",
        "failed as it waited",
        "cancelled as it spoke",
    ],
)
def test_task_1_times_a_request_has_the_figures_it_has_come_to(
    known: dict[str, Any], figures: dict[str, float], gaps: list[float]
) -> None:
    request = times(10, **known)
    for name in FIGURES:
        found = getattr(request, name)
        assert found == figures.get(name), (
            f"{name}, {MEANINGS[name]}, is there as soon as both moments are and not before; None says that it is not. It"
            f" should be {figures.get(name)}, was {found}"
        )
    assert request.inter_token_latencies == gaps, (
        "there is a gap for each token but the first, whether the request has ended or not"
    )


def test_task_1_times_zero_is_a_time_like_any_other() -> None:
    request = times(0, admitted=0, tokens=[0, 0], **ended(0, 2))
    figures = {name: getattr(request, name) for name in FIGURES}
    assert figures == dict.fromkeys(FIGURES, 0), (
        f"everything happened at 0 s on the clock, so every figure is 0; None is for what has not happened: {figures}"
    )
    assert request.inter_token_latencies == [0], "two tokens, and no time between them"


@pytest.mark.parametrize("tokens", [[14], [14, 16, 18], [14, 15, 16, 17, 18, 20]])
def test_task_1_times_tpot_goes_to_the_end_and_counts_the_answer(tokens: list[float]) -> None:
    request = times(10, admitted=11, tokens=tokens, **ended(26, 5))
    assert request.tpot == (26 - 14) / 4, (
        "from the first token at 14 s to the end at 26 s, for the four generated tokens after the first. `generated` counts"
        f" them: the log may tell of the first one's time alone, or of an EOS, too, and tells here of {len(tokens)}"
    )


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=20), st.integers(0, 1000))
def test_task_1_times_tpot_is_the_mean_of_the_gaps(gaps: list[int], first: int) -> None:
    tokens = list(accumulate(gaps, initial=first))
    request = times(0, admitted=0, tokens=tokens, **ended(tokens[-1], len(tokens)))
    assert request.tpot == pytest.approx(sum(gaps) / len(gaps)), (
        f"where a request ends with its last token, its TPOT is the mean of its inter-token latencies, {gaps}"
    )


def test_task_1_times_a_mean_hides_a_stall() -> None:
    """Two answers of five tokens within four seconds, and one of them hangs for most of it."""
    smooth = times(0, admitted=0, tokens=[1, 2, 3, 4, 5], **ended(5, 5))
    hangs = times(0, admitted=0, tokens=[1, 1.25, 1.5, 1.75, 5], **ended(5, 5))
    assert smooth.tpot == hangs.tpot == 1, "both take four seconds for the four tokens after the first"
    assert (max(smooth.inter_token_latencies), max(hangs.inter_token_latencies)) == (1, 3.25), (
        "to their readers they are not alike, and only the inter-token latencies tell: keep every gap, not a mean"
    )


def test_task_1_times_figures_can_be_asked_for_again() -> None:
    request = times(10, admitted=11, tokens=[14, 15, 17], **ended(17, 3))
    request.inter_token_latencies.clear()
    twice = [[getattr(request, name) for name in (*FIGURES, "inter_token_latencies")] for _ in range(2)]
    assert twice[0] == twice[1], "to ask for a figure changes nothing"
    assert (request.inter_token_latencies, request.tokens) == ([1, 2], [14, 15, 17]), "the times stay as they are"
