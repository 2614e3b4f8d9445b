"""`pdm run bench-speculation` on a tiny model: its table, its targets, what it refuses; and `--speculate` on other programs."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner
from click.testing import Result as ClickResult

import tiny_llm_ref
from tiny_llm_kit.bench import speculation_report
from tiny_llm_kit.bench.run import Case, Result, Run
from tiny_llm_kit.bench.run import Served as ServedOnce
from tiny_llm_kit.bench.speculation_report import Served
from tiny_llm_kit.bench.stress import Broken, Stress
from tiny_llm_kit.cli import batch_main, bench, bench_paged, bench_speculation, stress
from tiny_llm_kit.models.load import LoadedModel
from tiny_llm_kit.models.tiny_random import ByteTokenizer, random_weights, tiny_config

LONG = tiny_config(max_position_embeddings=2048)
TINY = LoadedModel("tiny", LONG, random_weights(LONG), ByteTokenizer())


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Callable[..., ClickResult]:
    """The program on a tiny model, on a machine that is quiet."""
    monkeypatch.setattr(bench_speculation, "load", lambda *_, **__: TINY)
    return lambda *arguments: CliRunner().invoke(bench_speculation.main, [*arguments, "--noise", "1"])


def test_one_command_prints_and_writes_the_whole_table(program: Callable[..., ClickResult], tmp_path: Path) -> None:
    result = program("--requests", "2", "--rows", "1,2", "--repeats", "1", "--out", str(tmp_path))
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    announced = next(i for i, line in enumerate(lines) if "this will take" in line)
    assert announced < next(i for i, line in enumerate(lines) if "tokens/s  (" in line), "said before the first run"
    document = json.loads(next(tmp_path.glob("*.json")).read_text())
    cases = [(row["workload"], row["rows"], row["drafts"]) for row in document["results"]]
    assert cases == [(w, r, d) for w in ("chat", "copying") for r in (1, 2) for d in ("plain", "always 4", "adaptive")]
    for row in document["results"]:
        (run,) = row["runs"]
        same = {other["runs"][0]["tokens"] for other in document["results"] if other["workload"] == row["workload"]}
        assert same == {run["tokens"]}, "an answer is as long with drafts as without"
        assert row["ratio_to_plain"] > 0
        assert run["tokens_per_step"] == pytest.approx(run["tokens"] / run["steps"])
        if row["drafts"] == "plain":
            assert (run["drafted"], run["accepted"], row["ratio_to_plain"]) == (None, None, 1)
        else:
            assert 0 <= run["accepted"] <= run["drafted"]
    goals = {goal["name"]: goal for goal in document["targets"]}
    assert goals["answers equal with and without drafts"]["met"]
    assert goals["copying, rows: 1, adaptive / plain"]["met"] is not None
    assert goals["chat, rows: 8, adaptive / plain"]["met"] is None, "what did not run is no measurement"
    markdown = next(tmp_path.glob("*.md")).read_text()
    assert all(part in markdown for part in ("always 4", "tokens per step", "copying", "wanted"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rows", "0"], "at least 1"),
        (["--rows", "65"], "at most 64"),
        (["--requests", "0"], "0 is not in the range"),
        (["--requests", "1000"], "ask for 1 to"),
        (["--workload", "heavy-tail"], "heavy-tail"),
        (["--solution", "nobody"], "nobody"),
        (["--out", "pyproject.toml"], "is a file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_message_and_exit_code_2(
    program: Callable[..., ClickResult], arguments: list[str], message: str, tmp_path: Path
) -> None:
    result = program("--out", str(tmp_path / "out"), *arguments)
    assert result.exit_code == 2, result.output
    assert message in " ".join(result.output.split())
    assert "Traceback" not in result.output


def served_at(speed: float, noisy: bool = False, tokens: tuple[int, ...] = (1, 2), drafted: int | None = None) -> Run:
    served = ServedOnce([list(tokens)], [1.0], [0.5], steps=2, utilization=0.5, drafted=drafted, accepted=drafted and 1)
    return Run(served, len(tokens) / speed, peak_memory=2**20, others=0.0, noisy=noisy)


def a_list(workload: str, rows: int, **runs: Run) -> Served:
    results = [Result(Case(name, rows, partial(getattr, run, "served")), [run]) for name, run in runs.items()]
    return Served(workload, results)


def test_targets_never_guess() -> None:
    served = [
        a_list("copying", 1, plain=served_at(10), adaptive=served_at(30, drafted=4)),
        a_list("chat", 8, plain=served_at(10), adaptive=served_at(9, drafted=4, tokens=(1, 3))),
    ]
    goals = {goal.name: goal for goal in speculation_report.targets(served)}
    assert goals["copying, rows: 1, adaptive / plain"].value == pytest.approx(3)
    assert goals["copying, rows: 1, adaptive / plain"].met
    assert goals["chat, rows: 8, adaptive / plain"].met is False
    assert goals["chat, rows: 1, adaptive / plain"].met is None
    assert goals["answers equal with and without drafts"].met is False
    noisy = [a_list("chat", 1, plain=served_at(10, noisy=True), adaptive=served_at(30))]
    assert {goal.met for goal in speculation_report.targets(noisy)} == {None, True}, "only the answers are known"


# Other programs.


def test_batch_main_speculates(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(batch_main, "load", lambda *_, **__: TINY)
    documents = []
    for number, options in enumerate([[], ["--speculate", "ngram"]]):
        file = tmp_path / f"{number}.json"
        arguments = ["--first", "4", "--batch-size", "2", "--engine", "paged", "--json", str(file), *options]
        result = CliRunner().invoke(batch_main.main, arguments)
        assert result.exit_code == 0, result.output
        documents.append(json.loads(file.read_text()))
    plain, speculating = documents
    assert [one["tokens"] for one in plain["requests"]] == [one["tokens"] for one in speculating["requests"]]
    assert "spec_decode_num_draft_tokens" not in json.dumps(plain)
    assert "spec_decode_num_draft_tokens" in json.dumps(speculating)
    assert "drafts accepted" in " ".join(result.output.split())
    assert "tokens per step" in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("main", "arguments"),
    [
        (batch_main.main, ["--engine", "slots"]),
        (bench.main, ["--engine", "static"]),
        (bench_paged.main, ["--engine", "slots"]),
        (stress.main, ["--engine", "slots"]),
    ],
    ids=["batch-main", "bench", "bench-paged", "stress"],
)
def test_other_engines_do_not_speculate(main: object, arguments: list[str]) -> None:
    result = CliRunner().invoke(main, [*arguments, "--speculate", "ngram"])  # type: ignore[arg-type]
    assert result.exit_code == 2, result.output
    assert "--speculate means nothing to" in result.output


def test_stress_holds_on_the_speculating_reference() -> None:
    run = Stress(tiny_llm_ref, "paged", speculate="ngram")
    for number in range(50):
        run.run(number)
    counts = run.counts
    assert min(counts.cancelled, counts.errors, counts.interruptions, counts.preemptions) > 10, f"too few accidents: {counts}"
    assert counts.drafted > counts.accepted > 50, f"too few drafts to mean anything: {counts}"


def test_stress_misses_a_block_of_a_wrong_draft(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny_llm_ref.SpeculativeEngine, "_give_back_surplus", lambda engine, request: None)
    run = Stress(tiny_llm_ref, "paged", speculate="ngram")

    def some() -> None:
        for number in range(30):
            run.run(number)

    with pytest.raises(Broken, match="check_integrity"):
        some()
