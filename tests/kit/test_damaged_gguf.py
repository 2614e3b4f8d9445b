"""GGUF files that are damaged, or were made to harm: each ends in a ValueError that names what is wrong, and never in a crash.

Headers are put together field by field; 300 random damages of a whole file are loaded by `gguf_mutations`.
"""

import os
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from kit.tiny_gguf import save_gguf
from tiny_llm_kit.models.gguf_header import check_gguf_header
from tiny_llm_kit.models.load import load
from tiny_llm_kit.models.tiny_random import tiny_config

HERE = Path(__file__).parent
UINT32, FLOAT32, BOOL, STRING, ARRAY, FLOAT64 = 4, 6, 7, 8, 9, 12
F32, Q4_2, Q4_1, Q5_K = 0, 4, 3, 13


def text(value: str | bytes) -> bytes:
    value = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(value)) + value


def key(name: str | bytes, type_: int, value: bytes) -> bytes:
    return text(name) + struct.pack("<I", type_) + value


def array(type_: int, count: int, elements: bytes = b"") -> bytes:
    return struct.pack("<IQ", type_, count) + elements


def tensor(name: str | bytes = "a.weight", dims: Sequence[int] = (256, 2), type_: int = F32, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, type_, offset)


def gguf(
    keys: Sequence[bytes] = (),
    tensors: Sequence[bytes] = (),
    magic: bytes = b"GGUF",
    version: int = 3,
    num_keys: int | None = None,
    num_tensors: int | None = None,
    data: int = 2048,
) -> bytes:
    counts = len(tensors) if num_tensors is None else num_tensors, len(keys) if num_keys is None else num_keys
    header = magic + struct.pack("<IQQ", version, *counts) + b"".join([*keys, *tensors])
    return header + bytes(-len(header) % 32 + data)


@pytest.mark.parametrize(
    "contents",
    [
        gguf(tensors=[tensor()]),
        gguf(tensors=[tensor()], version=2),
        gguf(tensors=[tensor(dims=(512,)), tensor("b", offset=2048)], data=4096),
        gguf(keys=[key("general.alignment", UINT32, struct.pack("<I", 64))], tensors=[tensor()], data=2048 + 64),
        gguf(keys=[key("a", ARRAY, array(STRING, 2, text("é") + text(""))), key("b", ARRAY, array(FLOAT32, 0))]),
        gguf(keys=[key("a", BOOL, b"\1"), key("b", STRING, text("b"))]),
    ],
)
def test_sound_headers_pass(tmp_path: Path, contents: bytes) -> None:
    file = tmp_path / "sound.gguf"
    file.write_bytes(contents)
    check_gguf_header(file)
    mx.load(str(file))


def test_types_of_tensors_that_pass_are_those_that_mlx_reads(tmp_path: Path) -> None:
    file = tmp_path / "types.gguf"
    for type_ in range(50):
        file.write_bytes(gguf(tensors=[tensor(dims=(256, 2), type_=type_)]))
        try:
            check_gguf_header(file)
        except ValueError:
            continue
        assert mx.load(str(file))["a.weight"].shape[0] == 2, f"MLX should read type {type_}, which the check lets pass"


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"GG", "the first word runs to byte 4, after the end of the file at 2"),
        (gguf(magic=b"GGML"), "does not begin with 'GGUF'"),
        (gguf(version=1), "version 1 is not known"),
        (gguf(version=3 << 24), "version 50331648 is not known"),
        (gguf(num_keys=2**40), "metadata"),
        (gguf(num_tensors=2**63), "tensor"),
        (gguf(keys=[struct.pack("<Q", 2**63) + b"key"]), r"a metadata key runs to byte \d+, after the end"),
        (gguf(keys=[key(b"\xff", BOOL, b"\1")]), "a metadata key at byte 24 is not UTF-8"),
        (gguf(keys=[key("k", BOOL, b"\1")] * 2), "metadata 'k' is there twice"),
        (gguf(keys=[key("k", 13, b"\1")]), "metadata 'k' has type 13"),
        (gguf(keys=[key("k", FLOAT64, bytes(8))]), "metadata 'k' is a float64"),
        (gguf(keys=[key("k", STRING, struct.pack("<Q", 2**31 + 7))]), "metadata 'k' has a string of 2147483655 bytes"),
        (gguf(keys=[key("k", STRING, struct.pack("<Q", 5000))]), "metadata 'k' runs to byte"),
        (gguf(keys=[key("k", ARRAY, array(UINT32, 2**32))]), "metadata 'k' has 4294967296 elements"),
        (gguf(keys=[key("k", ARRAY, array(UINT32, 5000))]), "metadata 'k' runs to byte"),
        (gguf(keys=[key("k", ARRAY, array(STRING, 5000))]), "metadata 'k' runs to byte"),
        (gguf(keys=[key("k", ARRAY, array(ARRAY, 1, array(BOOL, 1, b"\1")))]), "metadata 'k' has type 9"),
        (gguf(keys=[key("general.alignment", UINT32, bytes(4))]), "general.alignment.* must be a uint32 that is a multiple"),
        (gguf(keys=[key("general.alignment", STRING, text("32"))]), "general.alignment.* must be a uint32"),
        (gguf(tensors=[tensor(b"\xff")]), r"a tensor's name at byte \d+ is not UTF-8"),
        (gguf(tensors=[tensor()] * 2), "tensor 'a.weight' is there twice"),
        (gguf(tensors=[tensor(dims=())]), "tensor 'a.weight' has 0 dimensions"),
        (gguf(tensors=[tensor(dims=(1,) * 9)]), "tensor 'a.weight' has 9 dimensions"),
        (gguf(tensors=[tensor(dims=(0, 2))]), "tensor 'a.weight' has a dimension of 0"),
        (gguf(tensors=[tensor(dims=(2**31, 2))]), "tensor 'a.weight' has a dimension of 2147483648"),
        (gguf(tensors=[tensor(dims=(2**30,) * 4)]), "tensor 'a.weight' ends at byte"),
        (gguf(tensors=[tensor(type_=Q4_2)]), "tensor 'a.weight' has type 4, which MLX does not read"),
        (gguf(tensors=[tensor(type_=Q5_K)]), "type 13, which MLX does not read"),
        (gguf(tensors=[tensor(type_=2**32 - 1)]), "tensor 'a.weight' has type 4294967295"),
        (gguf(tensors=[tensor(type_=Q4_1, dims=(48, 2))]), "rows of 48 numbers, but its blocks hold 32"),
        (gguf(tensors=[tensor()], data=2047), "tensor 'a.weight' ends at byte"),
        (gguf(tensors=[tensor(offset=2**64 - 32)]), "tensor 'a.weight' ends at byte"),
        (gguf(tensors=[tensor(offset=4)], data=4096), "offset 4, which is not a multiple of 32"),
        (gguf(tensors=[tensor(), tensor("b", offset=1024)], data=4096), "tensor 'b' overlaps"),
    ],
)
def test_damage_is_named(tmp_path: Path, contents: bytes, message: str) -> None:
    file = tmp_path / "damaged.gguf"
    file.write_bytes(contents)
    with pytest.raises(
        ValueError, match=rf"damaged.gguf cannot be read as GGUF: .*{message}.*\. Download it again, or choose a file of Q4_0"
    ):
        check_gguf_header(file)


