"""What a person sees of a program at work: signs of life, lengths of time, and no character that a terminal obeys."""

import io
import time
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from tiny_llm_kit.bench.step_times import Forecast, StepTimes, measure_step_times
from tiny_llm_kit.cli import progress
from tiny_llm_kit.cli.outlook import how_long
from tiny_llm_kit.cli.progress import Heartbeat, progress_bar, working
from tiny_llm_kit.cli.tables import markdown, minutes
from tiny_llm_kit.cli.text import harmless
from tiny_llm_kit.machine.description import LoadMeter
from tiny_llm_kit.workloads.items import WorkItem

TIMES = StepTimes(prompt_token=0.01, one_row=1.0, all_rows=2.0, slots=5)


def wait_for(out: io.StringIO, lines: int) -> list[str]:
    """The lines, once there are so many; fails after ten seconds."""
    for _ in range(1000):
        if len(found := out.getvalue().splitlines()) >= lines:
            return found
        time.sleep(0.01)
    raise AssertionError(f"no {lines} lines came, only {out.getvalue()!r}")


def test_without_a_terminal_there_are_lines_while_one_call_takes_long() -> None:
    out = io.StringIO()
    with Heartbeat(Console(file=out, width=100), lambda: "3 of 9 done", silence=0.02):
        lines = wait_for(out, 2)
    assert all(line.endswith("s] 3 of 9 done") for line in lines)
    written = out.getvalue()
    time.sleep(0.06)
    assert out.getvalue() == written, "nothing comes after the end"


def test_a_line_is_followed_by_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that stands still but for one jump, which is worth one line."""
    now = 0.0
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now)
    out = io.StringIO()
    with Heartbeat(Console(file=out, width=100), lambda: "at work", silence=0.02):
        time.sleep(0.1)
        assert not out.getvalue()
        now = 10.0
        wait_for(out, 1)
        time.sleep(0.1)
    assert out.getvalue() == "[  10.0 s] at work\n"


def test_who_prints_lines_needs_no_others() -> None:
    out = io.StringIO()
    with Heartbeat(Console(file=out, width=100), lambda: "silence", silence=1000) as heartbeat:
        heartbeat.line("news with \x1b[31mcolour [bold] :smile:")
    assert out.getvalue().endswith("news with ␛[31mcolour [bold] :smile:\n")


def test_the_first_sign_of_life_comes_within_five_seconds() -> None:
    assert progress.SILENCE < 5


def test_long_work_is_not_a_log_of_lines_that_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten minutes on a clock that jumps a tenth of a second whenever somebody waits."""
    now = 0.0

    def wait(seconds: float) -> bool:
        nonlocal now
        now += 0.1
        return now > 600

    monkeypatch.setattr(progress.time, "perf_counter", lambda: now)
    out = io.StringIO()
    heartbeat = Heartbeat(Console(file=out, width=100), lambda: "at work")
    monkeypatch.setattr(heartbeat._done, "wait", wait)
    heartbeat._watch()
    times = [float(line[1:8]) for line in out.getvalue().splitlines()]
    gaps = [later - sooner for sooner, later in pairwise([0.0, *times])]
    assert gaps[0] < 5, "a program that has just started is not silent for long"
    assert max(gaps) < 11, "and never for very long"
    assert len([moment for moment in times if moment < 60]) <= 8, f"lines came at {times[:10]}"
    assert gaps == pytest.approx(sorted(gaps), abs=0.11), "ever more seldom"


def test_who_wants_longer_silences_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def wait(seconds: float) -> bool:
        nonlocal now
        now += 1
        return now > 300

    monkeypatch.setattr(progress.time, "perf_counter", lambda: now)
    out = io.StringIO()
    heartbeat = Heartbeat(Console(file=out, width=100), lambda: "at work", silence=30)
    monkeypatch.setattr(heartbeat._done, "wait", wait)
    heartbeat._watch()
    assert len(out.getvalue().splitlines()) == 10


@pytest.mark.parametrize("block", [working, progress_bar])
def test_every_kind_of_work_gives_signs_of_life(block: Any) -> None:
    out = io.StringIO()
    with block(Console(file=out, width=100), "Loading", silence=0.02):
        assert "Loading" in wait_for(out, 2)[-1]


@pytest.mark.parametrize("block", [working, progress_bar])
def test_in_a_terminal_things_move_instead(block: Any) -> None:
    out = io.StringIO()
    with block(Console(file=out, force_terminal=True, width=100), "Loading", silence=0.001):
        time.sleep(0.1)
    assert "Loading" in out.getvalue()
    assert " s] " not in out.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "5 s"), (42, "45 s"), (60, "1 min 00 s"), (61, "1 min 05 s"), (3601, "60 min 05 s")],
)
def test_a_length_of_time(seconds: float, text: str) -> None:
    assert minutes(seconds) == text


