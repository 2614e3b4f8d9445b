"""Week 2 Day 7 works out examples by hand: each is computed by the reference and compared with its page."""

import json
import re
from collections.abc import Iterator, Sequence

import pytest

import tiny_llm_ref as ref
from tiny_llm_kit.course.course_map import find_root
from tiny_llm_kit.figures.coordinated_omission import answers
from tiny_llm_kit.models.shapes import shape
from tiny_llm_kit.workloads.items import WorkItem

ROOT = find_root()
MEASURING = (ROOT / "book/src/week2-07-measuring.md").read_text(encoding="utf-8")
PREDICTING = (ROOT / "book/src/week2-07b-predicting.md").read_text(encoding="utf-8")


class SecondsPerLaunch:
    """A cost model: this many seconds for each launch, or for each call."""

    launch_waits = False

    def __init__(self, launch: float = 0.0, call: float = 0.0) -> None:
        self.launch = launch
        self.call = call

    def seconds(self, calls: Sequence[ref.Call]) -> float:
        return self.launch * bool(calls) + self.call * len(calls)


def table(page: str, head: str) -> list[list[str]]:
    """The cells of the table whose first line is `head`."""
    lines = page.partition(f"\n{head}\n")[2].partition("\n\n")[0].splitlines()[1:]
    assert lines, f"no table begins with {head!r}"
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def plain(page: str) -> str:
    return " ".join(page.split())


def simulated_log() -> Iterator[list[str]]:
    """The page's table of a log, without the tokens after the first, of which a simulator tells only how many there were."""
    states: list[ref.BatchState] = []
    items = [WorkItem((40,) * 5, 3), WorkItem((40,) * 2, 2)]
    ref.simulate_slots(items, SecondsPerLaunch(call=0.01), 1, prefill_step=4, readers=[states.append])
    names: dict[int, str] = {}
    for state in states:
        told = []
        for event in state.events:
            name = names.setdefault(event.request_id, "AB"[len(names) % 2])
            tokens = f"{event.tokens} token{'s' * (event.tokens != 1)}"
            said = {
                ref.EventKind.ARRIVED: f"{name} arrived ({tokens if name == 'A' else event.tokens})",
                ref.EventKind.ADMITTED: f"{name} admitted",
                ref.EventKind.PREFILL_CHUNK: f"chunk of {name} ({tokens}, up to {event.position})",
                ref.EventKind.FIRST_TOKEN: f"first token of {name}",
                ref.EventKind.FINISHED: f"{name} finished ({tokens})",
            }[event.kind]
            told.append(f"{1000 * event.time:.0f} {said}")
        figures = [state.step, f"{1000 * state.time:.0f}", state.active_requests, state.queue_size]
        yield [*map(str, figures), ", ".join(told)]


def test_the_log_is_that_of_the_worked_example() -> None:
    shown = table(MEASURING, "| step | ends at | slots in use | waiting | events (time in ms) |")
    without_tokens = [[*row[:-1], re.sub(r"\d+ token of \w(?:, )?", "", row[-1]).strip(", ")] for row in shown]
    assert without_tokens == list(simulated_log())


def test_the_percentiles_of_two_servers() -> None:
    shown = table(MEASURING, "| | mean | p50 | p95 | p99 | within 0.5 s | within 1.5 s |")
    for (name, *cells), times in zip(shown, ([1.0] * 10, [0.2] * 9 + [8.2]), strict=True):
        found = ref.spread(times)
        figures = [f"{seconds:.1f} s" for seconds in (found.mean, found.p50, found.p95, found.p99)]
        within = [f"{sum(time <= limit for time in times)} of 10" for limit in (0.5, 1.5)]
        assert cells == figures + within, name


def test_what_coordinated_omission_leaves_out() -> None:
    ends = answers()
    wanted = [end - second for second, end in enumerate(ends)]
    sent = [end - max(float(second), before) for second, (before, end) in enumerate(zip([0.0, *ends], ends, strict=False))]
    shown = table(MEASURING, "| latency from when it was … | mean | p50 | p95 |")
    for (name, *cells), times in zip(shown, (wanted, sent), strict=True):
        found = ref.spread(times)
        assert cells == [f"{seconds + 1e-9:.2f} s" for seconds in (found.mean, found.p50, found.p95)], name


