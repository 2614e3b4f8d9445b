"""Week 3 Day 4, task 7: ways to use the engine."""

from answer import answer
from tiny_llm_kit.models.tiny_random import random_weights, tiny_config


def test_task_7_generate_answers_each_prompt() -> None:
    config = tiny_config("llama")
    engine = answer.Engine(answer.Model(config, random_weights(config)), num_blocks=4, block_size=4)
    answers = engine.generate([[1, 2, 3], [4, 5]], max_tokens=4)
    assert [len(request.generated_tokens) for request in answers] == [4, 4], "each prompt gets its answer"
