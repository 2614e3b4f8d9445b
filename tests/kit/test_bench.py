"""The benchmark's own rules: runs take turns, a noisy run does not count, and figures are what they say."""

import json
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import geometric_mean
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import mlx.core as mx
import pytest
from click.testing import CliRunner
from click.testing import Result as ClickResult

import tiny_llm_ref
from tiny_llm_kit.bench import build_time, log_cost, overhead, report, run
from tiny_llm_kit.bench.engines import AnswerEngines, MlxLmEngine
from tiny_llm_kit.bench.fits import weight_names
from tiny_llm_kit.bench.over_lists import Measured
from tiny_llm_kit.bench.peer import mlx_lm_model
from tiny_llm_kit.bench.run import Case, Result, Run, Served
from tiny_llm_kit.cli import bench as cli_bench
from tiny_llm_kit.models import quantized
from tiny_llm_kit.models.load import LoadedModel
from tiny_llm_kit.models.quantized import QuantizedWeight
from tiny_llm_kit.models.tiny_random import ByteTokenizer, random_weights, tiny_config
from tiny_llm_kit.timeline.files import read_trace
from tiny_llm_kit.workloads import lists
from tiny_llm_kit.workloads.items import WorkItem

SERVED = Served(tokens=[[1, 2], [3, 4]], ttft=[1.0, 3.0], tpot=[0.5, 0.5], steps=3, utilization=0.5, crowded=1.0)


def a_run(seconds: float, noisy: bool = False) -> Run:
    return Run(SERVED, seconds, peak_memory=2**20, others=0.5 if noisy else 0.0, noisy=noisy)


class Meter:
    """Says of each run in turn whether it was noisy."""

    verdicts: list[bool]
    wall, others = 2.0, 0.0

    def __enter__(self) -> "Meter":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def noisy(self, limit: float) -> bool:
        return Meter.verdicts.pop(0)


def serve_in_turn(monkeypatch: pytest.MonkeyPatch, verdicts: list[bool], repeats: int) -> tuple[list[Result], list[str]]:
    Meter.verdicts = verdicts
    monkeypatch.setattr(run, "LoadMeter", Meter)
    order: list[str] = []
    cases = [Case(name, 1, lambda name=name: order.append(name) or SERVED) for name in "ab"]  # type: ignore[misc, func-returns-value]
    return run.run_in_turn(cases, repeats, 0.05, lambda case, done: None), order


def test_cases_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    results, order = serve_in_turn(monkeypatch, [False] * 4, repeats=2)
    assert order == ["a", "b", "a", "b"]
    assert [len(result.quiet) for result in results] == [2, 2]


def test_a_noisy_run_is_repeated_and_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    (a, b), order = serve_in_turn(monkeypatch, [True, False, False], repeats=1)
    assert order == ["a", "a", "b"]
    assert (len(a.runs), len(a.quiet), len(b.runs)) == (2, 1, 1)


def test_what_is_always_noisy_has_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    (a, _), _ = serve_in_turn(monkeypatch, [True] * run.MAX_TRIES + [False], repeats=1)
    assert (a.tokens_per_second, a.percentile("ttft", 50)) == (None, None)
    assert "—" in report.rows([a])[0]


def test_figures_are_medians_over_quiet_runs() -> None:
    result = Result(Case("continuous", 8, lambda: SERVED), [a_run(1), a_run(2), a_run(4), a_run(100, noisy=True)])
    assert (result.seconds, result.tokens_per_second, result.requests_per_second) == (2, 2, 1)
    assert result.percentile("ttft", 50) == 2.0


def test_targets_compare_and_never_guess() -> None:
    fast = Result(Case("continuous", 8, lambda: SERVED), [a_run(1)])
    slow = Result(Case("static", 8, lambda: SERVED), [a_run(2)])
    noisy = Result(Case("mlx-lm", 8, lambda: SERVED), [a_run(2, noisy=True)])
    goals = {goal.name: goal for goal in report.targets([Measured("a", [fast, slow, noisy], SERVED.tokens)], 8, 0.01, 150)}
    assert goals["continuous / static, 8 slots"].value == 2
    assert goals["continuous / static, 8 slots"].met is True
    assert goals["continuous / mlx-lm, 8 slots"].met is None, "a noisy run is no measurement"
    assert goals["continuous / sequential"].met is None, "what did not run is no measurement"
    assert goals["host time of a step, 64 slots, fake model"].met is False
    wrong = report.targets([Measured("a", [fast], [[1, 2], [9, 9]])], 8, 0.01, 150)
    assert next(goal for goal in wrong if goal.name.startswith("answers")).value == 0.5