def test_300_damaged_headers_load_or_end_in_a_clear_error(tmp_path: Path) -> None:
    file = save_gguf(tmp_path, tiny_config())
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1] / "src")}
    command = [sys.executable, str(HERE / "gguf_mutations.py"), str(file)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, f"a damaged file crashed, hung or gave a traceback:\n{result.stdout}{result.stderr}"
    assert "300 of 300" in result.stdout


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"llama.block_count": "many"}, "llama.block_count must be a whole number from 1 to 2147483647, got 'many'"),
        ({"llama.block_count": mx.array(10**9, mx.uint32)}, "1000000000 layers .* the model's files hold only 29 tensors"),
        ({"llama.attention.head_count": mx.array(0, mx.uint32)}, "llama.attention.head_count must be .* got 0"),
        ({"llama.attention.head_count_kv": mx.array([2, 2, 2], mx.uint32)}, r"head_count_kv must be .* got \[2, 2, 2\]"),
        ({"llama.rope.freq_base": mx.array(float("nan"))}, "llama.rope.freq_base must be a positive number, got nan"),
        (
            {"llama.attention.layer_norm_rms_epsilon": mx.array(-1.0)},
            "layer_norm_rms_epsilon must be a positive number, got -1",
        ),
        ({"tokenizer.ggml.tokens": "abc"}, "tokenizer.ggml.tokens must be"),
        ({"tokenizer.ggml.token_type": mx.array([1, 1])}, "260 tokens but 2 values of tokenizer.ggml.token_type"),
        ({"tokenizer.ggml.merges": ["no such token"]}, "tokenizer of the GGUF file cannot be read"),
        (
            {"tokenizer.ggml.eos_token_id": mx.array(260)},
            "eos_token_id 260 is not in the model's vocabulary, which ends at 259",
        ),
        ({"tokenizer.ggml.eos_token_id": mx.array(-1)}, "eos_token_id must be the id of a token, got -1"),
        ({"tokenizer.ggml.eos_token_id": "<|im_end|>"}, "eos_token_id must be the id of a token"),
    ],
)
def test_metadata_of_the_wrong_kind_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"tiny.gguf: .*{message}"):
        load(save_gguf(tmp_path, tiny_config(), **changes))


def test_what_is_no_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty.gguf").write_bytes(b"")
    with pytest.raises(ValueError, match=r"empty.gguf is empty"):
        load(tmp_path / "empty.gguf")
    (tmp_path / "link.gguf").symlink_to(tmp_path / "nothing")
    with pytest.raises(ValueError, match=r"link.gguf is a link to a file that is not there"):
        load(tmp_path / "link.gguf")
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(ValueError, match=r"pipe.gguf is not an ordinary file"):
        load(tmp_path / "pipe.gguf")
    file = save_gguf(tmp_path, tiny_config())
    monkeypatch.setattr("os.access", lambda path, mode: mode != os.W_OK)
    with pytest.raises(ValueError, match=r"tiny.gguf cannot be opened by MLX.*permissions"):
        load(file)
