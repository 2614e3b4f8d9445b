"""`pdm run bench-load`: what it makes of runs under load, on a tiny model; when a rate is too high; who was late."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from click.testing import Result as ClickResult

import tiny_llm_ref
from tiny_llm_kit.bench import load_report, load_test
from tiny_llm_kit.bench.fits import weight_names
from tiny_llm_kit.bench.load_test import Lateness, LoadTest, Point, climb, climbing_rates, highest_rate, split_lateness
from tiny_llm_kit.bench.serving import ServingOptions
from tiny_llm_kit.cli import bench_load
from tiny_llm_kit.models.load import LoadedModel
from tiny_llm_kit.models.tiny_random import ByteTokenizer, random_weights, tiny_config
from tiny_llm_kit.timeline.files import read_trace
from tiny_llm_kit.workloads import lists
from tiny_llm_kit.workloads.items import WorkItem

TINY = LoadedModel("tiny", tiny_config(), random_weights(tiny_config()), ByteTokenizer())
SCHEDULES = ["static", "dynamic", "continuous-unchunked", "continuous", "paged"]


def short_requests(vocab_size: int, seed: int = 0, count: int = 3) -> list[WorkItem]:
    return [
        replace(item, prompt=item.prompt[:20], max_tokens=4 + number)
        for number, item in enumerate(lists.heavy_tail(vocab_size, seed, count))
    ]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., ClickResult]:
    """The program on a tiny model and few requests, on a machine that is quiet."""
    monkeypatch.setattr(bench_load, "load", lambda *_, **__: TINY)
    monkeypatch.setitem(lists.WORKLOADS, "heavy-tail", short_requests)
    fixed = ["--requests", "3", "--seed", "1", "--noise", "1", "--out", str(tmp_path / "out")]
    return lambda *arguments: CliRunner().invoke(bench_load.main, [*fixed, *arguments])


def document(tmp_path: Path) -> dict[str, Any]:
    return json.loads(next((tmp_path / "out").glob("*.json")).read_text())  # type: ignore[no-any-return]


def test_every_schedule_at_every_rate(bench: Callable[..., ClickResult], tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    result = bench("--rates", "200,1000", "--max-wait", "0.01", "--closed-loop", "2", "--trace", str(trace))
    assert result.exit_code == 0, result.output
    found = document(tmp_path)
    points = found["points"]
    loads = [(200, None), (1000, None), (None, 2)]
    assert [(p["schedule"], p["rate"], p["clients"]) for p in points] == [(s, *load) for s in SCHEDULES for load in loads]
    for point in points:
        summary = point["summary"]
        assert summary["requests"] == summary["finished"] == 3
        assert min(summary["tokens_per_second"], summary["ttft"]["p50"], summary["tpot"]["p50"]) > 0
        assert point["kept"] == pytest.approx(summary["goodput"] / summary["requests_per_second"])
        assert (point["lateness"] is None) == (point["rate"] is None), "in a closed loop nobody is late"
    assert list(found["highest_rates"]) == SCHEDULES
    markdown = next((tmp_path / "out").glob("*.md")).read_text()
    assert all(part in markdown for part in ("continuous-unchunked", "200.00/s", "2 clients", "SLO kept up to"))
    assert next((tmp_path / "out").glob("*.png")).read_bytes().startswith(b"\x89PNG")
    assert [run.name for run in read_trace(trace)] == [f"{name}, 1000.00 requests/s" for name in SCHEDULES], (
        "each one's last rate"
    )


def test_rates_climb_until_the_slo_breaks(bench: Callable[..., ClickResult], tmp_path: Path) -> None:
    """Nobody keeps a promise of a nanosecond, so that the least number of rates is enough."""
    result = bench("--slo-ttft", "1e-9", "--engine", "continuous", "--engine", "sequential")
    assert result.exit_code == 0, result.output
    found = document(tmp_path)
    capacity = found["capacity_requests_per_second"]
    rates = climbing_rates(capacity)[: load_test.FEWEST_RATES]
    assert [p["rate"] for p in found["points"]] == [pytest.approx(rate) for rate in rates * 2]
    assert rates[0] < capacity < climbing_rates(capacity)[-1]
    assert all(highest["rate"] is None for highest in found["highest_rates"].values())
    assert f"below {rates[0]:.2f}/s" in result.output
    assert result.output.index("This will take about") < result.output.index("within the SLO"), "said before the first run"


def test_rates_that_were_asked_for_are_all_offered(bench: Callable[..., ClickResult], tmp_path: Path) -> None:
    result = bench("--slo-ttft", "1e-9", "--engine", "continuous", "--rates", "300,500,400")
    assert result.exit_code == 0, result.output
    assert [point["rate"] for point in document(tmp_path)["points"]] == [300, 400, 500]


def test_a_promise_that_always_holds_is_said_to_hold(bench: Callable[..., ClickResult], tmp_path: Path) -> None:
    result = bench("--slo-ttft", "1000", "--slo-tpot", "1000", "--rates", "500,1000", "--engine", "static")
    assert result.exit_code == 0, result.output
    assert document(tmp_path)["highest_rates"]["static"] == {"rate": 1000, "least": 500, "broken": False}
    assert "1000.00/s or more" in result.output


def test_bursts_and_seeds_reach_the_arrivals(bench: Callable[..., ClickResult], tmp_path: Path) -> None:
    options = ["--engine", "continuous", "--rates", "500", "--burstiness", "0.1"]
    assert bench(*options).exit_code == 0
    assert document(tmp_path)["arrivals"] == {"burstiness": 0.1, "seed": 1}


@pytest.mark.parametrize("run", ["open_loop", "simulated"])
@pytest.mark.parametrize(("burstiness", "seed"), [(1.0, 0), (0.2, 0), (1.0, 7)])
def test_requests_come_when_the_arrivals_say(burstiness: float, seed: int, run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recorders = []
    summarize = tiny_llm_ref.summarize
    monkeypatch.setattr(tiny_llm_ref, "summarize", lambda recorder, slo: recorders.append(recorder) or summarize(recorder, slo))
    test = a_test(burstiness=burstiness, seed=seed)
    getattr(test, run)("continuous", 200.0, *([NoCost()] if run == "simulated" else []))
    came = [times.arrived for times in recorders[0].requests.values()]
    wanted = tiny_llm_ref.arrival_times(4, 200.0, burstiness, seed)
    assert [time - came[0] for time in came] == pytest.approx([time - wanted[0] for time in wanted], abs=1e-6)


class NoCost:
    """Nothing takes time."""

    launch_waits = True

    def seconds(self, calls: Any) -> float:
        return 0.0


def a_test(**changes: Any) -> LoadTest:
    items = [WorkItem(tuple(range(3, 3 + n)), n) for n in (5, 12, 7, 4)]
    model = tiny_llm_ref.Model(TINY.config, TINY.weights)
    chosen: dict[str, Any] = {"burstiness": 1.0, "seed": 0, "noise": 1.0} | changes
    return LoadTest(tiny_llm_ref, model, items, ServingOptions(2, prefill_step=4), tiny_llm_ref.Slo(10.0, 10.0), **chosen)


def test_simulations_stand_beside_what_was_measured(bench: Callable[..., ClickResult], tmp_path: Path) -> None:
    """With a fit by which a call takes a second and nothing else takes time: whoever waits for others breaks every promise."""
    fit = {
        "seconds_per": dict.fromkeys(weight_names([8]), 0.0) | {"call": 1.0},
        "bends": [8],
        "error": 0.1,
        "launch_waits": False,
    }
    file = tmp_path / "fit.json"
    file.write_text(json.dumps({"fit": fit}))
    engines = [argument for engine in SCHEDULES for argument in ("--engine", engine)]
    result = bench("--rates", "100", *engines, "--slo-tpot", "1.5", "--slo-ttft", "3.5", "--simulate", str(file))
    assert result.exit_code == 0, result.output
    found = document(tmp_path)
    assert found["simulated"] == fit
    points = {point["schedule"]: point for point in found["points"]}
    assert list(points) == [name for schedule in SCHEDULES for name in (schedule, f"{schedule}, simulated")]
    for point in points.values():
        assert point["summary"]["finished"] == 3
    inter_token = {name: point["summary"]["inter_token"] for name, point in points.items()}
    assert inter_token["paged, simulated"] is None, "a simulation does not tell of it"
    assert inter_token["paged"]["p50"] > 0
    paged = points["paged, simulated"]
    assert paged["summary"]["tpot"]["p95"] == pytest.approx(1.0), "a token per call"
    assert (paged["others"], paged["lateness"]) == (None, None)
    assert points["continuous, simulated"]["summary"]["ttft"]["p95"] > paged["summary"]["ttft"]["p95"], "a call per prompt"


def test_a_disturbed_run_is_tried_again_and_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    verdicts = [True, False, *[True] * load_test.MAX_TRIES]

    class Meter:
        others = 0.3

        def __enter__(self) -> "Meter":
            return self

        def __exit__(self, *error: object) -> None:
            self.verdict = verdicts.pop(0)

        def noisy(self, limit: float) -> bool:
            return self.verdict

    monkeypatch.setattr(load_test, "LoadMeter", Meter)
    readers = []
    test = a_test()
    point = test.open_loop("continuous", 1000, lambda: [readers.append(1) or (lambda state: None)])  # type: ignore[func-returns-value, list-item]
    assert not point.noisy, "the second try was quiet"
    assert len(readers) == 2, "each try has readers of its own"
    assert test.open_loop("continuous", 1000).noisy
    assert not verdicts


def test_disturbed_runs_are_shown_and_end_with_1(
    bench: Callable[..., ClickResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_test.LoadMeter, "noisy", lambda self, limit: True)
    result = bench("--rates", "1000", "--engine", "continuous")
    assert result.exit_code == 1, result.output
    assert "1 of 1 runs were disturbed by other programs" in " ".join(result.output.split())
    assert document(tmp_path)["points"][0]["noisy"], "what was measured is kept all the same"


@pytest.mark.parametrize(
    ("wanted", "late", "parts"),
    [
        (1.5, 0.5, (0.5, 0.0)),  # in the middle of the step that ended at 2
        (1.5, 0.75, (0.5, 0.25)),  # and then nobody submitted it for a while
        (1.5, 1.75, (0.5, 1.25)),  # not even after the next step
        (5.0, 0.25, (0.0, 0.25)),  # no step was under way
        (1.5, 0.25, (0.0, 0.25)),  # before the step ended, so that it was idle
    ],
)
def test_the_end_of_a_step_is_not_the_generators_fault(wanted: float, late: float, parts: tuple[float, float]) -> None:
    assert split_lateness(wanted, late, [1.0, 2.0, 3.0]) == pytest.approx(parts)


def test_a_late_generator_is_told_of(bench: Callable[..., ClickResult], monkeypatch: pytest.MonkeyPatch) -> None:
    """This one oversleeps."""
    open_loop = tiny_llm_ref.open_loop
    monkeypatch.setattr(
        tiny_llm_ref, "open_loop", lambda *arguments: open_loop(*arguments, sleep=lambda s: time.sleep(s + 0.05))
    )
    result = bench("--rates", "50", "--engine", "continuous", "--slo-ttft", "0.2")
    assert result.exit_code == 0, result.output
    assert "The generator was late in 1 runs" in result.output


def test_a_generator_in_time_is_not_told_of(bench: Callable[..., ClickResult]) -> None:
    assert "generator was late" not in bench("--rates", "50", "--engine", "continuous", "--slo-ttft", "20").output


def points(*kept: float, schedule: str = "continuous") -> list[Point]:
    return [Point(schedule, float(rate), None, None, share) for rate, share in enumerate(kept, start=1)]


def test_the_climb_ends_where_the_slo_breaks() -> None:
    asked = []

    def offered() -> Any:
        for point in points(1.0, 0.95, 0.8, 1.0):
            asked.append(point.rate)
            yield point

    assert [point.rate for point in climb(offered())] == [1, 2, 3]
    assert asked == [1, 2, 3], "no rate is tried that will not be shown"
    assert len(list(climb(points(0.5, 0.5, 0.5), fewest=2))) == 2
    assert len(list(climb(points(1.0, 1.0)))) == 2


@pytest.mark.parametrize(
    ("kept", "rate"), [((1.0, 0.9, 0.5), 2), ((1.0, 0.5, 1.0), 1), ((0.8, 1.0), None), ((1.0, 1.0), 2)], ids=str
)
def test_the_highest_rate_is_the_last_before_the_first_that_breaks(kept: Sequence[float], rate: float | None) -> None:
    assert highest_rate(points(*kept)) == rate


def test_schedules_are_held_against_static_ones_of_their_kind() -> None:
    found = load_report.highest_rates(
        [
            *points(1.0, 0.5, schedule="static"),
            *points(1.0, 1.0, 0.5, schedule="continuous"),
            *points(0.5, schedule="static, simulated"),
            *points(1.0, 1.0, schedule="continuous, simulated"),
        ]
    )
    assert load_report.rate_rows(found) == [
        ["static", "1.00/s", "1.0"],
        ["continuous", "2.00/s", "2.0"],
        ["static, simulated", "below 1.00/s", "—"],
        ["continuous, simulated", "2.00/s or more", "more than 2.0"],
    ]


def test_a_row_tells_who_was_late_and_who_disturbed() -> None:
    spread = SimpleNamespace(p50=0.5, p95=1.5)
    summary = SimpleNamespace(
        tokens_per_second=100, requests_per_second=2, goodput=1, queue_time=spread, ttft=spread, tpot=spread
    )
    point = Point("static", 2.0, None, summary, 0.5, Lateness(0.1, 0.2, 0.001, 0.003), others=0.2, noisy=True)
    (load,), (latency,) = load_report.load_rows([point]), load_report.latency_rows([point])
    assert dict(zip(load_report.LOAD_COLUMNS, load, strict=True)) == {
        "schedule": "static",
        "load": "2.00/s",
        "tokens/s": "100",
        "answers/s": "2.00",
        "goodput/s": "1.00",
        "SLO kept": "50%",
        "in step": "100 ms",
        "late": "3 ms",
        "others": "20% !",
    }
    assert latency == ["static", "2.00/s", "1.50 s", "500 ms", "1.50 s", "500 ms", "1.50 s"]


def test_a_request_that_fails_is_no_measurement(
    bench: Callable[..., ClickResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OverflowError("too much")

    monkeypatch.setattr(tiny_llm_ref.Model, "__call__", fail)
    result = bench("--rates", "10")
    assert result.exit_code == 1, result.output
    assert "a request failed with continuous: OverflowError('too much')" in " ".join(result.output.split())
    assert not (tmp_path / "out").exists(), "nothing half-done"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rates", "1,x"], "not a list of rates"),
        (["--rates", "0,1"], "above 0"),
        (["--rates", "inf"], "above 0"),
        (["--slo-ttft", "0"], "not in the range"),
        (["--slo-ttft", "nan"], "not a finite number"),
        (["--noise", "nan"], "not a finite number"),
        (["--rates", "1e-300"], "from 1e-06 on"),
        (["--requests", "99999999999"], "not in the range"),
        (["--burstiness", "0"], "not in the range"),
        (["--requests", "1"], "not in the range"),
        (["--max-wait", "-1"], "not in the range"),
        (["--closed-loop", "0"], "not in the range"),
        (["--batch-size", "1000000000"], "would fit"),
        (["--workload", "chat"], "--seed means nothing to chat"),
        (["--engine", "static", "--block-size", "8"], "--block-size means nothing to --engine static"),
        (["--engine", "paged", "--num-blocks", "1"], "num_blocks is 1, and the longest request needs"),
        (["--simulate", "pyproject.toml"], "holds no fitted cost"),
        (["--trace", "page.html"], "will be the page"),
        (["--solution", "nobody"], "nobody"),
        (["--out", "pyproject.toml"], "is a file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_message_and_exit_code_2(
    bench: Callable[..., ClickResult], arguments: list[str], message: str
) -> None:
    result = bench(*arguments)
    assert result.exit_code == 2, result.output
    assert message in " ".join(result.output.split())
    assert "Traceback" not in result.output
