"""Text to token ids and back: the interface that the course uses, and transformers' tokenizers behind it.

It knows no file: `tokenizer_files` reads them.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol, cast

from tiny_llm_kit.models.chat_template import render

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_INCOMPLETE = "\ufffd"  # what a decoder writes for bytes that are not (yet) a character


class StreamingDetokenizer:
    """Text from tokens that come one at a time. A character whose bytes are spread over tokens is held back until whole.

    Only the tokens since the last text are decoded again, so a token costs the same at the end of an answer as at its
    beginning; those before them are decoded along with them once, because some decoders treat the first token of a text
    differently. After `finalize()`, `text` is what decoding all tokens at once gives (with byte fallback: if the bytes are
    characters). `tokenizers.decoders.DecodeStream` gives the same text, but loses half a character at the end, and raises an
    exception at fallback bytes that follow a character without being one.
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


def checked_text(text: str) -> str:
    """`text`, if it is Unicode; raises ValueError for half a surrogate pair, which no tokenizer and no terminal takes."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        lone = text[error.start]
        raise ValueError(f"character {error.start} of the text, {lone!r}, is half a surrogate pair: take it out") from None
    return text


class Tokenizer(Protocol):
    """What the course needs from a tokenizer. A `Request` holds token ids; only its two ends are text."""

    @property
    def eos_token_ids(self) -> frozenset[int]:
        """Tokens that end an answer."""

    @property
    def vocab_size(self) -> int:
        """Every id is below it, including those of special tokens. A model's vocabulary may be padded beyond it."""

    def encode(self, text: str) -> list[int]:
        """Ids of `text`, with no special token added. Raises ValueError for lone surrogates."""

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of the ids, special tokens included."""

    def apply_chat_template(self, messages: list[dict[str, str]]) -> list[int]:
        """Ids of a conversation ({"role": …, "content": …}), up to where the assistant's answer begins.

        Raises ValueError for lone surrogates, and if the model has no chat template or one that fails.
        """

    def detokenizer(self) -> StreamingDetokenizer:
        """A fresh detokenizer; every request needs its own."""


class HuggingFaceTokenizer:
    """A tokenizer of the transformers library, with the ids that end an answer."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", eos_token_ids: Iterable[int]) -> None:
        self._tokenizer = tokenizer
        self._eos_token_ids = frozenset(eos_token_ids)
        self._vocab_size = 1 + max(tokenizer.get_vocab().values(), default=-1)

    @property
    def eos_token_ids(self) -> frozenset[int]:
        return self._eos_token_ids

    @property
    def vocab_size(self) -> int:
        return self._vocab_size

    def encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(checked_text(text), add_special_tokens=False)

    def decode(self, tokens: Sequence[int]) -> str:
        return cast(str, self._tokenizer.decode(list(tokens)))

    def apply_chat_template(self, messages: list[dict[str, str]]) -> list[int]:
        if self._tokenizer.chat_template is None:
            raise ValueError("this model has no chat template: choose an instruct model, or encode plain text")
        variables = {"messages": messages, "tools": None, "documents": None, "add_generation_prompt": True}
        for message in messages:
            checked_text(message["content"])
        return self.encode(render(self._tokenizer.get_chat_template(), {**self._tokenizer.special_tokens_map, **variables}))

    def detokenizer(self) -> StreamingDetokenizer:
        return StreamingDetokenizer(self.decode)

    def as_json(self) -> str:
        """The tokenizer as a `tokenizer.json` holds it, for libraries that read one; ValueError if it is none of these."""
        if (backend := getattr(self._tokenizer, "backend_tokenizer", None)) is None:
            raise ValueError(f"{type(self._tokenizer).__name__} has no tokenizer.json: choose a model with a fast tokenizer")
        return cast(str, backend.to_str())
