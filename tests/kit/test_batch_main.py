"""`pdm run batch-main`: what it refuses, and one real batch from prompts to JSON."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import pytest
from click import Command
from click.testing import CliRunner, Result

import tiny_llm_ref
from tiny_llm_kit.cli import batch_main
from tiny_llm_kit.cli.batch_main import main
from tiny_llm_kit.models.load import LoadedModel
from tiny_llm_kit.models.tiny_random import ByteTokenizer, random_weights, tiny_config
from tiny_llm_kit.timeline.files import read_trace
from tiny_llm_kit.workloads import memory


@pytest.fixture
def command() -> Command:
    return main


def run(command: Command, *arguments: str) -> Result:
    return CliRunner().invoke(command, arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "no/such-model", "--prompt", "hi"], "no/such-model"),
        (["--prompts", "no-such-file.json"], "no-such-file.json"),
        (["--prompt", ""], "prompt 1 is empty"),
        (["--prompt", "hi", "--prompt", "  "], "prompt 2 is empty"),
        (["--batch-size", "0"], "0 is not in the range"),
        (["--temperature", "-1"], "-1.0 is not in the range"),
        (["--temperature", "nan"], "nan is not a finite number"),
        (["--top-p", "0"], "0.0 is not in the range"),
        (["--max-tokens", "0"], "0 is not in the range"),
        (["--prompt", "word " * 9000], "8192"),
        (["--prompt", "hi", "--prompts", "x.json"], "choose one"),
        (["--solution", "nobody"], "nobody"),
        (["--strategy", "luck"], "luck"),
        (["--seed", "99999999999999999999"], "99999999999999999999 is not in the range"),
        (["--first", "0"], "0 is not in the range"),
        (["--prompt", "caf\udce9"], "its text holds '\\udce9'"),
        (["--solution", "\x1b[31m"], "'\\x1b[31m'"),
        (["--prompts", "n" * 300], "File name too long"),
        (["--json", "tests"], "Is a directory"),
        (["--trace", "pyproject.toml/trace.json"], "'pyproject.toml' is a file"),
        (["--json", "pyproject.toml/report.json"], "'pyproject.toml' is a file"),
        (["--json", "n" * 300], "File name too long"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_bad_input_is_one_message_and_exit_code_2(command: Command, arguments: list[str], message: str) -> None:
    result = run(command, *arguments)
    assert result.exit_code == 2, result.output
    assert message in result.output
    assert "Traceback" not in result.output


def test_a_bad_prompts_file_is_named(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "prompts.json"
    path.write_text('["hello", ""]')
    result = run(command, "--prompts", str(path))
    assert result.exit_code == 2, result.output
    assert "prompt 2 is empty" in result.output
    assert "prompts.json" in result.output.replace("\n", "")


def test_an_unfinished_task_is_named(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def stub(*_: object) -> None:
        raise NotImplementedError("Week 9 Day 9, task 9: a stub")

    monkeypatch.setattr(tiny_llm_ref.ContinuousBatchScheduler, "step", stub)
    result = run(command, "--prompt", "hi")
    assert result.exit_code == 2
    assert "Week 9 Day 9, task 9" in result.output


def test_without_a_compiler_the_course_s_kernels_end_the_program(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiny_llm_kit.cli.answers.backend", lambda: "cpu")
    monkeypatch.setenv("CXX", "/nonexistent")
    result = run(command, "--kernels", "course", "--prompt", "hi")
    assert result.exit_code == 2, result.output
    assert "no C++ compiler: $CXX is '/nonexistent'" in result.output


def test_a_real_batch(command: Command, tmp_path: Path) -> None:
    prompts, report = tmp_path / "prompts.txt", tmp_path / "report.json"
    prompts.write_text("What is the capital of France?\nWhy does it rain?\n")
    arguments = ["--batch-size", "2", "--max-tokens", "8", "--compare", "--json", str(report)]
    result = run(command, "--prompts", str(prompts), *arguments)
    assert result.exit_code == 0, result.output
    assert "Paris" in result.output
    written = json.loads(report.read_text())
    assert [answer["finish_reason"] for answer in written["requests"]] == ["stop", "length"]
    assert len(written["requests"][1]["tokens"]) == 8
    assert {run["same_answers"] for run in written["comparison"].values()} == {2}, "the schedule must not change an answer"
    assert "2 prompts are too few for a comparison" in result.output


TINY = LoadedModel("tiny", tiny_config(), random_weights(tiny_config()), ByteTokenizer())


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program on a model of a hundred thousand parameters, which babbles."""
    monkeypatch.setattr(batch_main, "load", lambda *_, **__: TINY)