@pytest.mark.parametrize(
    ("schedule", "max_wait"), [("dynamic, max_wait 0", 0.0), ("dynamic, max_wait 2", 2.0), ("continuous", None)]
)
def test_three_schedules(schedule: str, max_wait: float | None) -> None:
    """A step takes a second, whatever it computes."""
    items = [WorkItem((1,), tokens, arrival) for arrival, tokens in ((0.0, 6), (1.0, 2), (3.0, 3), (8.0, 2))]
    recorder, cost = ref.RunRecorder(), SecondsPerLaunch(launch=1.0)
    if max_wait is None:
        ref.simulate_slots(items, cost, 2, readers=[recorder.read], wanted=recorder.wanted)
    else:
        ref.simulate_groups(items, cost, 2, max_wait, readers=[recorder.read], wanted=recorder.wanted)
    mean = sum(times.ttft or 0.0 for times in recorder.requests.values()) / len(items)
    picture = MEASURING.partition(f"\n {schedule} ")[2].partition("\n\n")[0]
    assert re.findall(r"\d\.\d\d", picture) == [f"{mean:.2f}"]


def test_the_roofline_by_hand() -> None:
    shown = table(PREDICTING, "| rows | bytes | reading | operations | computing | the step | per row |")
    bound = ref.roofline_of(shape("smollm2-135m"), 100e9, 50e9, 4, 4)
    assert f"{bound.weights:,}" in PREDICTING
    assert f"{bound.output_weights:,}" in PREDICTING
    for cells in shown:
        rows = int(cells[0])
        milliseconds = 1000 * bound.seconds([ref.decode_call(rows, 160)])
        assert cells[-2:] == [f"{milliseconds:.1f} ms", f"{milliseconds / rows:.1f} ms"]


@pytest.mark.parametrize(
    ("said", "flops", "bandwidth", "width"),
    [
        ("B = 4 · 100 / (2 · 50) = 4 rows", 100e9, 50e9, 4.0),
        ("2 · 989 / (2 · 3.35) = 295 rows", 989e12, 3.35e12, 2.0),
        ("2 · 989 / (2 · 4.8) = 206 rows", 989e12, 4.8e12, 2.0),
        ("0.5 · 989 / (2 · 3.35) = 74 rows", 989e12, 3.35e12, 0.5),
    ],
)
def test_knees(said: str, flops: float, bandwidth: float, width: float) -> None:
    assert said in plain(PREDICTING)
    knee = ref.roofline_of(shape("smollm2-135m"), flops, bandwidth, width, width).knee
    assert said.endswith(f"= {knee:.0f} rows")


def test_the_steps_that_are_fitted_by_hand_are_the_recorded_ones() -> None:
    recorded = json.loads((ROOT / "book/figures/steps.json").read_text(encoding="utf-8"))["decode"]
    first, eighth, last, asked = (round(1000 * recorded[rows]) for rows in ("1", "8", "32", "16"))
    said = plain(PREDICTING)
    assert f"with the steps of {first}, {eighth} and {last} ms for 1, 8 and 32 rows" in said
    per_token, beyond = (eighth - first) / 7, (last - eighth) / 24
    assert f"= {per_token:.1f} ms, one beyond it ({last} − {eighth}) / 24 = {beyond:.2f} ms" in said
    assert f"54 + 8 · 2.75 = {eighth + 8 * beyond:.0f} ms, and {asked} ms were measured" in said
    assert f"predicts {first + 31 * per_token:.0f} ms for 32" in said


def test_the_law_by_hand() -> None:
    longest, ratio = table(PREDICTING, "| B | 1 | 2 | 4 | 8 | 16 |")
    lengths, sizes = [2, 2, 2, 10], (1, 2, 4, 8, 16)
    assert longest[1:] == [f"{ref.expected_longest(lengths, size):.2f}" for size in sizes]
    assert ratio[1:] == [f"{ref.predicted_ratio(lengths, size):.2f}" for size in sizes]
    said = plain(PREDICTING)
    assert f"= {ref.expected_longest([4, 8, 12], 2):.2f}, and divided by the mean of 8 the law says" in said
    assert f"the law says {ref.predicted_ratio([4, 8, 12], 2):.2f}." in said
    longest_of_three, for_three = ref.expected_longest([4, 8, 12], 3), ref.predicted_ratio([4, 8, 12], 3)
    assert f"1, 7 and 19, which gives {longest_of_three:.2f} and {for_three:.2f}" in said
