"""Week 3 Day 1, task 4: attention through block tables equals attention over whole sequences, wherever the blocks lie."""

import mlx.core as mx
import pytest

from answer import answer
from oracles import LOGITS, assert_close, mlx_lm_model
from ragged import Paged
from tiny_llm_kit.models.tiny_random import random_weights, tiny_config


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
def test_task_4_prompts_and_decodes_share_a_call(architecture: str) -> None:
    config = tiny_config(architecture)
    weights = random_weights(config)
    oracle = mlx_lm_model(config, weights)
    paged = Paged(answer.Model(config, weights), num_blocks=16, block_size=4)
    prompts = {"a": list(range(40, 50)), "b": list(range(100, 107)), "c": list(range(60, 73))}
    for name, table in zip(prompts, ([9, 3, 12], [0, 15], [7, 8, 2, 11]), strict=True):
        paged.add(name, prompts[name], table)
    paged.step({"a": 9, "b": 6})
    logits = paged.step({"a": 1, "b": 1, "c": 13})
    for name, prompt in prompts.items():
        want = oracle(mx.array([prompt]))[0, -1]
        assert_close(logits[name], want, f"{architecture}: the logits after sequence {name} are those it has alone", LOGITS)
