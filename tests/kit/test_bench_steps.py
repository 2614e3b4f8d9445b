"""`pdm run bench-steps`: what it prints and writes of a tiny model, and what it refuses."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tiny_llm_kit.bench import sharing
from tiny_llm_kit.cli import bench_steps
from tiny_llm_kit.models.load import LoadedModel
from tiny_llm_kit.models.tiny_random import ByteTokenizer, random_weights, tiny_config


@pytest.mark.parametrize("engine", ["slots", "paged"])
def test_tables_of_a_tiny_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
    tiny = LoadedModel("tiny", tiny_config(), random_weights(tiny_config()), ByteTokenizer())
    monkeypatch.setattr(bench_steps, "load", lambda *_, **__: tiny)
    monkeypatch.setattr(sharing, "PROMPT_TOKENS", (4, 16))
    result = CliRunner().invoke(bench_steps.main, ["--engine", engine, "--rows", "3", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "other programs had" in result.output, "a time says nothing where others had the machine"
    (written,) = tmp_path.glob("*.json")
    document = json.loads(written.read_text())
    assert list(document["decode"]) == ["1", "3"]
    assert all(seconds > 0 for seconds in document["decode"].values())
    assert list(document["prompts"]) == ["4", "16"]
    assert all(two_calls > 0 and one_call > 0 for two_calls, one_call in document["prompts"].values())


def test_cells() -> None:
    assert sharing.decode_rows({1: 0.02, 4: 0.03})[1] == ["4", "30 ms", "8 ms", "133.3", "1.5"]
    assert sharing.prompt_rows({16: (0.2, 0.15), 64: (0.2, 0.22)}) == [
        ["16", "200 ms", "150 ms", "25%"],
        ["64", "200 ms", "220 ms", "-10%"],
    ]


@pytest.mark.parametrize(
    ("option", "value"), [("--model", "no/such-model"), ("--solution", "nobody"), ("--engine", "pages"), ("--rows", "0")]
)
def test_bad_input_is_one_message_and_exit_code_2(option: str, value: str) -> None:
    result = CliRunner().invoke(bench_steps.main, [option, value])
    assert result.exit_code == 2, result.output
    assert value in result.output
    assert "Traceback" not in result.output
