"""`pdm run batch-main`: what it refuses, and one real batch from prompts to JSON."""

import json
from pathlib import Path

import pytest
from click import Command
from click.testing import CliRunner, Result

from tiny_llm_kit.cli.batch_main import main


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
        (["--top-p", "0"], "0.0 is not in the range"),
        (["--max-tokens", "0"], "0 is not in the range"),
        (["--prompt", "word " * 9000], "8192"),
        (["--prompt", "hi", "--prompts", "x.json"], "choose one"),
        (["--solution", "nobody"], "nobody"),
        (["--strategy", "luck"], "luck"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_bad_input_is_one_message_and_exit_code_2(command: Command, arguments: list[str], message: str) -> None:
    result = run(command, *arguments)
    assert result.exit_code == 2, result.output
    assert message in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "not valid JSON"),
        ("{}", "write a list"),
        ("[]", "no prompt"),
        ('["hello", ""]', "prompt 2 is empty"),
        ('[{"max_tokens": 3}]', "prompt 1 has no text"),
        ('[{"text": "hi", "max_tokens": 0}]', "max_tokens is 0"),
    ],
)
def test_a_bad_prompts_file_is_named(command: Command, tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "prompts.json"
    path.write_text(content)
    result = run(command, "--prompts", str(path))
    assert result.exit_code == 2, result.output
    assert message in result.output
    assert "prompts.json" in result.output.replace("\n", "")


def test_an_unfinished_task_is_named(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    import tiny_llm_ref

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
