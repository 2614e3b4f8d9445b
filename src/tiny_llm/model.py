"""The transformer: Llama, Qwen2 and Qwen3 in one file, distinguished by their configuration.

The model knows nothing about batches of requests. It is given tokens, one offset per row and one cache per layer; how keys and
values are stored, padded or paged is up to the cache.
"""

from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx

from tiny_llm_kit.course import task
from tiny_llm_kit.machine.fast_math import by_columns
from tiny_llm_kit.models.config import ModelConfig
from tiny_llm_kit.models.load import Weights
from tiny_llm_kit.models.quantized import QuantizedWeight

from .embedding import Embedding
from .kv_cache import KvCacheBase
from .linear import FusedLinear, Linear, fuse
from .mlp import MLP
from .operators import ARRAYS, Attention, Mask, Operators, Rope, array_attention

Norm = Callable[[mx.array], mx.array]


class SelfAttention:
    """Projections, rotary positions, grouped-query attention, output projection.

    Args:
        config: gives the heads H, the key/value heads KV and the head dimension D.
        qkv: maps `(B, L, E)` to the heads of queries, keys and values side by side, `(B, L, (H + 2·KV)·D)`.
        out: maps `(B, L, H·D)` to `(B, L, E)`.
        q_norm, k_norm: over D, before the rotation (Qwen3); None where the architecture has none.
        attention: one of `Operators`.
    """

    def __init__(
        self,
        config: ModelConfig,
        qkv: Callable[[mx.array], mx.array],
        out: Callable[[mx.array], mx.array],
        rope: Rope,
        q_norm: Norm | None = None,
        k_norm: Norm | None = None,
        attention: Attention = array_attention,
    ) -> None:
        self.config = config
        self.qkv = qkv
        self.out = out
        self.rope = rope
        self.q_norm = q_norm
        self.k_norm = k_norm
        self.attention = attention

    @task(week=1, day=5, number=3)
    def __call__(self, x: mx.array, rotation: Any, cache: KvCacheBase | None = None, mask: Mask = "causal") -> mx.array:
        """`(B, L, E)` to `(B, L, E)`.

        Args:
            rotation: from `rope.rotation(offset, L)`, the same for all layers.
            cache: this layer's cache, which stores the new keys and values and attends over all of them; None: over `x` alone.
            mask: as in `grouped_query_attention`.
        """
        raise NotImplementedError("Week 1 Day 5, task 3: self-attention. Read book/src/week1-05-model.md")


class TransformerBlock:
    """x + attention(norm(x)), then x + mlp(norm(x)): the pre-norm residual block."""

    def __init__(self, input_norm: Norm, attention: SelfAttention, post_attention_norm: Norm, mlp: MLP) -> None:
        self.input_norm = input_norm
        self.attention = attention
        self.post_attention_norm = post_attention_norm
        self.mlp = mlp

    @task(week=1, day=5, number=4)
    def __call__(self, x: mx.array, rotation: Any, cache: KvCacheBase | None = None, mask: Mask = "causal") -> mx.array:
        """`(B, L, E)` to `(B, L, E)`; arguments as in `SelfAttention`."""
        raise NotImplementedError("Week 1 Day 5, task 4: the transformer block. Read book/src/week1-05-model.md")


class Model:
    """A decoder-only language model.

    Args:
        config: shapes and switches.
        weights: by Hugging Face parameter name, as `tiny_llm_kit.models.load.load` gives them.
        operators: what the layers compute with.
    """

    def __init__(self, config: ModelConfig, weights: Weights, operators: Operators = ARRAYS) -> None:
        self.config = config
        self.rope = operators.make_rope(config.head_dim, config.rope_theta)
        product = operators.linear
        tied, table = config.tie_word_embeddings, weights["model.embed_tokens.weight"]
        if tied and isinstance(table, mx.array):
            table = by_columns(table)  # it is used far more often in products than in lookups
        self.embedding = Embedding(table, product)
        layers = [f"model.layers.{i}" for i in range(config.num_layers)]
        self.blocks = [build_block(config, weights, layer, self.rope, operators) for layer in layers]
        self.norm = operators.make_norm(_array(weights, "model.norm.weight"), config.rms_norm_eps)
        self.head = self.embedding.as_linear if tied else Linear(weights["lm_head.weight"], product=product)

    @task(week=1, day=5, number=5)
    def __call__(
        self,
        tokens: mx.array,
        offset: int | mx.array = 0,
        cache: Sequence[KvCacheBase] | None = None,
        mask: Mask = "causal",
        logits_to_keep: int | mx.array | None = None,
    ) -> mx.array:
        """Score every possible next token.

        Args:
            tokens: ids `(B, L)`.
            offset: position of each row's first token, an int or integers `(B,)`; or of every token, `(B, L)`.
            cache: one per layer, or None to attend over `tokens` alone.
            mask: as in `grouped_query_attention`.
            logits_to_keep: compute logits for this many last positions only: 1 in prefill, 0 if only the cache is wanted; None
                for all. Or for these places along L, integers `(n,)`, in this order. The product with the vocabulary is the
                largest of the model, so what is not needed is skipped.
        Returns:
            Logits `(B, n, V)` for the n positions that are kept.
        """
        raise NotImplementedError("Week 1 Day 5, task 5: the model. Read book/src/week1-05-model.md")


def build_block(
    config: ModelConfig, weights: Weights, prefix: str, rope: Rope, operators: Operators = ARRAYS
) -> TransformerBlock:
    """Assemble the layer whose parameters are named `prefix`…, with q/k/v and gate/up as one product each."""

    def projection(name: str) -> Linear:
        bias = weights.get(f"{prefix}.{name}.bias")
        return Linear(weights[f"{prefix}.{name}.weight"], bias if isinstance(bias, mx.array) else None, operators.linear)

    def norm(name: str) -> Norm:
        return operators.make_norm(_array(weights, f"{prefix}.{name}.weight"), config.rms_norm_eps)

    attention = SelfAttention(
        config,
        fuse([projection(f"self_attn.{name}_proj") for name in "qkv"]),
        projection("self_attn.o_proj"),
        rope,
        norm("self_attn.q_norm") if config.qk_norm else None,
        norm("self_attn.k_norm") if config.qk_norm else None,
        operators.attention,
    )
    gate_up = FusedLinear([projection("mlp.gate_proj"), projection("mlp.up_proj")])
    mlp = MLP(gate_up, projection("mlp.down_proj"), operators.silu)
    return TransformerBlock(norm("input_layernorm"), attention, norm("post_attention_layernorm"), mlp)


def _array(weights: Weights, name: str) -> mx.array:
    weight = weights[name]
    if isinstance(weight, QuantizedWeight):
        raise ValueError(f"{name} is quantized: a norm's weight must be a plain array")
    return weight
