"""What shapes a model: the numbers of a Hugging Face `config.json` that the course's model code reads.

It knows three architectures and no array. A setting that the course does not implement is refused here, by name, because a
model that runs with a setting ignored silently answers nonsense.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

SUPPORTED_ARCHITECTURES = ("llama", "qwen2", "qwen3")

_LARGEST = 2**31 - 1  # MLX counts in int32

# Settings of these architectures that the course leaves out, each with the only value it accepts.
_ONLY_VALUE = {
    "attention_bias": False,
    "hidden_act": "silu",
    "mlp_bias": False,
    "partial_rotary_factor": 1.0,
    "rope_traditional": False,
    "use_sliding_window": False,
}


@dataclass(frozen=True)
class ModelConfig:
    """The sizes of one model; raises ValueError for sizes that cannot work together.

    `qkv_bias` is what Qwen2 adds to Llama and `qk_norm` what Qwen3 adds: neither is free to choose.
    `head_dim` is its own number, since in Qwen3 it is not hidden_size / num_heads.
    """

    architecture: str
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    rms_norm_eps: float
    rope_theta: float
    max_position_embeddings: int
    qkv_bias: bool
    qk_norm: bool
    tie_word_embeddings: bool

    def __post_init__(self) -> None:
        _check_architecture(self.architecture)
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type is int:
                check_whole(field.name, value)
            elif field.type is float:
                check_number(field.name, value)
            elif field.type is bool and not isinstance(value, bool):
                raise ValueError(f"{field.name} must be true or false, got {value!r}")
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_heads ({self.num_heads}) must be a multiple of num_kv_heads ({self.num_kv_heads}): "
                "every key-value head serves the same number of query heads"
            )
        if self.head_dim % 2:
            raise ValueError(f"head_dim must be even, got {self.head_dim}: rotary positions turn pairs of numbers")
        for name, architecture in (("qkv_bias", "qwen2"), ("qk_norm", "qwen3")):
            if getattr(self, name) != (self.architecture == architecture):
                raise ValueError(f"{name}={getattr(self, name)} does not fit {self.architecture}: {architecture} has it")

    @classmethod
    def from_hugging_face(cls, config: Mapping[str, Any]) -> Self:
        """Read a `config.json`. Raises ValueError that names the setting which is missing or not supported."""
        architecture = _required(config, "model_type")
        _check_architecture(architecture)
        _check_settings(config)

        def whole(key: str, default: int | None = None) -> int:
            return check_whole(key, _required(config, key, default))

        num_heads, hidden_size = whole("num_attention_heads"), whole("hidden_size")
        rope = _object(config, "rope_parameters")  # transformers 5 keeps rope_theta in here
        # Defaults are those of transformers, whose save_pretrained leaves some of them out.
        return cls(
            architecture=architecture,
            hidden_size=hidden_size,
            num_layers=whole("num_hidden_layers"),
            num_heads=num_heads,
            num_kv_heads=whole("num_key_value_heads", num_heads),
            head_dim=whole("head_dim", 128 if architecture == "qwen3" else hidden_size // num_heads),
            intermediate_size=whole("intermediate_size"),
            vocab_size=whole("vocab_size"),
            rms_norm_eps=check_number("rms_norm_eps", _required(config, "rms_norm_eps")),
            rope_theta=check_number("rope_theta", _required(config, "rope_theta", _required(rope, "rope_theta", 10000.0))),
            max_position_embeddings=whole("max_position_embeddings"),
            qkv_bias=architecture == "qwen2",
            qk_norm=architecture == "qwen3",
            tie_word_embeddings=_required(config, "tie_word_embeddings", False),
        )

    def to_hugging_face(self) -> dict[str, Any]:
        """The same model as a `config.json`, so that other libraries (mlx-lm is our oracle) can build it."""
        return {
            "model_type": self.architecture,
            "hidden_size": self.hidden_size,
            "num_hidden_layers": self.num_layers,
            "num_attention_heads": self.num_heads,
            "num_key_value_heads": self.num_kv_heads,
            "head_dim": self.head_dim,
            "intermediate_size": self.intermediate_size,
            "vocab_size": self.vocab_size,
            "rms_norm_eps": self.rms_norm_eps,
            "rope_theta": self.rope_theta,
            "max_position_embeddings": self.max_position_embeddings,
            "tie_word_embeddings": self.tie_word_embeddings,
            "hidden_act": "silu",
        }


def check_whole(name: str, value: Any) -> int:
    """`value`, if it is a whole number that can count something in an array; raises ValueError that says so if not."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _LARGEST:
        raise ValueError(f"{name} must be a whole number from 1 to {_LARGEST}, got {value!r:.80}")
    return value


def check_number(name: str, value: Any) -> float:
    """`value` as a float, if it is a positive finite number; raises ValueError that says so if not."""
    # Comparing is exact where float(10**400) overflows; NaN is on neither side.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= sys.float_info.max:
        raise ValueError(f"{name} must be a positive number, got {value!r:.80}")
    return float(value)


def _required(config: Mapping[str, Any], key: str, default: Any = None) -> Any:
    """The value of `key`; null counts as missing, as in transformers."""
    value = config.get(key)
    if value is None:
        value = default
    if value is None:
        raise ValueError(f"the model's configuration has no {key!r}")
    return value


def _object(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = _required(config, key, {})
    if not isinstance(value, Mapping):
        raise ValueError(f"{key} must be an object, got {value!r:.80}")
    return value


def _check_architecture(architecture: str) -> None:
    if architecture not in SUPPORTED_ARCHITECTURES:
        supported = ", ".join(SUPPORTED_ARCHITECTURES)
        raise ValueError(f"architecture {architecture!r} is not supported: choose a model of type {supported}")


def _check_settings(config: Mapping[str, Any]) -> None:
    for key, only in _ONLY_VALUE.items():
        if config.get(key, only) != only:
            raise ValueError(f"{key}={config[key]!r} is not supported: the course implements {key}={only!r} only")
    for key in ("rope_scaling", "rope_parameters"):
        scaling = _object(config, key)
        kind = scaling.get("rope_type") or scaling.get("type") or "default"
        if kind != "default":
            raise ValueError(f"{key} of type {kind!r} is not supported yet: the course implements plain RoPE only")
    layer_types = _required(config, "layer_types", [])
    if not isinstance(layer_types, list) or any(kind != "full_attention" for kind in layer_types):
        raise ValueError(f"layer_types {layer_types!r:.80} are not supported: the course implements full_attention only")
