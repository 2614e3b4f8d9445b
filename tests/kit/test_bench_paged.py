"""`pdm run bench-paged`: its table on a tiny model, its targets, and what it refuses."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from click.testing import CliRunner
from click.testing import Result as ClickResult

import tiny_llm_ref
from tiny_llm_kit.bench import gaps, paged_costs, paged_report, plan_time
from tiny_llm_kit.bench.decisions import Decision
from tiny_llm_kit.bench.gaps import Gaps
from tiny_llm_kit.bench.paged_costs import Costs
from tiny_llm_kit.bench.paged_profile import step_parts
from tiny_llm_kit.bench.paged_report import Served
from tiny_llm_kit.bench.peak_memory import peak_over_pool_and_weights
from tiny_llm_kit.bench.run import Case, Result, Run
from tiny_llm_kit.bench.run import Served as ServedOnce
from tiny_llm_kit.cli import bench_paged
from tiny_llm_kit.models.load import LoadedModel
from tiny_llm_kit.models.tiny_random import ByteTokenizer, random_weights, tiny_config
from tiny_llm_kit.timeline.files import read_trace

TINY = LoadedModel("tiny", tiny_config(), random_weights(tiny_config()), ByteTokenizer())


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Callable[..., ClickResult]:
    """The program on a tiny model and short lists, on a machine that is quiet."""
    monkeypatch.setattr(bench_paged, "load", lambda *_, **__: TINY)
    monkeypatch.setattr(gaps, "BUDGETS", (32, 128))
    monkeypatch.setattr(gaps, "PROMPT", 100)
    monkeypatch.setattr(paged_costs, "PARTS", 5)
    monkeypatch.setattr(plan_time, "MANY", (12, 40))
    monkeypatch.setattr(plan_time, "FEW", (2, 40))
    monkeypatch.setattr(paged_costs.build_time, "REPEATS", 3)
    return lambda *arguments: CliRunner().invoke(bench_paged.main, [*arguments, "--noise", "1"])


def test_one_command_prints_and_writes_the_whole_table(bench: Callable[..., ClickResult], tmp_path: Path) -> None:
    result = bench("--requests", "3", "--seed", "4", "--batch-sizes", "2", "--out", str(tmp_path))
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    announced = next(i for i, line in enumerate(lines) if "this will take about" in line)
    assert announced < next(i for i, line in enumerate(lines) if "tokens/s  (" in line), "said before the first run"
    assert "it shares no prefixes" in " ".join(result.output.split())
    document = json.loads(next(tmp_path.glob("*.json")).read_text())
    names = ["heavy-tail", "prefill-heavy", "shared-prefix"]
    engines = ["slots", "paged", "mlx-lm"]
    assert [(row["workload"], row["engine"]) for row in document["results"]] == [(n, e) for n in names for e in engines]
    for name in names:
        tokens = {row["runs"][0]["tokens"] for row in document["results"] if row["workload"] == name}
        assert len(tokens) == 1, "all engines generate as many tokens"
    goals = {goal["name"]: goal for goal in document["targets"]}
    assert goals["answers equal with paged and slots"]["met"]
    assert all(goal["value"] is not None for goal in goals.values()), "each target was measured"
    assert list(document["gaps_seconds"]) == ["32", "128"]
    markdown = next(tmp_path.glob("*.md")).read_text()
    assert all(part in markdown for part in ("gathering blocks", "shared-prefix", "gap p99", "running", "describing"))
    assert next(tmp_path.glob("*.png")).read_bytes().startswith(b"\x89PNG")


def test_parts_can_be_chosen(bench: Callable[..., ClickResult], tmp_path: Path) -> None:
    trace = tmp_path / "timeline" / "trace.json"
    options = ["--requests", "2", "--seed", "4", "--batch-sizes", "1,2", "--engine", "paged", "--workload", "shared-prefix"]
    options += ["--repeats", "2", "--num-blocks", "70", "--block-size", "8"]
    result = bench(*options, "--trace", str(trace), "--out", str(tmp_path))
    assert result.exit_code == 0, result.output
    assert [max(sample.blocks or 0 for sample in run.samples) <= 70 for run in read_trace(trace)] == [True, True]
    document = json.loads(next(tmp_path.glob("*.json")).read_text())
    assert [(row["engine"], row["slots"], len(row["runs"])) for row in document["results"]] == [
        ("paged", 1, 2),
        ("paged", 2, 2),
    ]
    goals = {goal["name"]: goal["met"] for goal in document["targets"]}
    assert goals["shared-prefix: paged / mlx-lm"] is None, "what did not run is no measurement"


def test_drafts_have_a_table_of_their_own(bench: Callable[..., ClickResult], tmp_path: Path) -> None:
    options = ["--requests", "2", "--seed", "4", "--batch-sizes", "2", "--engine", "paged", "--workload", "heavy-tail"]
    result = bench(*options, "--speculate", "ngram", "--out", str(tmp_path))
    assert result.exit_code == 0, result.output
    document = json.loads(next(tmp_path.glob("*.json")).read_text())
    assert document["sizes"]["speculate"] == "ngram"
    run = document["results"][0]["runs"][0]
    assert 0 <= run["accepted"] <= run["drafted"]
    assert run["tokens_per_step"] == pytest.approx(run["tokens"] / run["steps"])
    assert "| workload, seed | engine | slots | tokens per step |" in next(tmp_path.glob("*.md")).read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--num-blocks", "3"], "num_blocks is 3, and the longest request needs"),
        (["--max-num-seqs", "300"], "max_num_batched_tokens is 192, less than max_num_seqs, 300"),
        (["--batch-sizes", "1000000000"], "would fit"),
        (["--num-blocks", "1000000000"], "would fit"),
        (["--block-size", "0"], "0 is not in the range"),
        (["--engine", "slots", "--kv-bits", "8"], "--kv-bits means nothing to --engine slots"),
        (["--kv-bits", "3"], "'3' is not one of '8', '4'"),
        (["--workload", "chat"], "chat"),
        (["--requests", "0"], "0 is not in the range"),
        (["--solution", "nobody"], "nobody"),
        (["--out", "pyproject.toml"], "is a file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_message_and_exit_code_2(
    bench: Callable[..., ClickResult], arguments: list[str], message: str, tmp_path: Path
) -> None:
    result = bench("--requests", "2", "--seed", "1", "--out", str(tmp_path / "out"), *arguments)
    assert result.exit_code == 2, result.output
    assert message in " ".join(result.output.split())
    assert "Traceback" not in result.output
    assert "tokens/s  (" not in result.output, "it was known before the first run"


def served_at(speed: float, in_flight: float = 8.0, noisy: bool = False, tokens: tuple[int, ...] = (1, 2)) -> Run:
    served = ServedOnce([list(tokens)], [1.0], [0.5], steps=3, utilization=0.5, in_flight=in_flight)
    return Run(served, len(tokens) / speed, peak_memory=2**20, others=0.0, noisy=noisy)


def a_list(workload: str, seed: int, **runs: Run) -> Served:
    results = [Result(Case(name.replace("_", "-"), 8, partial(getattr, run, "served")), [run]) for name, run in runs.items()]
    return Served(workload, seed, results)


def test_targets_compare_over_all_seeds_and_never_guess() -> None:
    lists = [
        a_list("heavy-tail", 1, slots=served_at(10), paged=served_at(20, 24), mlx_lm=served_at(10, noisy=True)),
        a_list("heavy-tail", 2, slots=served_at(10), paged=served_at(80, 24), mlx_lm=served_at(10)),
        a_list("shared-prefix", 1, slots=served_at(10), paged=served_at(20), mlx_lm=served_at(10)),
    ]
    goals = {goal.name: goal for goal in paged_report.targets(lists, 8)}
    assert goals["heavy-tail: paged / slots"].value == pytest.approx(4), "√(2 · 8)"
    assert goals["heavy-tail: requests in flight, paged / slots"].value == pytest.approx(3)
    assert goals["heavy-tail: paged / mlx-lm"].met is None, "a noisy run is no measurement"
    assert goals["shared-prefix: paged / mlx-lm"].met is False
    assert goals["prefill-heavy: paged / mlx-lm"].met is None, "what did not run is no measurement"
    assert goals["answers equal with paged and slots"].met
    lists.append(a_list("prefill-heavy", 1, slots=served_at(10), paged=served_at(10, tokens=(1, 3))))
    assert not {goal.name: goal for goal in paged_report.targets(lists, 8)}["answers equal with paged and slots"].met


def test_gaps_are_measured_and_the_smallest_budget_counts() -> None:
    model = tiny_llm_ref.Model(TINY.config, TINY.weights)
    found = gaps.measure_gaps(tiny_llm_ref, model, budget=32, prompt=100)
    assert len(found.during) >= 4, "100 tokens at 32 a step take four steps"
    assert all(gap > 0 for gap in (*found.before, *found.during))
    (goal,) = gaps.targets({16: Gaps([1.0], [9.0]), 32: Gaps([1.0, 1.0], [1.5, 1.5])})
    assert goal.value == pytest.approx(1.5)
    assert goal.met
    assert gaps.targets({})[0].met is None


def a_plan(running: int, waiting: int, microseconds: float) -> Decision:
    return Decision("paged", "fair", 10, running, waiting, full=1, plan=microseconds, queue=1, steps=30)


def test_plans_are_held_against_a_limit_and_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    plans = {plan_time.MANY: a_plan(256, 10_000, 150), plan_time.FEW: a_plan(8, 10_000, 20)}
    goals = plan_time.targets(plans, step_seconds=0.01)
    assert [goal.value for goal in goals] == [150, pytest.approx(0.002)]
    assert all(goal.met for goal in goals)


def test_gaps_on_a_noisy_machine_are_no_measurement() -> None:
    plans = {case: a_plan(*case, 100) for case in (plan_time.MANY, plan_time.FEW)}
    costs = Costs({32: Gaps([1.0], [1.5])}, plans, peak=1.05, step_seconds=0.1, profile=[], building={})
    assert [goal.met for goal in costs.targets()] == [True] * 4
    assert [goal.met for goal in costs.targets(quiet=False)] == [None, True, True, True], "the others are not the wall clock's"


def test_what_a_step_takes_is_the_sum_of_its_parts() -> None:
    model = tiny_llm_ref.Model(TINY.config, TINY.weights)
    for piece in ((0, 0), (16, 16), (16, 100)):
        *parts, whole = step_parts(tiny_llm_ref, model, 2, 20, *piece).values()
        assert whole > 0
        assert sum(parts) == pytest.approx(whole)
        assert min(parts[:-1]) > 0, "products, writes, gathering and attention are all measured"


def test_the_pool_is_not_copied() -> None:
    model = tiny_llm_ref.Model(TINY.config, TINY.weights)
    assert peak_over_pool_and_weights(tiny_llm_ref, model, num_blocks=20_000) < 1.1


def test_a_copy_of_the_pool_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    write = tiny_llm_ref.PagedKvCache.write

    def keep_and_write(self: Any, k: mx.array, v: mx.array) -> None:
        self.kept = [pool[:] for pool in self.pools]
        write(self, k, v)
        mx.eval(self.pools)

    monkeypatch.setattr(tiny_llm_ref.PagedKvCache, "write", keep_and_write)
    model = tiny_llm_ref.Model(TINY.config, TINY.weights)
    assert peak_over_pool_and_weights(tiny_llm_ref, model, num_blocks=4000) > 1.4
