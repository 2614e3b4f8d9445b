"""mlx-lm's own model with our weights: the peer that engines are compared with, and what tests call right."""

import importlib
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from tiny_llm_kit.models.config import ModelConfig
from tiny_llm_kit.models.quantized import QuantizedWeight, Weights


def mlx_lm_model(config: ModelConfig, weights: Weights, **settings: Any) -> nn.Module:
    """mlx-lm's model of this architecture, holding these weights (shared, not copied): tokens `(B, L)` to logits `(B, L, V)`.

    BLAS takes a different time for a different layout: with weights from `quantized.place`, both engines have the same.

    settings: go into the model's configuration, in Hugging Face's names.
    Raises:
        ValueError: if a weight is quantized: the two engines would not multiply alike.
    """
    for name, weight in weights.items():
        if isinstance(weight, QuantizedWeight):
            raise ValueError(f"{name} is quantized: mlx-lm is compared on plain weights, load with keep_quantized=False")
    module = importlib.import_module(f"mlx_lm.models.{config.architecture}")  # it takes seconds to import
    model: nn.Module = module.Model(module.ModelArgs.from_dict({**config.to_hugging_face(), **settings}))
    model.load_weights([(name, weight) for name, weight in weights.items() if isinstance(weight, mx.array)])
    mx.eval(model.parameters())
    return model.eval()
