"""`pdm run quantize-report`: what it refuses, and what it says of a tiny model."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from click import Command
from click.testing import CliRunner, Result

import tiny_llm_ref
from kit.tiny_models import save_folder, save_quantized
from tiny_llm_kit.bench.packed_kv import PackedModel
from tiny_llm_kit.bench.quantization import FORMATS, LIGHTHOUSE, Format, relative_error
from tiny_llm_kit.cli.quantize_report import main
from tiny_llm_kit.models.tiny_random import random_weights, tiny_config

TEXT = "The lamp turned all night, and the keeper slept."


@pytest.fixture
def command() -> Command:
    return main


def run(command: Command, *arguments: str) -> Result:
    return CliRunner().invoke(command, arguments)


def measure(command: Command, model: Path, tmp_path: Path) -> tuple[dict[str, Any], Result]:
    """By format, what was written to the JSON file."""
    text = tmp_path / "text.txt"
    text.write_text(TEXT, encoding="utf-8")
    result = run(command, "--model", str(model), "--text", str(text), "--out", str(tmp_path / "out"))
    assert result.exit_code == 0, result.output
    (written,) = (tmp_path / "out").glob("*.json")
    return {row["format"]: row for row in json.loads(written.read_text())["formats"]}, result


def test_a_model_in_half_precision(command: Command, tmp_path: Path) -> None:
    config = tiny_config("qwen3")
    weights = {name: w.astype(mx.float16) for name, w in random_weights(config).items()}  # type: ignore[union-attr]
    rows, result = measure(command, save_folder(tmp_path, config, weights), tmp_path)
    assert list(rows) == [form.name for form in FORMATS]
    count = sum(w.size for w in weights.values())
    assert rows["float32"]["size"] == 4 * count
    assert rows["as shipped"]["size"] == 2 * count
    unread = (config.vocab_size - 1) * config.hidden_size
    assert rows["float32"]["bytes_per_token"] == 4 * (count - unread), "this model's table is beside its head"
    errors = [rows[name]["error"] for name in ("float32", "as shipped", "8 bits, groups of 64", "4 bits, groups of 64")]
    assert errors[0] == errors[1] == 0 < errors[2] < errors[3] < 0.2
    assert rows["as shipped"]["perplexity"] == rows["float32"]["perplexity"] > 1
    odd = rows["4 bits, groups of 128"]["odd_matrices"]
    assert 0 < odd < rows["4 bits, groups of 128"]["matrices"], "rows of 64 can't be cut into groups of 128"
    assert f"{odd} of" in result.output


def test_a_model_that_is_packed_is_held_against_what_its_file_holds(command: Command, tmp_path: Path) -> None:
    rows, _ = measure(command, save_quantized(tmp_path, tiny_config()), tmp_path)
    assert rows["as shipped"]["error"] == 0
    assert rows["as shipped"]["size"] < rows["float16"]["size"] == rows["float32"]["size"] / 2
    assert 0 < rows["float16"]["error"] < 1e-3


def test_the_table_is_written_as_markdown(command: Command, tmp_path: Path) -> None:
    rows, _ = measure(command, save_folder(tmp_path, tiny_config()), tmp_path)
    (written,) = (tmp_path / "out").glob("*.md")
    lines = written.read_text().splitlines()
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines[2 : 2 + len(rows)]] == list(rows)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "No such file"), ("", "is empty"), (" \n", "is empty"), (b"\xff\xfe\x00", "not UTF-8"), ("a", "too few")],
    ids=["missing", "empty", "blank", "binary", "one token"],
)
def test_a_text_that_cannot_be_used_is_named(command: Command, tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "my-text.txt"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    model = save_folder(tmp_path, tiny_config())
    result = run(command, "--model", str(model), "--text", str(path), "--out", str(tmp_path / "out"))
    assert result.exit_code == 2, result.output
    assert message in result.output.replace("\n", " ")
    assert not (tmp_path / "out").exists(), "nothing half-done"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "no/such-model"], "no/such-model"),
        (["--solution", "nobody"], "nobody"),
        (["--text", "."], "Is a directory"),
        (["--out", "pyproject.toml"], "is a file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_message_and_exit_code_2(command: Command, arguments: list[str], message: str) -> None:
    result = run(command, *arguments)
    assert result.exit_code == 2, result.output
    assert message in result.output
    assert "Traceback" not in result.output


def test_an_unfinished_task_is_named(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tiny_llm_ref

    def stub(*_: object) -> None:
        raise NotImplementedError("Week 9 Day 9, task 9: a stub")

    monkeypatch.setattr(tiny_llm_ref, "quantize", stub)
    result = run(command, "--model", str(save_folder(tmp_path, tiny_config())), "--out", str(tmp_path / "out"))
    assert result.exit_code == 2
    assert "Week 9 Day 9, task 9" in result.output


def test_rows_are_cut_into_the_largest_groups_that_fit() -> None:
    wide = Format("", mx.float16, 4, 128)
    shapes = [(2, 256), (2, 576), (2, 96), (2, 100), (256,)]
    assert [wide.group_for(mx.zeros(shape)) for shape in shapes] == [128, 64, 32, None, None]
    assert Format("", mx.float16).group_for(mx.zeros((2, 256))) is None


def test_relative_error() -> None:
    pairs = [(mx.array([[3.0, 4.0]]), mx.array([[3.0, 0.0]])), (mx.array([[4.0]]), mx.array([[4.0]]))]
    assert relative_error(pairs) == pytest.approx(4 / 5), "√(4² / (3² + 4²))"


def test_keys_and_values_in_few_bits(command: Command, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text(TEXT, encoding="utf-8")
    model = save_folder(tmp_path, tiny_config("qwen3"))
    result = run(command, "--kv", "--model", str(model), "--text", str(text), "--out", str(tmp_path / "out"))
    assert result.exit_code == 0, result.output
    (written,) = (tmp_path / "out").glob("quantize-kv-*.json")
    document = json.loads(written.read_text())
    plain, eight, four = document["kv_formats"]
    assert [form["bits"] for form in (plain, eight, four)] == [None, 8, 4]
    assert [form["bytes_per_token"] for form in (plain, eight, four)] == [512, 160, 96], "2 · 2 · 32 numbers"
    for kind in ("key_error", "value_error"):
        assert plain[kind] == 0 < eight[kind] < 0.01 < four[kind] < 0.2, kind
    assert eight["perplexity"] == pytest.approx(plain["perplexity"], rel=0.02)
    assert eight["perplexity"] != plain["perplexity"], "the model attends over what was stored"
    assert all(form["step_seconds"] > 0 for form in (plain, eight, four))
    assert document["targets"][0]["met"] is True, "3.2 times the tokens"
    assert "stored as" in next((tmp_path / "out").glob("*.md")).read_text()


def test_heads_that_do_not_go_into_groups_are_refused(command: Command, tmp_path: Path) -> None:
    model = save_folder(tmp_path, tiny_config())
    result = run(command, "--kv", "--model", str(model), "--out", str(tmp_path / "out"))
    assert result.exit_code == 2, result.output
    assert "heads of 16 numbers can't be cut into groups of 32" in " ".join(result.output.split())
    assert not (tmp_path / "out").exists(), "nothing half-done"


def test_a_sequence_alone_over_plain_keys_and_values_is_the_model() -> None:
    config = tiny_config("qwen3")
    model = tiny_llm_ref.Model(config, random_weights(config))
    tokens = mx.array([[5, 77, 3, 200, 9, 14, 22, 8, 1, 2, 90, 91, 92, 93, 94, 95, 96, 97]])
    want = model(tokens)
    plain, packed = (PackedModel(tiny_llm_ref, model, bits) for bits in (None, 8))
    assert mx.allclose(plain(tokens), want, atol=1e-3)
    assert mx.allclose(plain(tokens, logits_to_keep=2), want[:, -2:], atol=1e-3)
    assert 1e-3 < mx.abs(packed(tokens) - want).max().item() < 2


def test_the_story_is_plain_text_of_a_few_hundred_words() -> None:
    story = LIGHTHOUSE.read_text(encoding="ascii")
    assert 500 <= len(story.split()) <= 900
