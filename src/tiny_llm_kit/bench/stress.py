"""Random schedules for an engine: arrivals, cancels, and accidents of every kind, with what must hold whatever happens.

A schedule is made from its number alone, so one that fails can be run again. What must hold: every request ends and is returned
once; an answer is token for token the one that its request gets alone, or the beginning of it if it was cut short; a request
ends with an error only if an accident explains it; every slot, or every block, is free in the end.
"""

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import mlx.core as mx
import numpy as np

from tiny_llm_kit.bench.packed_kv import PackedModel
from tiny_llm_kit.bench.stress_paged import PagedSchedule, SpeculativeSchedule
from tiny_llm_kit.bench.stress_schedule import LONGEST_ANSWER, LONGEST_PROMPT, Broken, Case, Counts, Schedule, Subject
from tiny_llm_kit.models.tiny_random import random_weights, tiny_config

PROMPTS = 24
PACKED_PROMPTS = 8
"""With packed keys and values, fewer than one prompt in five has an answer that is clear enough."""
SHARED_PREFIXES = 3
CLEAR = 1e-3
"""A batch adds up in another order than a single row, so an expected token must lead by more than rounding can move it."""
PACKED_CLEAR = 0.1
"""The same with packed keys and values: a number between two integers may become either, as the last digit has it. What is
drawn must not change when noise of this size is added to the logits, tried `NOISES` times."""
NOISES = 4

ARCHITECTURES = {"slots": ("llama",), "paged": ("llama", "qwen2", "qwen3")}
SCHEDULES: dict[str, type[Schedule]] = {"slots": Schedule, "paged": PagedSchedule}


@dataclass
class Stress:
    """Runs schedules on an answer package, on one of its engines.

    Args:
        engine: "slots" or "paged". The paged engine is tried with models of all architectures.
        kv_bits: of the paged engine.
        speculate: "ngram" for a paged engine that speculates.
    """

    answer: ModuleType
    engine: str = "slots"
    kv_bits: int | None = None
    speculate: str | None = None
    counts: Counts = field(default_factory=Counts)

    def __post_init__(self) -> None:
        generator = np.random.default_rng(0)
        self.subjects = [self._subject(architecture, generator) for architecture in ARCHITECTURES[self.engine]]

    def _subject(self, architecture: str, generator: np.random.Generator) -> Subject:
        heads = {} if self.kv_bits is None else {"head_dim": 32}
        config = tiny_config(architecture, num_layers=2, hidden_size=32, intermediate_size=64, **heads)
        model = self.answer.Model(config, random_weights(config, seed=1))
        prefixes = generator.integers(0, 256, (SHARED_PREFIXES, LONGEST_PROMPT)).tolist()
        cases = (self._case(model, prefixes, generator) for _ in itertools.count())
        prompts = PROMPTS if self.kv_bits is None else PACKED_PROMPTS
        return Subject(model, list(itertools.islice((case for case in cases if case is not None), prompts)))

    def _case(self, model: Any, prefixes: Sequence[list[int]], generator: np.random.Generator) -> Case | None:
        """None where the best two tokens are too close to tell which one is right."""
        prompt = generator.integers(0, 256, int(generator.integers(1, LONGEST_PROMPT + 1))).tolist()
        shared = int(generator.integers(0, len(prompt) + 1))
        prompt[:shared] = prefixes[int(generator.integers(SHARED_PREFIXES))][:shared]
        greedy = generator.random() < 0.6
        sampling = self.answer.SamplingParams(
            temperature=0.0 if greedy else 1.5,
            repetition_penalty=float(generator.choice([1.0, 1.0, 1.3])),
            seed=int(generator.integers(0, 100)),
        )
        clear = True

        def draw(logits: mx.array, tokens: Sequence[int]) -> mx.array:
            nonlocal clear
            second, first = np.sort(np.array(logits))[-2:]
            clear = clear and bool(first - second > CLEAR)
            sample = self.answer.Sampler(sampling)
            drawn: mx.array = sample(logits, tokens)
            if self.kv_bits is not None and clear:
                noises = (mx.array(PACKED_CLEAR * generator.standard_normal(logits.shape)) for _ in range(NOISES))
                clear = all(int(sample(logits + noise, tokens)) == int(drawn) for noise in noises)
            return drawn

        alone = model if self.kv_bits is None else PackedModel(self.answer, model, self.kv_bits)
        tokens = self.answer.generate_tokens(alone, prompt, LONGEST_ANSWER, sampler=draw)
        answer = list(itertools.takewhile(lambda _: clear, tokens))
        return Case(prompt, sampling, answer) if clear else None

    def run(self, number: int) -> None:
        """Run one schedule.

        Raises:
            Broken: if something does not hold.
        """
        chance = random.Random(number)
        try:
            schedule = SpeculativeSchedule if self.speculate else SCHEDULES[self.engine]
            schedule(self.answer, chance.choice(self.subjects), self.counts, chance, self.kv_bits).run()
        except Broken as broken:
            raise Broken(f"schedule {number}: {broken}") from broken.__cause__
        self.counts.schedules += 1
