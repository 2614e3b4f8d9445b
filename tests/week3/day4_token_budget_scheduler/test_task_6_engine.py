"""Week 3 Day 4, task 6: the loop."""

from answer import answer
from tiny_llm_kit.models.tiny_random import random_weights, tiny_config


def test_task_6_a_request_is_served() -> None:
    config = tiny_config("llama")
    engine = answer.Engine(answer.Model(config, random_weights(config)), num_blocks=4, block_size=4)
    request = engine.submit(answer.PagedRequest([1, 2, 3], 4))
    engine.run()
    assert len(request.generated_tokens) == 4, "a request gets its tokens"
