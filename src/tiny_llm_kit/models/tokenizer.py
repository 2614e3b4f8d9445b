"""Text to token ids and back: the interface that the course uses, and the tokenizers that come with real models.

It knows no weights. transformers takes two seconds to import, so it is imported where a tokenizer is built: a program that
only shows its help, or runs on a tiny random model, does not wait for it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from mlx_lm.tokenizer_utils import TokenizerWrapper

_INCOMPLETE = "\ufffd"  # what a decoder writes for bytes that are not (yet) a character

_CONTROL, _USER_DEFINED = 3, 4  # values of tokenizer.ggml.token_type

# Control tokens that end an answer in chat models, whether or not the file's metadata says so.
_END_OF_TURN = ("<|im_end|>", "<|endoftext|>")


class StreamingDetokenizer:
    """Text from tokens that come one at a time. A character whose bytes are spread over tokens is held back until whole.

    Only the tokens since the last text are decoded again, so a token costs the same at the end of an answer as at its
    beginning; those before them go along once, because some decoders treat the first token of a text differently. After
    `finalize()`, `text` is what decoding all tokens at once gives.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self.text = ""
        self._decode = decode
        self._context: list[int] = []  # tokens of the piece that was last added to `text`
        self._pending: list[int] = []
        self._looked_at = 0

    @property
    def last_segment(self) -> str:
        """The text that has come since the last look."""
        segment = self.text[self._looked_at :]
        self._looked_at = len(self.text)
        return segment

    def add_token(self, token: int) -> None:
        self._pending.append(token)
        piece = self._piece()
        if piece and not piece.endswith(_INCOMPLETE):
            self._accept(piece)

    def finalize(self) -> None:
        """Let go of what was held back."""
        self._accept(self._piece())

    def _piece(self) -> str:
        context = self._decode(self._context)
        return self._decode(self._context + self._pending)[len(context) :]

    def _accept(self, piece: str) -> None:
        self.text += piece
        self._context, self._pending = self._pending, []


class Tokenizer(Protocol):
    """What the course asks of a tokenizer. A `Request` holds token ids; only its two ends are text."""

    @property
    def eos_token_ids(self) -> frozenset[int]:
        """Tokens that end an answer."""

    @property
    def vocab_size(self) -> int:
        """Number of ids, special tokens included. A model's vocabulary may be padded beyond it."""

    def encode(self, text: str) -> list[int]:
        """Ids of `text`, with no special token added."""

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of the ids, special tokens included."""

    def apply_chat_template(self, messages: list[dict[str, str]]) -> list[int]:
        """Ids of a conversation ({"role": …, "content": …}), up to where the assistant's answer begins."""

    def detokenizer(self) -> StreamingDetokenizer:
        """A fresh detokenizer; every request needs its own."""


class HuggingFaceTokenizer:
    """A tokenizer of the transformers library. `wrapper` is what mlx-lm's own functions take."""

    def __init__(self, wrapper: "TokenizerWrapper") -> None:
        self.wrapper = wrapper

    @property
    def eos_token_ids(self) -> frozenset[int]:
        return frozenset(self.wrapper.eos_token_ids)

    @property
    def vocab_size(self) -> int:
        return len(self.wrapper)

    def encode(self, text: str) -> list[int]:
        return self.wrapper.encode(text, add_special_tokens=False)

    def decode(self, tokens: Sequence[int]) -> str:
        return self.wrapper.decode(list(tokens))

    def apply_chat_template(self, messages: list[dict[str, str]]) -> list[int]:
        if not self.wrapper.has_chat_template:
            raise ValueError("this model has no chat template: choose an instruct model, or encode plain text")
        return self.wrapper.apply_chat_template(messages, add_generation_prompt=True)

    def detokenizer(self) -> StreamingDetokenizer:
        return StreamingDetokenizer(self.decode)


def tokenizer_from_folder(folder: Path) -> HuggingFaceTokenizer:
    """The tokenizer of a model folder. Raises ValueError if the folder holds none."""
    from mlx_lm.utils import load_config, load_tokenizer

    files = ("tokenizer.json", "tokenizer.model", "vocab.json")
    if not any((folder / file).exists() for file in files):
        raise ValueError(f"{folder} has no tokenizer: one of {', '.join(files)} is missing")
    return HuggingFaceTokenizer(load_tokenizer(folder, eos_token_ids=load_config(folder).get("eos_token_id")))


def tokenizer_from_gguf(metadata: Mapping[str, Any]) -> HuggingFaceTokenizer:
    """The byte-level BPE tokenizer that a GGUF file describes; ValueError if it is of a kind not known here.

    As in the original, a byte that the vocabulary lacks (SmolLM2's has no \\x04, for one) is dropped in encoding.
    """
    from mlx_lm.tokenizer_utils import TokenizerWrapper
    from tokenizers import AddedToken, Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    if (kind := metadata.get("tokenizer.ggml.model")) != "gpt2":
        raise ValueError(f"tokenizer.ggml.model {kind!r} is not supported: choose a GGUF file with a gpt2 (BPE) tokenizer")
    tokens, types, merges = (_required(metadata, f"tokenizer.ggml.{key}") for key in ("tokens", "token_type", "merges"))
    vocab = {token: i for i, token in enumerate(tokens)}
    bpe = Tokenizer(models.BPE(vocab=vocab, merges=[tuple(merge.split(" ")) for merge in merges]))
    bpe.pre_tokenizer = _pre_tokenizer(metadata.get("tokenizer.ggml.pre"))
    bpe.decoder = decoders.ByteLevel()
    control = [token for token, type_ in zip(tokens, types, strict=True) if type_ == _CONTROL]
    user_defined = [token for token, type_ in zip(tokens, types, strict=True) if type_ == _USER_DEFINED]
    bpe.add_special_tokens([AddedToken(token, normalized=False) for token in control])
    bpe.add_tokens([AddedToken(token, normalized=False) for token in user_defined])
    fast = PreTrainedTokenizerFast(tokenizer_object=bpe, chat_template=metadata.get("tokenizer.chat_template"))
    return HuggingFaceTokenizer(TokenizerWrapper(fast, eos_token_ids=_eos_token_ids(metadata, vocab, control)))


def _required(metadata: Mapping[str, Any], key: str) -> Any:
    if key not in metadata:
        raise ValueError(f"the GGUF file has no {key}: choose a file that carries its tokenizer")
    return metadata[key]


def _pre_tokenizer(name: str | None) -> Any:
    """Where BPE may not merge across, by the name that llama.cpp gave the rule (`llm_tokenizer_bpe`, llama-vocab.cpp)."""
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

    if name != "smollm":
        raise ValueError(f"tokenizer.ggml.pre {name!r} is not supported: choose a GGUF file of the SmolLM family")
    return Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False)])


def _eos_token_ids(metadata: Mapping[str, Any], vocab: Mapping[str, int], control: Iterable[str]) -> set[int]:
    named = {metadata[key] for key in ("tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id") if key in metadata}
    return named | {vocab[token] for token in _END_OF_TURN if token in control}