def test_ratios_are_geometric_means_over_the_seeds() -> None:
    def at(engine: str, seconds: float, size: int = 8) -> Result:
        return Result(Case(engine, size, lambda: SERVED), [a_run(seconds)])

    first = Measured("seed 1", [at("continuous", 1), at("mlx-lm", 2), at("sequential", 8, 1)], SERVED.tokens)
    second = Measured("seed 2", [at("continuous", 1), at("mlx-lm", 8)], [[1, 2], [9, 9]])
    goals = report.targets([first, second], 8, 0.01, 50)
    values = {goal.name.partition(",")[0]: goal.value for goal in goals}
    assert values["continuous / mlx-lm"] == pytest.approx(4), "√(2 · 8)"
    assert values["continuous / sequential"] is None, "one seed alone is no mean over both"
    assert values["answers equal to the request alone"] == 0.5, "the worst of all seeds"
    assert "over 2 seeds" in goals[0].name
    rows = report.as_json([first, second], goals, {})["results"]
    speeds = {(row["workload"], row["engine"]): row["tokens_per_second"] for row in rows}
    assert speeds["seed 1", "mlx-lm"] == 2
    assert speeds["seed 2", "mlx-lm"] == 0.5


TINY = LoadedModel("tiny", tiny_config(), random_weights(tiny_config()), ByteTokenizer())


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Callable[..., ClickResult]:
    """The program on a tiny model and short lists, on a machine that is quiet."""
    monkeypatch.setattr(cli_bench, "load", lambda *_, **__: TINY)
    monkeypatch.setitem(lists.WORKLOADS, "heavy-tail", lambda size, seed=0, count=3: lists.heavy_tail(size, seed, count))
    monkeypatch.setattr(overhead, "host_microseconds", lambda answer: 50.0)
    monkeypatch.setattr(log_cost, "log_share", lambda answer, model: 0.002)
    monkeypatch.setattr(build_time, "build_times", partial(build_time.build_times, repeats=2))
    return lambda *arguments: CliRunner().invoke(cli_bench.main, [*arguments, "--repeats", "1", "--noise", "1"])


def test_seeds_are_measured_one_by_one(bench: Callable[..., ClickResult], tmp_path: Path) -> None:
    result = bench("--batch-sizes", "2", "--seed", "3", "--seed", "4", "--out", str(tmp_path))
    assert result.exit_code == 0, result.output
    document = json.loads(next(tmp_path.glob("*.json")).read_text())
    names = ["heavy-tail, seed 3", "heavy-tail, seed 4"]
    assert list(document["workloads"]) == names
    engines = ["sequential", "static", "continuous", "mlx-lm"]
    assert [(row["workload"], row["engine"]) for row in document["results"]] == [(n, e) for n in names for e in engines]
    for row in document["results"]:
        assert row["runs"][0]["tokens"] == document["workloads"][row["workload"]]["generated_tokens"]
    equal = next(goal for goal in document["targets"] if goal["name"].startswith("answers"))
    assert equal["met"], "every schedule gives the answers that each request gets alone"
    assert any(goal["value"] == 0.002 for goal in document["targets"]), "the log's share of a step is among the targets"
    markdown = next(tmp_path.glob("*.md")).read_text()
    assert all(name in markdown for name in names)
    assert all(part in markdown for part in ("products with weights", "attention", "everything else", "a step of 8 rows"))
    assert next(tmp_path.glob("*.png")).read_bytes().startswith(b"\x89PNG")


def test_drafts_have_a_table_of_their_own(bench: Callable[..., ClickResult], tmp_path: Path) -> None:
    options = ["--batch-sizes", "2", "--seed", "3", "--engine", "paged", "--engine", "static", "--speculate", "ngram"]
    result = bench(*options, "--out", str(tmp_path))
    assert result.exit_code == 0, result.output
    document = json.loads(next(tmp_path.glob("*.json")).read_text())
    runs = {row["engine"]: row["runs"][0] for row in document["results"]}
    assert runs["paged"]["tokens_per_step"] == pytest.approx(runs["paged"]["tokens"] / runs["paged"]["steps"])
    assert "drafted" not in runs["static"], "it does not speculate"
    assert next(goal for goal in document["targets"] if goal["name"].startswith("answers"))["met"] is not False
    assert "| engine | slots | tokens per step | drafted | accepted |" in next(tmp_path.glob("*.md")).read_text()


