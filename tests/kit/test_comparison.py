"""What `batch-main --compare` makes of three runs, and of what they cannot show."""

import io
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

import tiny_llm_ref
from tiny_llm_kit.bench.overhead import FakeModel
from tiny_llm_kit.cli.batch_report import print_metrics
from tiny_llm_kit.cli.comparison import ScheduleRun, compare_runs, too_few
from tiny_llm_kit.cli.served_engines import SlotEngine
from tiny_llm_kit.machine.description import LoadMeter
from tiny_llm_kit.workloads.items import WorkItem


def made_up_run(
    name: str, answers: list[list[int]], seconds: float = 10.0, calls: int = 1234, others: float = 0.0
) -> ScheduleRun:
    tokens = sum(map(len, answers))
    metrics = SimpleNamespace(
        started=0.0,
        ended=seconds,
        steps=98765,
        throughput_tokens_per_sec=tokens / seconds,
        slot_utilization=0.875,
        percentiles=lambda _: {"p50": 1234.5, "p95": 0.0, "p99": 0.0},
    )
    load = LoadMeter()
    load.wall, load.own_cpu, load.other_cpu, load.steal = seconds, 0.0, others, 0.0
    return ScheduleRun(name, [SimpleNamespace(generated_tokens=answer) for answer in answers], metrics, calls, load)


def three_runs(*changes: dict[str, Any]) -> list[ScheduleRun]:
    """Eight answers of unequal lengths, in 10, 20 and 30 seconds and 1000, 2000 and 3000 calls."""
    answers = [[1] * length for length in (9, 2, 2, 8, 2, 3, 9, 1)]
    names = ("continuous", "one at a time", "static batches")
    fields: list[dict[str, Any]] = [
        {"answers": answers, "seconds": 10.0 * number, "calls": 1000 * number} for number in (1, 2, 3)
    ]
    return [made_up_run(name, **(own | new)) for name, own, new in zip(names, fields, changes or [{}] * 3, strict=True)]


def shown(runs: list[ScheduleRun], batch_size: int = 2, width: int = 80) -> str:
    out = io.StringIO()
    compare_runs(Console(file=out, width=width), runs, batch_size)
    return out.getvalue()


def test_the_table_fits_into_80_columns() -> None:
    text = shown(three_runs(*[{"seconds": 98765.4, "calls": 1234}] * 3))
    table = [line for line in text.splitlines() if line[:1] in "┏┃┡│└"]
    assert max(map(len, table)) <= 80
    head = " ".join(line for line in table if line.startswith("┃"))
    for word in ("schedule", "time", "steps", "model", "calls", "tokens", "per s", "median", "latency", "slots", "in use"):
        assert word in head, f"{word!r} is cut off: {head}"
    for name in ("continuous", "one at a time", "static batches"):
        (row,) = (line for line in table if name in line)
        for figure in ("98765.4 s", "98765", "1234", "1234.5 s", "88%"):
            assert figure in row, f"{figure} is cut off: {row}"


def test_what_follows_is_said_in_words() -> None:
    text = shown(three_runs())
    assert "Continuous batching is 2.00 × as fast as one at a time, and 3.00 × as fast as static batches." in text
    assert "The answers are the same under all 3 schedules: 8 of 8." in text
    assert "few" not in text
    assert "hardly" not in text
    assert "Other programs" not in text


def test_answers_that_differ_are_named() -> None:
    text = shown(three_runs({}, {}, {"answers": [[7] * length for length in (9, 2, 2, 8, 2, 3, 9, 1)]}))
    assert (
        "Answers that differ from those of continuous batching: 0 of 8 with one at a time, 8 of 8 with static batches." in text
    )


@pytest.mark.parametrize("calls", [1000, 1080, 930])
def test_schedules_with_nearly_the_same_calls_cannot_be_told_apart(calls: int) -> None:
    text = shown(three_runs({}, {}, {"calls": calls}))
    assert (
        f"The model was called 1000 times with continuous batching and {calls} times with static batches. That is hardly a"
        " difference, so these prompts can show none in speed. Give prompts whose answers differ more in length, or a larger"
        " --max-tokens."
    ) in text


@pytest.mark.parametrize("calls", [1200, 800])
def test_schedules_with_other_calls_can_be_told_apart(calls: int) -> None:
    assert "hardly" not in shown(three_runs({}, {}, {"calls": calls}))


def test_too_few_prompts_are_not_told_twice_what_to_do() -> None:
    text = shown(three_runs({}, {}, {"calls": 1000}), batch_size=8)
    assert text.endswith("so these prompts can show none in speed.\n"), "too_few has said what to do before the first run"


def test_times_taken_beside_other_programs_are_called_so() -> None:
    text = shown(three_runs({"others": 0.4}, {"others": 0.01}, {"others": 0.25}))
    assert "Other programs took CPU time: 40% during continuous, 25% during static batches." in text
    assert "one at a time." not in text.split("Other programs")[1]
    assert "Other programs" not in shown(three_runs())
    assert "Other programs" not in shown(three_runs(*[{"others": 0.4, "seconds": 0.1}] * 3)), "too short to tell"


def test_the_share_of_others_is_among_the_figures() -> None:
    figures = compare_runs(Console(file=io.StringIO()), three_runs({}, {"others": 0.4}, {}), 2)
    assert [figures[name]["cpu_share_of_others"] for name in figures] == [0.0, 0.4, 0.0]


def test_no_tokens_no_speed() -> None:
    text = shown(three_runs(*[{"answers": [[]] * 8}] * 3))
    assert "No answer has a token, so there is no speed to compare." in text


@pytest.mark.parametrize(
    ("prompts", "batch_size", "said"),
    [
        (1, 8, "1 prompt is too few for a comparison: at least 4, with --batch-size 2"),
        (3, 2, "3 prompts are too few for a comparison: at least 4, with --batch-size 2"),
        (20, 1, "With --batch-size 1 there is no batch"),
        (5, 8, "all start at once, and none joins later. Give at least 16 prompts, or --batch-size 2 at most."),
        (8, 8, "8 prompts are too few for a comparison with 8 slots"),
        (9, 8, "9 prompts are few for a comparison with 8 slots: only 1 joins a running batch. Give at least 16 prompts"),
        (15, 8, "only 7 join a running batch. Give at least 16 prompts, or --batch-size 7 at most."),
    ],
)
def test_too_few_prompts_are_called_too_few(prompts: int, batch_size: int, said: str) -> None:
    assert said in (too_few(prompts, batch_size) or "nothing was said")


@pytest.mark.parametrize(("prompts", "batch_size"), [(4, 2), (5, 2), (16, 8), (40, 8), (15, 7)])
def test_what_is_advised_is_enough(prompts: int, batch_size: int) -> None:
    assert too_few(prompts, batch_size) is None


@pytest.mark.parametrize(
    ("crowded", "said"), [(None, "slots in use 87.5%, and no request waited"), (0.5, "while requests waited 50.0%")]
)
def test_slots_in_use_while_nobody_waited_are_not_all_of_them(crowded: float | None, said: str) -> None:
    out = io.StringIO()
    run = three_runs()[0]
    engine = SlotEngine(tiny_llm_ref, FakeModel(2), [WorkItem((1,), 1)], 2, 4, "fifo")
    engine.engine.metrics = run.metrics
    print_metrics(Console(file=out, width=80), run.metrics, engine.summary(crowded))
    assert said in " ".join(out.getvalue().split())
