"""Week 3 Day 4, task 5: one call of the model for decodes and prompt chunks."""

from answer import answer
from tiny_llm_kit.models.tiny_random import random_weights, tiny_config


def test_task_5_a_prompt_is_computed_at_once() -> None:
    config = tiny_config("llama")
    runner = answer.PagedRunner(answer.Model(config, random_weights(config)), num_blocks=4, block_size=4)
    request = answer.PagedRequest([1, 2, 3], 4)
    request.blocks = [2]
    asking, drawn = runner.run(answer.MixedPlan([], [answer.Chunk(request, 0, 3)], []))
    assert (asking, drawn.tokens.shape) == ([request], (1,)), "the end of a prompt asks for a token"
