"""The engine on each of the operators: plain arrays, MLX's kernels and the course's generate the same tokens."""

import mlx.core as mx
import pytest

import tiny_llm_ref as answer
from metal_anywhere import cpu_runner
from tiny_llm_kit.models.quantized import QuantizedWeight, Weights
from tiny_llm_kit.models.tiny_random import ByteTokenizer, random_weights, tiny_config

CONFIG = tiny_config("qwen3", num_layers=2)  # with norms inside of attention, too
PROMPTS = ["one", "a longer prompt than the first", "two words"]


def packed_weights() -> Weights:
    plain = random_weights(CONFIG)
    return {
        name: QuantizedWeight(*mx.quantize(w, group_size=32, bits=4), group_size=32, bits=4) if w.ndim == 2 else w
        for name, w in plain.items()
        if isinstance(w, mx.array)
    }


def generate(operators: str) -> list[list[int]]:
    model = answer.Model(CONFIG, packed_weights(), answer.OPERATORS[operators])
    requests = answer.batch_generate(model, ByteTokenizer(), PROMPTS, max_seq_len=48, batch_size=2, prefill_step=8)
    return [request.generated_tokens for request in requests]


@pytest.fixture(scope="module")
def expected() -> list[list[int]]:
    return generate("arrays")


@pytest.mark.parametrize("operators", ["mlx", "course"])
def test_the_engine_generates_the_same_on_all_operators(operators: str, expected: list[list[int]]) -> None:
    assert generate(operators) == expected
    assert len(expected) == len(PROMPTS)
    assert all(expected)


def test_the_course_operators_run_the_courses_kernels() -> None:
    with cpu_runner() as launches:
        generate("course")
    assert {launch.kernel for launch in launches} == {
        "matvec_vector",
        "rms_norm",
        "decode_attention",
        "flash_attention_simdgroup",
    }