def prompts(count: int) -> list[str]:
    return [argument for number in range(count) for argument in ("--prompt", f"Say {number}!")]


@pytest.mark.usefixtures("tiny")
def test_it_says_at_once_how_long_it_will_take_and_compares_in_calls_too(command: Command, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    options = ["--batch-size", "2", "--max-tokens", "6", "--compare", "--json", str(report)]
    result = run(command, *prompts(5), *options)
    assert result.exit_code == 0, result.output
    announced = next(i for i, line in enumerate(result.output.splitlines()) if "this will take about" in line)
    served = next(i for i, line in enumerate(result.output.splitlines()) if "+ Say 0!" in line)
    assert announced < served
    assert "too few" not in result.output
    ours, alone, groups = json.loads(report.read_text())["comparison"].values()
    assert ours["same_answers"] == alone["same_answers"] == groups["same_answers"] == 5
    tokens = [len(request["tokens"]) for request in json.loads(report.read_text())["requests"]]
    assert alone["model_calls"] >= sum(tokens), "alone, each token is a call"
    assert 0 < ours["model_calls"] < alone["model_calls"]
    assert 0 < ours["steps"] < alone["steps"]
    head = [line for line in result.output.splitlines() if line.startswith("┃")]
    assert "steps" in " ".join(head)
    assert "calls" in " ".join(head)
    assert "The answers are the same under all 3 schedules: 5 of 5." in result.output
    assert "while requests waited" in result.output


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("engine", ["slots", "paged"])
def test_a_timeline_is_written(command: Command, tmp_path: Path, engine: str) -> None:
    trace, report = tmp_path / "trace.json", tmp_path / "report.json"
    options = ["--engine", engine, "--batch-size", "2", "--max-tokens", "6", "--trace", str(trace), "--json", str(report)]
    result = run(command, *prompts(5), *options)
    assert result.exit_code == 0, result.output
    (timeline,) = read_trace(trace)
    answers = json.loads(report.read_text())["requests"]
    assert [life.name for life in timeline.lives] == [f"Say {number}!" for number in range(5)]
    assert [life.generated for life in timeline.lives] == [len(answer["tokens"]) for answer in answers]
    assert timeline.slots == (2 if engine == "slots" else None)
    assert "Say 4!" in trace.with_suffix(".html").read_text(encoding="utf-8")


@pytest.mark.usefixtures("tiny")
def test_only_the_first_prompts(command: Command, tmp_path: Path) -> None:
    result = run(command, "--first", "3", "--max-tokens", "1", "--json", str(tmp_path / "report.json"))
    assert result.exit_code == 0, result.output
    assert "tiny: 3 prompts, slots: 3 (of 8: there are no requests for the others)" in result.output
    assert len(json.loads((tmp_path / "report.json").read_text())["requests"]) == 3


@pytest.mark.usefixtures("tiny")
def test_when_all_start_at_once_nobody_waited(command: Command, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    result = run(command, *prompts(3), "--max-tokens", "2", "--compare", "--json", str(report))
    assert result.exit_code == 0, result.output
    assert "and no request waited" in result.output
    assert "while requests waited" not in result.output
    assert json.loads(report.read_text())["slot_utilization_while_waiting"] is None
    few = "3 prompts are too few for a comparison"
    assert result.output.count(few) == 1
    assert result.output.index(few) < result.output.index("+ Say 0!"), "before the minutes are spent, not after"
    assert "That is hardly a difference" in result.output, "and beside the figures what they do not show"


@pytest.mark.usefixtures("tiny")
def test_a_million_slots_for_three_prompts_are_three(command: Command) -> None:
    result = run(command, *prompts(3), "--batch-size", "1000000", "--max-tokens", "2")
    assert result.exit_code == 0, result.output
    assert "slots: 3 (of 1000000" in result.output


@pytest.mark.usefixtures("tiny")
def test_slots_that_do_not_fit_into_memory_are_refused_at_once(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: SimpleNamespace(available=10**5))
    result = run(command, *prompts(40), "--batch-size", "1000000", "--max-tokens", "20")
    assert result.exit_code == 2, result.output
    assert "40 slots of" in result.output
    assert "would fit" in result.output
    assert "Timing" not in result.output


def test_a_slot_takes_keys_and_values_of_every_layer() -> None:
    sizes = TINY.config.num_layers * TINY.config.num_kv_heads * TINY.config.head_dim
    assert memory.slot_bytes(TINY, 10) == 2 * sizes * 10 * 4


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("count", [1, 3])
def test_requests_that_fail_are_failure(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """A model that fails on the first requests; the others are answered."""
    right = tiny_llm_ref.Model.__call__

    def failing(self: Any, tokens: mx.array, *arguments: Any, **options: Any) -> mx.array:
        if tokens.shape[1] > 1 and any(ord(str(number)) in tokens[0].tolist() for number in range(count)):
            raise OverflowError("too much \x1b[31mred")
        return right(self, tokens, *arguments, **options)

    monkeypatch.setattr(tiny_llm_ref.Model, "__call__", failing)
    report = tmp_path / "report.json"
    result = run(command, *prompts(3), "--max-tokens", "3", "--compare", "--json", str(report))
    assert result.exit_code == 1, result.output
    last = result.output.splitlines()[-1]
    assert last.startswith(
        f"Error: {count} of 3 requests failed. The first is request 1 (Say 0!): OverflowError: too much ␛[31mred"
    )
    assert "test_batch_main.py:" in last, "the line that raised it"
    reasons = [request["finish_reason"] for request in json.loads(report.read_text())["requests"]]
    assert reasons.count("error") == count, "what was answered is kept"


@pytest.mark.usefixtures("tiny")
def test_answers_without_a_token_can_be_compared(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """As those are whose first token is the end."""
    right = tiny_llm_ref.Model.__call__

    def say_nothing(*arguments: Any, **options: Any) -> mx.array:
        logits = right(*arguments, **options)
        return mx.where(mx.arange(logits.shape[-1]) == next(iter(ByteTokenizer.eos_token_ids)), 9.0, 0.0 * logits)

    monkeypatch.setattr(tiny_llm_ref.Model, "__call__", say_nothing)
    result = run(command, *prompts(3), "--batch-size", "2", "--compare")
    assert result.exit_code == 0, result.output
    assert "No answer has a token" in result.output


@pytest.mark.usefixtures("tiny")
def test_escape_sequences_do_not_reach_the_terminal(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ByteTokenizer, "decode", lambda self, tokens: "\x1b[2Jgone" * len(tokens))
    result = run(command, "--prompt", "clear \x1b[2J [bold]this[/bold] :smile:", "--max-tokens", "2")
    assert result.exit_code == 0, result.output
    assert "\x1b[2J" not in result.output
    assert "clear ␛[2J [bold]this[/bold] :smile:" in result.output
    assert "␛[2Jgone" in result.output


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("interrupted", ["measure_step_times", "serve"])
def test_ctrl_c_is_one_line(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interrupted: str) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(batch_main, interrupted, stop)
    report = tmp_path / "report.json"
    result = run(command, *prompts(2), "--max-tokens", "2", "--compare", "--json", str(report))
    assert result.exit_code == 130
    assert result.output.splitlines()[-1] == "Interrupted."
    assert report.exists() is (interrupted == "serve"), "answers that are there are written, though the comparison is not"


@pytest.mark.usefixtures("tiny")
def test_the_paged_engine_serves_too_and_tells_of_its_blocks(command: Command, tmp_path: Path) -> None:
    report, other = tmp_path / "report.json", tmp_path / "slots.json"
    options = ["--batch-size", "2", "--max-tokens", "30"]
    paged = ["--engine", "paged", "--block-size", "4", "--max-num-seqs", "2"]
    result = run(command, *prompts(6), *options, *paged, "--compare", "--json", str(report))
    assert result.exit_code == 0, result.output
    assert "blocks of 4 tokens, 192 prompt tokens per step" in result.output
    admitted = next(line for line in result.output.splitlines() if "+ Say 5!" in line)
    for part in ("used", "shared", "kept for reuse", "free", "evicted", "preempted", "prefix hits"):
        assert part in admitted, f"{part!r} is missing: {admitted}"
    assert "The paged engine is" in result.output
    assert "The answers are the same under all 4 schedules: 6 of 6." in result.output
    document = json.loads(report.read_text())
    assert list(document["comparison"]) == ["paged", "continuous", "one at a time", "static batches"]
    assert document["engine"] == "paged"
    prompt_tokens = document["prefix_cache_queries"]
    assert 0 < document["prefix_cache_hits"] < prompt_tokens, "the chat template is in front of each prompt"
    assert 0 < document["most_blocks_used"] <= document["num_blocks"]
    assert document["computed_tokens"] >= prompt_tokens - document["prefix_cache_hits"]
    assert run(command, *prompts(6), *options, "--engine", "slots", "--json", str(other)).exit_code == 0
    tokens = [[request["tokens"] for request in json.loads(file.read_text())["requests"]] for file in (report, other)]
    assert tokens[0] == tokens[1], "an engine must not change an answer"


def test_keys_and_values_may_be_packed(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, report = tiny_config("qwen3"), tmp_path / "report.json"
    wide = LoadedModel("wide", config, random_weights(config), ByteTokenizer())
    monkeypatch.setattr(batch_main, "load", lambda *_, **__: wide)
    options = ["--batch-size", "2", "--max-tokens", "6", "--engine", "paged", "--kv-bits", "4", "--compare"]
    result = run(command, *prompts(5), *options, "--json", str(report))
    assert result.exit_code == 0, result.output
    assert "keys and values in 4 bits" in " ".join(result.output.split())
    assert json.loads(report.read_text())["kv_bits"] == 4
    assert memory.slot_bytes(wide, 10, 4) == memory.slot_bytes(wide, 10) * (4 + 2) // 32


@pytest.mark.usefixtures("tiny")
def test_with_hardly_any_blocks_requests_are_preempted_and_blocks_evicted(command: Command, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    options = ["--max-tokens", "40", "--engine", "paged", "--block-size", "4", "--json", str(report)]
    refused = run(command, *prompts(6), *options, "--num-blocks", "2")
    assert refused.exit_code == 2, refused.output
    least = int(refused.output.split("give at least ")[1].split()[0])
    result = run(command, *prompts(6), *options, "--num-blocks", str(least + 6))
    assert result.exit_code == 0, result.output
    document = json.loads(report.read_text())
    assert document["num_preemptions"] > 0
    assert document["num_evictions"] > 0
    assert "preempted, waits again" in result.output


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--engine", "pages"], "pages"),
        (["--block-size", "8"], "--block-size means nothing to --engine slots: leave it out"),
        (["--kv-bits", "8"], "--kv-bits means nothing to --engine slots: leave it out"),
        (["--engine", "paged", "--kv-bits", "5"], "'5' is not one of '8', '4'"),
        (["--engine", "paged", "--kv-bits", "8"], "heads of 16 numbers can't be cut into groups of 32"),
        (["--engine", "paged", "--strategy", "fifo"], "--strategy means nothing to --engine paged: leave it out"),
        (["--engine", "paged", "--prefill-step", "8"], "--prefill-step means nothing to --engine paged"),
        (["--engine", "paged", "--num-blocks", "1"], "num_blocks is 1, and the longest request needs"),
        (["--engine", "paged", "--num-blocks", "0"], "0 is not in the range"),
        (["--engine", "paged", "--num-blocks", "1000000000000"], "would fit"),
        (["--engine", "paged", "--max-num-batched-tokens", "8"], "less than max_num_seqs, 64: give at least 64"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_sizes_that_do_not_go_with_the_engine_are_refused(command: Command, arguments: list[str], message: str) -> None:
    result = run(command, *prompts(2), *arguments)
    assert result.exit_code == 2, result.output
    assert message in " ".join(result.output.split())
    assert "Timing" not in result.output
