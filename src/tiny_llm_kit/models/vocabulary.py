"""A vocabulary as bytes: what each token stands for, for code that reports tokens or forbids some of them.

It knows no model and no sampler. Byte-level tokenizers cut letters into pieces, so a token's text can be no text at all.
"""

from functools import cached_property

from llguidance import LLTokenizer, TokenizerWrapper

from tiny_llm_kit.models.tiny_random import ByteTokenizer
from tiny_llm_kit.models.tokenizer import HuggingFaceTokenizer, Tokenizer


class Vocabulary:
    """The tokens of a tokenizer. It holds no array, so all threads may use it.

    Args:
        tokenizer: a `HuggingFaceTokenizer`, or a `ByteTokenizer`.
    Raises:
        ValueError: for another tokenizer; by `guidance`, when it is first needed.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.size = tokenizer.vocab_size

    @cached_property
    def guidance(self) -> LLTokenizer:
        """llguidance's view of the vocabulary, which takes about a second to make."""
        eos = sorted(self.tokenizer.eos_token_ids)
        if isinstance(self.tokenizer, HuggingFaceTokenizer):
            return LLTokenizer(self.tokenizer.as_json(), eos_token=eos)
        if isinstance(self.tokenizer, ByteTokenizer):
            return LLTokenizer(TokenizerWrapper(_Bytes(self.tokenizer)), eos_token=eos)
        raise ValueError(f"a {type(self.tokenizer).__name__} does not say which bytes its tokens are")

    def bytes_of(self, token: int) -> bytes:
        """What a token stands for; nothing for an id that only pads the vocabulary."""
        if token >= self.size:
            return b""
        return self.guidance.decode_bytes([token]) or b"\xff"  # llguidance drops this byte, which no text has

    def text_of(self, token: int) -> str:
        """The same as text; where it is none, as `bytes:\\xf0\\x9f`, which is how OpenAI writes it."""
        written = self.bytes_of(token)
        try:
            return written.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in written)


class _Bytes:
    """What `TokenizerWrapper` asks for."""

    bos_token_id = None

    def __init__(self, tokenizer: ByteTokenizer) -> None:
        self.eos_token_id = min(tokenizer.eos_token_ids)
        self.special_token_ids = list(range(256, tokenizer.vocab_size))
        self.tokens = [bytes([i]) for i in range(256)] + [tokenizer.decode([i]).encode() for i in self.special_token_ids]

    def __call__(self, text: bytes) -> list[int]:
        return list(text)