def test_many_seeds_are_shown_by_their_mean_and_their_spread(bench: Callable[..., ClickResult], tmp_path: Path) -> None:
    engines = ["static", "dynamic", "continuous-unchunked", "continuous"]
    chosen = [argument for engine in engines for argument in ("--engine", engine)]
    result = bench("--batch-sizes", "2", "--seeds", "4", "--requests", "2", *chosen, "--out", str(tmp_path))
    assert result.exit_code == 0, result.output
    assert "heavy-tail, seed 4 (4 of 4)" in result.output, "on the way it says which list it is at"
    document = json.loads(next(tmp_path.glob("*.json")).read_text())
    names = [f"heavy-tail, seed {seed}" for seed in (1, 2, 3, 4)]
    assert {name: work["requests"] for name, work in document["workloads"].items()} == dict.fromkeys(names, 2)
    speeds = {(row["workload"], row["engine"]): row["tokens_per_second"] for row in document["results"]}
    assert list(speeds) == [(name, engine) for name in names for engine in engines], "each seed by itself"
    for record in document["compared"]:
        ratios = [speeds[name, record["engine"]] / speeds[name, "static"] for name in names]
        spread = record["times_static"]
        assert spread["least"] == pytest.approx(min(ratios))
        assert spread["most"] == pytest.approx(max(ratios))
        assert spread["mean"] == pytest.approx(geometric_mean(ratios))
        assert record["times_sequential"] is None, "it did not run"
    goal = next(goal for goal in document["targets"] if goal["name"].startswith("continuous / static"))
    assert goal["least"] < goal["value"] < goal["most"]
    assert f"{goal['value']:.2f} × ({goal['least']:.2f} × … {goal['most']:.2f} ×)" in " ".join(result.output.split())


def test_workloads_stand_in_one_table(bench: Callable[..., ClickResult], tmp_path: Path) -> None:
    options = ["--workload", "shared-prefix", "--workload", "heavy-tail", "--requests", "2", "--engine", "continuous"]
    result = bench("--batch-sizes", "2", "--seeds", "2", *options, "--out", str(tmp_path))
    assert result.exit_code == 0, result.output
    document = json.loads(next(tmp_path.glob("*.json")).read_text())
    found = [(record["workload"], record["lists"]) for record in document["compared"]]
    assert found == [("shared-prefix", 2), ("heavy-tail", 2)]
    assert "mean over 2 seeds" in document["targets"][0]["name"], "targets are held against the first workload alone"


def test_simulations_stand_beside_what_was_measured(bench: Callable[..., ClickResult], tmp_path: Path) -> None:
    """A fit by which a call takes 10 ms and nothing else takes time: the rows of a step are for nothing."""
    seconds_per = dict.fromkeys(weight_names([8]), 0.0) | {"call": 0.01}
    fit = {"seconds_per": seconds_per, "bends": [8], "error": 0.1, "launch_waits": False}
    file = tmp_path / "fit.json"
    file.write_text(json.dumps({"fit": fit}))
    engines = ["sequential", "static", "dynamic", "continuous-unchunked", "continuous", "paged", "mlx-lm"]
    chosen = [argument for engine in engines for argument in ("--engine", engine)]
    result = bench(
        "--batch-sizes",
        "2",
        "--seeds",
        "2",
        "--requests",
        "2",
        *chosen,
        "--simulate",
        str(file),
        "--out",
        str(tmp_path / "out"),
    )
    assert result.exit_code == 0, result.output
    document = json.loads(next((tmp_path / "out").glob("*.json")).read_text())
    assert document["simulated"] == fit
    compared = {record["engine"]: record for record in document["compared"]}
    assert list(compared) == [*engines, *(f"{engine}, simulated" for engine in engines[:-1])], "mlx-lm has no simulator"
    for row in document["results"]:
        assert row["runs"][0]["tokens"] == document["workloads"][row["workload"]]["generated_tokens"]
    sequential, continuous = compared["sequential, simulated"], compared["continuous, simulated"]
    assert sequential["tokens_per_second"]["mean"] == pytest.approx(100, rel=0.15), "a token is a call of 10 ms"
    assert 1.2 < continuous["times_sequential"]["mean"] <= 2, "two rows at the price of one, less what prompts cost"
    assert continuous["of_measured"]["mean"] > 0
    assert compared["continuous"]["of_measured"] is None
    assert compared["static, simulated"]["times_static"]["mean"] == 1, "a simulation is held against simulations"


