"""Tokenizers of published models: from a model folder, or from a GGUF file's metadata.

transformers takes two seconds to import, so it is imported where a tokenizer is built: a program that only shows its help, or
runs on a tiny random model, does not wait for it.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tiny_llm_kit.models.files import check_file, read_json
from tiny_llm_kit.models.tokenizer import HuggingFaceTokenizer

_CONTROL, _USER_DEFINED = 3, 4  # values of tokenizer.ggml.token_type

# Control tokens that end an answer in chat models, whether or not the file's metadata says so.
_END_OF_TURN = ("<|im_end|>", "<|endoftext|>")


def tokenizer_from_folder(folder: Path) -> HuggingFaceTokenizer:
    """The tokenizer of a model folder; code that comes with it is never run.

    Raises ValueError if the folder holds no tokenizer, one that cannot be read, or one that is code.
    """
    from transformers import AutoTokenizer

    names = ("tokenizer.json", "tokenizer.model", "vocab.json")
    files = [folder / name for name in names if (folder / name).exists()]
    if not files:
        raise ValueError(f"{folder} has no tokenizer: one of {', '.join(names)} is missing")
    settings = folder / "tokenizer_config.json"
    for file in (*files, *([settings] if settings.exists() else [])):
        read_json(file) if file.suffix == ".json" else check_file(file)
    eos_token_ids = _configured_eos_token_ids(folder)
    with _named(folder):
        # None would ask the user; False refuses.
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        eos_token_id = tokenizer.eos_token_id
    return HuggingFaceTokenizer(tokenizer, eos_token_ids if eos_token_id is None else {*eos_token_ids, eos_token_id})


def _configured_eos_token_ids(folder: Path) -> list[int]:
    """`eos_token_id` of generation_config.json or, where that has none, of config.json: an id or a list."""
    for file in (folder / "generation_config.json", folder / "config.json"):
        ids = read_json(file).get("eos_token_id") if file.exists() else None
        if ids is not None:
            return [_token_id(f"{file}: eos_token_id", id_) for id_ in (ids if isinstance(ids, list) else [ids])]
    return []


def tokenizer_from_gguf(metadata: Mapping[str, Any]) -> HuggingFaceTokenizer:
    """The byte-level BPE tokenizer that a GGUF file describes; ValueError if it is of a kind not known here.

    As in the original, a byte that the vocabulary lacks (SmolLM2's has no \\x04, for one) is dropped in encoding.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    if (kind := metadata.get("tokenizer.ggml.model")) != "gpt2":
        raise ValueError(f"tokenizer.ggml.model {kind!r} is not supported: choose a GGUF file with a gpt2 (BPE) tokenizer")
    tokens, merges = _list(metadata, "tokens", str), _list(metadata, "merges", str)
    types = _list(metadata, "token_type", int)
    if len(types) != len(tokens):
        raise ValueError(f"the GGUF file has {len(tokens)} tokens but {len(types)} values of tokenizer.ggml.token_type")
    vocab = {token: i for i, token in enumerate(tokens)}
    control = [token for token, type_ in zip(tokens, types, strict=True) if type_ == _CONTROL]
    user_defined = [token for token, type_ in zip(tokens, types, strict=True) if type_ == _USER_DEFINED]
    pre_tokenizer = _pre_tokenizer(metadata.get("tokenizer.ggml.pre"))
    with _named("the GGUF file"):
        bpe = Tokenizer(models.BPE(vocab=vocab, merges=[tuple(merge.split(" ")) for merge in merges]))
        bpe.pre_tokenizer = pre_tokenizer
        bpe.decoder = decoders.ByteLevel()
        bpe.add_special_tokens([AddedToken(token, normalized=False) for token in control])
        bpe.add_tokens([AddedToken(token, normalized=False) for token in user_defined])
        fast = PreTrainedTokenizerFast(tokenizer_object=bpe, chat_template=metadata.get("tokenizer.chat_template"))
    return HuggingFaceTokenizer(fast, _eos_token_ids(metadata, vocab, control))


@contextmanager
def _named(source: Path | str) -> Iterator[None]:
    """Turn whatever the libraries raise while they build a tokenizer into a ValueError that names its source."""
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":  # of the Rust in tokenizers
            raise
        if "auto_map" in str(error) or "trust_remote_code" in str(error):
            raise ValueError(
                f"the tokenizer of {source} is code of its own, which is never run: choose another model"
            ) from error
        raise ValueError(
            f"the tokenizer of {source} cannot be read ({type(error).__name__}: {error!s:.300}): download the model again"
        ) from error


def _list(metadata: Mapping[str, Any], key: str, kind: type) -> list[Any]:
    key = f"tokenizer.ggml.{key}"
    if key not in metadata:
        raise ValueError(f"the GGUF file has no {key}: choose a file that carries its tokenizer")
    values = metadata[key]
    if not isinstance(values, list) or not all(isinstance(value, kind) for value in values):
        raise ValueError(f"{key} of the GGUF file must be an array of {kind.__name__}, got {values!r:.80}")
    return values


def _pre_tokenizer(name: str | None) -> Any:
    """Where BPE may not merge across, by the name that llama.cpp gave the rule (`llm_tokenizer_bpe`, llama-vocab.cpp)."""
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

    if name != "smollm":
        raise ValueError(f"tokenizer.ggml.pre {name!r} is not supported: choose a GGUF file of the SmolLM family")
    return Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False)])


def _eos_token_ids(metadata: Mapping[str, Any], vocab: Mapping[str, int], control: Iterable[str]) -> set[int]:
    keys = ("tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id")
    named = {_token_id(key, metadata[key]) for key in keys if key in metadata}
    return named | {vocab[token] for token in _END_OF_TURN if token in control}


def _token_id(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{name} must be the id of a token, got {value!r:.80}")
    return value