def test_control_characters_are_shown_and_not_sent() -> None:
    assert harmless("a\x1b]0;title\x07\x00\x7f\x9b\r\udcff\tb\nc é 語 🙂") == "a␛]0;title␇␀␡\\x9b␍\\udcff\tb\nc é 語 🙂"


def test_markdown_cells_keep_their_bars() -> None:
    assert markdown(["a", "b"], [["x|y", "1"]]).splitlines() == ["| a | b |", "| --- | ---: |", "| x\\|y | 1 |"]


def test_schedules_take_what_their_steps_take() -> None:
    assert TIMES.sequential(100, [3, 4]) == pytest.approx(1 + 7)
    # Groups of five and of one: ten steps of 2 s, and four of 1 s.
    assert TIMES.static(100, [10, 1, 1, 1, 1, 4]) == pytest.approx(1 + 20 + 4)
    # 50 tokens in five slots: ten full steps. One answer of 10 cannot be shared out, and one that begins late ends late.
    assert TIMES.continuous(100, [5] * 10) == pytest.approx(1 + 20)
    assert TIMES.continuous(100, [10]) == pytest.approx(1 + 10)
    late = StepTimes(0.01, 1.0, 1.2, 2).continuous(100, [4, 4, 8])
    assert late == pytest.approx(1 + 4 * 1.2 + 8), "four steps of two rows, and eight of one, since nobody is left"
    assert TIMES.continuous(100, []) == TIMES.continuous(100, [0]) == pytest.approx(1)
    assert StepTimes(0.01, 1.0, 1.0, 1).continuous(0, [2, 3]) == pytest.approx(5)
    assert TIMES.scaled(3).static(100, [10, 1, 1, 1, 1, 4]) == pytest.approx(3 * 25)


def test_a_forecast_follows_the_pace_of_the_run() -> None:
    def request(prompt: int, offset: int, tokens: int, reason: str | None = None) -> SimpleNamespace:
        fields = {"prompt": [1] * prompt, "offset": offset, "generated_tokens": [1] * tokens, "finish_reason": reason}
        return SimpleNamespace(max_tokens=20, **fields)

    waiting = [request(100, 0, 0)]
    forecast = Forecast(TIMES, waiting)
    assert forecast() == pytest.approx(1 + 20), "nothing is done yet, so it is what was measured"
    ended = request(100, 110, 10, "stop")
    forecast = Forecast(TIMES, [ended, request(100, 50, 0)])
    forecast.started -= 3 * TIMES.continuous(150, [10, 0])
    assert forecast() == pytest.approx(3 * (0.5 + 20), rel=0.01), "three times as slow, and an answer that has ended is done"


def load(others: float, seconds: float = 10.0) -> LoadMeter:
    meter = LoadMeter()
    meter.wall, meter.own_cpu, meter.other_cpu, meter.steal = seconds, 0.0, others, 0.0
    return meter


@pytest.mark.parametrize(("others", "seconds", "said"), [(0.4, 2.0, True), (0.01, 2.0, False), (0.4, 0.2, False)])
def test_a_busy_machine_makes_it_a_guess(others: float, seconds: float, said: bool) -> None:
    text = how_long(TIMES, [WorkItem((1,) * 100, 10)], False, load(others, seconds))
    assert ("Other programs have 40% of the CPU now" in text) is said, "not of a moment too short to tell"


def test_what_is_announced() -> None:
    items = [WorkItem((1,) * 100, 10)] * 6
    total = minutes(TIMES.continuous(600, [10] * 6))
    assert total in how_long(TIMES, items, False, load(0.0))
    text = how_long(TIMES, items, True, load(0.0))
    assert "Other programs" not in text
    everything = sum(schedule(600, [10] * 6) for schedule in (TIMES.continuous, TIMES.sequential, TIMES.static))
    assert minutes(everything) in text


@pytest.mark.parametrize(("slots", "slow"), [(1, False), (3, False), (3, True)])
def test_steps_are_timed_on_a_real_engine(slots: int, slow: bool) -> None:
    import tiny_llm_ref
    from tiny_llm_kit.models.tiny_random import random_weights, tiny_config

    config = tiny_config()
    times = measure_step_times(tiny_llm_ref, tiny_llm_ref.Model(config, random_weights(config)), slots, slow)
    assert times.slots == slots
    assert min(times.prompt_token, times.one_row, times.all_rows) > 0