def test_the_engines_of_slots_and_of_blocks_are_compared(bench: Callable[..., ClickResult], tmp_path: Path) -> None:
    options = ["--engine", "slots", "--engine", "paged", "--block-size", "8", "--out", str(tmp_path)]
    result = bench("--batch-sizes", "2", *options)
    assert result.exit_code == 0, result.output
    document = json.loads(next(tmp_path.glob("*.json")).read_text())
    assert [row["engine"] for row in document["results"]] == ["continuous", "paged"]


def test_each_engine_of_ours_has_a_timeline(bench: Callable[..., ClickResult], tmp_path: Path) -> None:
    engines = ["sequential", "static", "continuous", "paged", "mlx-lm"]
    chosen = [argument for engine in engines for argument in ("--engine", engine)]
    trace = tmp_path / "trace.json"
    result = bench("--batch-sizes", "2", *chosen, "--trace", str(trace), "--out", str(tmp_path / "out"))
    assert result.exit_code == 0, result.output
    runs = read_trace(trace)
    assert [run.slots for run in runs] == [1, 2, 2, None], "mlx-lm keeps no log"
    assert [engine in run.name for run, engine in zip(runs, engines, strict=False)] == [True] * 4
    document = json.loads(next((tmp_path / "out").glob("*.json")).read_text())
    (tokens,) = (work["generated_tokens"] for work in document["workloads"].values())
    assert [sum(life.generated for life in run.lives) for run in runs] == [tokens] * 4
    assert trace.with_suffix(".html").exists()
    assert all(len(row["runs"]) == 1 for row in document["results"]), "what is served for a timeline is not measured"


