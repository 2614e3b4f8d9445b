"""How long Python takes to describe a decode step to MLX, before anything is computed: on a fast GPU that is the step.

The sizes of matrices do not matter here, only the number of operations. So all builders get small random weights, in as many
layers as the model has: computing a step then hardly disturbs the processor's caches before the next one is built.
"""

import io
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType

import mlx.core as mx

from tiny_llm_kit.bench.paged_steps import PagedSteps
from tiny_llm_kit.bench.peer import mlx_lm_model
from tiny_llm_kit.bench.report import Target
from tiny_llm_kit.models.config import ModelConfig
from tiny_llm_kit.models.quantized import Weights, place
from tiny_llm_kit.models.tiny_random import random_weights, tiny_config

ROWS = 8
REPEATS = 200
PROMPT_TOKENS = 4

Builder = Callable[[], mx.array]
"""Builds the next decode step, and returns its tokens, which are still to be computed."""


@dataclass(frozen=True)
class BuildTime:
    """`seconds` to build one decode step, at best, and the `nodes` of its graph."""

    seconds: float
    nodes: int


def build_times(answer: ModuleType, layers: int, rows: int = ROWS, repeats: int = REPEATS) -> dict[str, BuildTime]:
    """The time of an answer package on plain arrays and on MLX's operators, and of mlx-lm, which take turns."""
    config = tiny_config(num_layers=layers)
    weights = place(random_weights(config), keep_quantized=False)
    builders = {kernels: answer_builder(answer, config, weights, kernels, rows, repeats + 2) for kernels in ("arrays", "mlx")}
    return measure({**builders, "mlx-lm": peer_builder(config, weights, rows)}, repeats)


def measure(builders: Mapping[str, Builder], repeats: int = REPEATS) -> dict[str, BuildTime]:
    """Let the builders take turns. It counts this thread's processor time, which other programs disturb less."""
    nodes, best = {}, dict.fromkeys(builders, float("inf"))
    for name, build in builders.items():  # unmeasured: the first step loads code
        tokens = build()
        nodes[name] = count_nodes(tokens)
        mx.eval(tokens)
    for _ in range(repeats):
        for name, build in builders.items():
            started = time.thread_time()
            tokens = build()
            best[name] = min(best[name], time.thread_time() - started)
            mx.eval(tokens)
    return {name: BuildTime(best[name], nodes[name]) for name in builders}


def answer_builder(
    answer: ModuleType, config: ModelConfig, weights: Weights, kernels: str, rows: int = ROWS, steps: int = REPEATS
) -> Builder:
    """The decode steps of an answer package, on the operators of this name: up to `steps`, the first of which is taken here."""
    model = answer.Model(config, weights, answer.OPERATORS[kernels])
    runner = answer.ModelRunner(model, rows, PROMPT_TOKENS + steps)
    requests = [answer.Request([row + i for i in range(PROMPT_TOKENS)], steps + 1) for row in range(rows)]
    for slot, request in enumerate(requests):
        runner.join(request, slot, runner.prefill(request, 0, PROMPT_TOKENS))
    mx.eval(runner.decode(requests).tokens)
    return lambda: runner.decode(requests).tokens


def paged_build_times(
    answer: ModuleType, layers: int, rows: int = ROWS, repeats: int = REPEATS, kernels: str = "arrays"
) -> dict[str, BuildTime]:
    """The time of an answer package's two engines, which take turns."""
    config = tiny_config(num_layers=layers)
    weights = place(random_weights(config), keep_quantized=False)
    slots = answer_builder(answer, config, weights, kernels, rows, repeats + 2)
    model = answer.Model(config, weights, answer.OPERATORS[kernels])
    return measure({"slots": slots, "paged": PagedSteps(answer, model, rows, PROMPT_TOKENS, repeats + 2).build}, repeats)


def peer_builder(config: ModelConfig, weights: Weights, rows: int = ROWS) -> Builder:
    """The steps of mlx-lm's batch generator: its model and cache, and its greedy sampler, which takes log probabilities."""
    from mlx_lm.models.cache import BatchKVCache  # it takes seconds to import

    model = mlx_lm_model(config, weights)
    caches = [BatchKVCache([0] * rows) for _ in range(config.num_layers)]
    tokens = mx.array([[row + i for i in range(PROMPT_TOKENS)] for row in range(rows)])
    mx.eval(model(tokens, cache=caches))
    last = tokens[:, -1]

    def build() -> mx.array:
        nonlocal last
        logits = model(last[:, None], cache=caches)[:, -1]
        last = mx.argmax(logits - mx.logsumexp(logits, axis=-1, keepdims=True), axis=-1)
        return last

    mx.eval(build())
    return build


def count_nodes(*arrays: mx.array) -> int:
    """How many operations have to run before these arrays are there."""
    graph = io.StringIO()
    mx.export_to_dot(graph, *arrays)
    return graph.getvalue().count("shape=rectangle")


def targets(times: Mapping[str, BuildTime]) -> list[Target]:
    """What the operators of MLX should reach compared with mlx-lm, which uses the same."""
    ratio = times["mlx"].seconds / times["mlx-lm"].seconds
    return [Target(f"building a step of {ROWS} rows, mlx kernels / mlx-lm", ratio, 0.7, False, "{:.2f} ×".format)]
