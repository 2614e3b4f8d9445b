"""`pdm run predict`: what it prints and writes of a tiny model, what counts as good, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import tiny_llm_ref as ref
from tiny_llm_kit.bench import own_roofline, prediction, sharing
from tiny_llm_kit.bench.clocks import CpuClock
from tiny_llm_kit.bench.fits import load_fit
from tiny_llm_kit.bench.prediction import Case, Compared
from tiny_llm_kit.cli import predict
from tiny_llm_kit.machine import fast_blas
from tiny_llm_kit.machine.description import LoadMeter
from tiny_llm_kit.models.load import LoadedModel
from tiny_llm_kit.models.tiny_random import ByteTokenizer, random_weights, tiny_config
from tiny_llm_kit.workloads.items import WorkItem
from tiny_llm_kit.workloads.lists import plain_prompt

FIGURES = dict.fromkeys(prediction.GOALS, 10.0)


def short_list(vocab_size: int, seed: int = 0, count: int = 32) -> list[WorkItem]:
    random = np.random.default_rng(seed)
    return [WorkItem(tuple(plain_prompt(int(n), i)), int(m)) for i, (n, m) in enumerate(random.integers(1, 20, (count, 2)))]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The program on a tiny model and short lists."""
    tiny = LoadedModel("tiny", tiny_config(), random_weights(tiny_config()), ByteTokenizer())
    monkeypatch.setattr(predict, "load", lambda *_, **__: tiny)
    monkeypatch.setattr(prediction, "heavy_tail", short_list)
    monkeypatch.setattr(sharing, "ROWS", (1, 4))
    monkeypatch.setattr(own_roofline, "HEIGHT", 64)
    monkeypatch.setattr(fast_blas, "status", lambda: fast_blas.Status("a BLAS", threads=1))

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(predict.main, ["--requests", "8", "--out", str(tmp_path), *arguments])

    return invoke


def test_figures_of_a_tiny_model(run: Any, tmp_path: Path) -> None:
    result = run("--clock", "cpu")
    assert result.exit_code == 0, result.output
    for word in ("GFLOP/s", "GB/s", "another list (seed 7): predicted", "measured", "paged, arrivals", "fit.json"):
        assert word in result.output, f"{word!r} is not in: {result.output}"
    document = json.loads(next(tmp_path.glob("predict-*.json")).read_text())
    own = [case for case in document["cases"] if case["fitted_to"].startswith("paged")]
    assert len(document["cases"]) == 1 + prediction.OTHERS + len(own)
    assert [case["paged"] for case in own] == [True, True], "what is predicted from a paged run is other paged runs"
    assert document["paged_fit"]["seconds_per"] != document["fit"]["seconds_per"]
    for case in document["cases"]:
        for figures in (case["predicted"], case["measured"]):
            assert list(figures) == list(prediction.GOALS)
            assert all(value > 0 for value in figures.values())
    fit = load_fit(ref, tmp_path / "fit.json")
    assert fit.error == document["fit"]["error"]
    assert fit.seconds([ref.decode_call(4, 20)]) > 0


def test_without_a_quiet_run_there_is_no_fit(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LoadMeter, "noisy", lambda self, limit: True)
    result = run()
    assert result.exit_code == 1, result.output
    assert "no quiet run to fit to" in result.output
    assert not list(tmp_path.glob("fit.json"))


def test_a_case_without_a_quiet_run_is_left_out(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verdicts = iter([False, *[True] * predict.MAX_TRIES])  # the recorded run is quiet, the next case never
    monkeypatch.setattr(LoadMeter, "noisy", lambda self, limit: next(verdicts, False))
    result = run()
    assert result.exit_code == 1, result.output
    assert "no quiet run of: another list (seed 7)" in result.output
    document = json.loads(next(tmp_path.glob("predict-*.json")).read_text())
    assert "another list (seed 7)" not in {case["name"] for case in document["cases"]}
    assert (tmp_path / "fit.json").exists()


def test_without_a_quiet_paged_run_nothing_is_fitted_to_it(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = 5  # the recorded run, and those of the slot engine
    verdicts = iter([*[False] * before, *[True] * predict.MAX_TRIES])
    monkeypatch.setattr(LoadMeter, "noisy", lambda self, limit: next(verdicts, False))
    result = run()
    assert result.exit_code == 1, result.output
    assert "no quiet run of: paged, memory of 8 slots" in result.output
    document = json.loads(next(tmp_path.glob("predict-*.json")).read_text())
    assert document["paged_fit"] is None
    assert {case["fitted_to"] for case in document["cases"]} == {"heavy-tail, 8 slots"}


def test_what_is_still_to_do_is_said_at_once(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def stub(*_: Any, **__: Any) -> None:
        raise NotImplementedError("Week 2 Day 7, task 7: a simulator")

    monkeypatch.setattr(ref, "simulate_slots", stub)
    monkeypatch.setattr(own_roofline, "measured_limits", lambda: pytest.fail("it has begun to measure"))
    result = run()
    assert result.exit_code == 2, result.output
    assert "task 7" in result.output
    assert "--solution ref" in result.output


def test_a_request_that_fails_ends_the_program(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError("the device is gone")

    monkeypatch.setattr(predict, "decode_seconds", lambda *_: 0.01)
    monkeypatch.setattr(ref.ModelRunner, "prefill", fail)
    result = run("--clock", "cpu")
    assert result.exit_code == 1, result.output
    assert "request 1 of 8 failed" in result.output
    assert "the device is gone" in result.output


def test_processor_time_is_that_of_one_thread(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_blas, "status", lambda: fast_blas.Status("a BLAS", threads=2))
    result = run("--clock", "cpu")
    assert result.exit_code == 2, result.output
    assert "OPENBLAS_NUM_THREADS=1" in result.output


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--solution", "nobody"),
        ("--requests", "7"),
        ("--requests", "99999999999"),
        ("--clock", "sun"),
        ("--noise", "2"),
        ("--noise", "nan"),
        ("--kernels", "magic"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(option: str, value: str) -> None:
    result = CliRunner().invoke(predict.main, [option, value])
    assert result.exit_code == 2, result.output
    assert value in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("figure", "predicted", "good"),
    [
        ("tokens/s", 10.9, True),
        ("tokens/s", 11.1, False),
        ("tokens/s", 8.9, False),
        ("TTFT p95", 11.9, True),
        ("latency p50", 7.9, False),
    ],
)
def test_goals(figure: str, predicted: float, good: bool) -> None:
    compared = Compared(Case("some", []), Case("recorded", []), FIGURES | {figure: predicted}, FIGURES)
    assert compared.good is good
    assert compared.errors[figure] == pytest.approx(predicted / 10 - 1)
    _, _, errors = prediction.rows([compared])
    assert errors[-1] == ("met" if good else "MISSED")


def test_the_processor_s_clock_counts_work_and_sleep() -> None:
    clock = CpuClock()
    before = clock()
    clock.sleep(100)
    assert 100 <= clock() - before < 101


def test_requests_per_second() -> None:
    case = Case("some", [WorkItem((1,), 10), WorkItem((1,), 30)])
    assert prediction.served(case, {"tokens/s": 20.0}) == 1.0