def test_a_request_that_fails_is_no_measurement(
    bench: Callable[..., ClickResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OverflowError("too much")

    monkeypatch.setattr(tiny_llm_ref.Model, "__call__", fail)
    result = bench("--batch-sizes", "2", "--engine", "continuous", "--out", str(tmp_path / "out"))
    assert result.exit_code == 1, result.output
    assert "request 1 of 3 failed: OverflowError('too much')" in result.output
    assert not (tmp_path / "out").exists(), "nothing half-done"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch-sizes", "1,x"], "not a list of numbers"),
        (["--batch-sizes", "0"], "0 is too few"),
        (["--batch-sizes", "1000000000"], "would fit"),
        (["--seed", "99999999999999999999"], "not in the range"),
        (["--requests", "99999999999"], "not in the range"),
        (["--seed", "1", "--seeds", "2"], "give one of them"),
        (["--workload", "heavy-tail", "--workload", "chat", "--seeds", "2"], "--seeds means nothing to chat"),
        (["--simulate", "pyproject.toml"], "holds no fitted cost"),
        (["--block-size", "8"], "--block-size means nothing to --engine continuous"),
        (["--kv-bits", "8"], "--kv-bits means nothing to --engine continuous"),
        (["--engine", "paged", "--num-blocks", "2"], "num_blocks is 2, and the longest request needs"),
        (["--workload", "chat", "--seed", "1"], "--seed means nothing to chat"),
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
    assert message in result.output
    assert "Traceback" not in result.output


def test_engines_agree_on_a_tiny_model(tmp_path: Path) -> None:
    config = tiny_config()
    weights = random_weights(config)
    items = [WorkItem(tuple(range(3, 3 + n)), n) for n in (5, 12, 7)]
    ours = AnswerEngines(tiny_llm_ref, tiny_llm_ref.Model(config, weights), items, prefill_step=4)
    alone = ours.sequential().tokens
    assert [len(tokens) for tokens in alone] == [5, 12, 7]
    for engine, serve in {
        "static": ours.static,
        **{name: partial(ours.scheduled, name) for name in ("dynamic", "continuous-unchunked", "continuous", "paged")},
        "mlx-lm": MlxLmEngine(mlx_lm_model(config, weights), items).serve,
    }.items():
        served = serve(2)
        assert served.tokens == alone, f"{engine} answers otherwise"
        assert 0 < served.utilization <= 1
        assert len(served.ttft) == len(served.tpot) == 3

    result = Result(Case("continuous", 2, lambda: served), [Run(served, 1.0, 0, 0.0, False)])
    measured = [Measured("tiny", [result], alone)]
    goals = report.targets(measured, 2, 0.01, 50)
    json.dumps(report.as_json(measured, goals, {"machine": {}}))
    report.draw(measured, tmp_path / "chart.png", "a chart")
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")


def test_overhead_is_measured() -> None:
    assert 0 < overhead.host_microseconds(tiny_llm_ref, slots=4, steps=20) < 1e6
    config = tiny_config()
    model = tiny_llm_ref.Model(config, random_weights(config))
    items = [WorkItem((1, 2, 3), 4), WorkItem((4, 5), 6)]
    assert 0 < overhead.share_outside_model(tiny_llm_ref, model, items, 2, 8) < 1


def test_the_log_is_measured_with_all_its_readers() -> None:
    """On a clock that moves when it is asked, and by a second whenever somebody reads the log."""
    now, seen = 0.0, Counter[str]()

    def tick() -> float:
        nonlocal now
        now += 0.001
        return now

    class Slow:
        def read(self, state: Any) -> None:
            nonlocal now
            now += 1.0
            seen.update(event.kind.value for event in state.events)

        update = read

    answer = SimpleNamespace(**{**vars(tiny_llm_ref), "RunRecorder": Slow, "BatchingMetrics": Slow})
    with patch("time.perf_counter", tick):
        seconds = log_cost.log_seconds(answer, rows=8, repeats=3)
    assert seconds == pytest.approx(2 + 0.001 * (8 + 1 + 1)), "8 events, the iteration's end, both readers, and nothing else"
    assert seen["token"] == 2 * 8 * 3, "each reader is told of a token for each row"


def test_the_log_is_measured_before_the_day_of_measuring() -> None:
    class Stub:
        def read(self, state: Any) -> None:
            raise NotImplementedError

    answer = SimpleNamespace(**{**vars(tiny_llm_ref), "RunRecorder": Stub})
    assert 0 < log_cost.log_seconds(answer, rows=4, repeats=3) < 1, "a recorder that is still to be written is left out"


def test_the_share_of_the_log_is_a_target() -> None:
    model = tiny_llm_ref.Model(tiny_config(), random_weights(tiny_config()))
    assert 0 < log_cost.log_share(tiny_llm_ref, model, rows=4) < 1
    assert [goal.met for share in (0.002, 0.01, 0.02) for goal in log_cost.targets(share)] == [True, True, False], "1 % at most"


def test_what_a_call_may_have_left_to_compute_is_found_wherever_caches_keep_it() -> None:
    shared = SimpleNamespace(rows={"numbers": [mx.array([1.0])]})
    caches = [
        SimpleNamespace(slabs=[mx.zeros(2)], shared=shared),
        SimpleNamespace(keys=mx.ones(3), shared=shared, lengths={0: 1}),
    ]
    found = list(overhead.arrays_in([mx.zeros(1), caches, "causal", None, 3]))
    assert sorted(array.size for array in found) == [1, 1, 2, 3], "what caches share is found once"


def test_the_peer_multiplies_by_matrices_in_our_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantized, "by_columns", lambda weight: mx.contiguous(weight.T).T)
    weights = quantized.place(TINY.weights, keep_quantized=False)
    name = "model.layers.0.self_attn.q_proj.weight"
    assert weights[name] is not TINY.weights[name]
    assert mx.array_equal(weights[name], TINY.weights[name])
    peer = mlx_lm_model(TINY.config, weights)
    assert peer.model.layers[0].self_attn.q_proj.weight is weights[name], "shared, and not copied into another layout"
    tokens = mx.array([[1, 2, 3]])
    assert mx.allclose(peer(tokens), mlx_lm_model(TINY.config, TINY.weights)(tokens), atol=1e-3)


def test_a_quantized_weight_is_refused_by_the_peer() -> None:
    config = tiny_config()
    weights = random_weights(config)
    name = "model.layers.0.self_attn.q_proj.weight"
    weights[name] = QuantizedWeight(*mx.quantize(weights[name], group_size=32, bits=4), group_size=32, bits=4)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"q_proj\.weight is quantized"):
        mlx_lm_model(config, weights)
