"""A vocabulary as bytes: of the toy tokenizer and of the embedded model's."""

import pytest

from tiny_llm_kit.models.load import load
from tiny_llm_kit.models.tiny_random import ByteTokenizer
from tiny_llm_kit.models.tokenizer import Tokenizer
from tiny_llm_kit.models.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def embedded() -> Tokenizer:
    return load().tokenizer


def test_bytes_of_bytes() -> None:
    vocabulary = Vocabulary(ByteTokenizer())
    assert [vocabulary.bytes_of(token) for token in range(256)] == [bytes([token]) for token in range(256)]
    assert [vocabulary.text_of(token) for token in (65, 256, 0xE2)] == ["A", "<|end|>", "bytes:\\xe2"]
    assert vocabulary.guidance.eos_tokens == [256]


def test_padding_is_nothing() -> None:
    vocabulary = Vocabulary(ByteTokenizer())
    assert (vocabulary.bytes_of(vocabulary.size), vocabulary.text_of(vocabulary.size)) == (b"", "")


def test_of_the_embedded_model(embedded: Tokenizer) -> None:
    vocabulary = Vocabulary(embedded)
    text = "Grüße 😀, 3 × ok"
    assert b"".join(vocabulary.bytes_of(token) for token in embedded.encode(text)) == text.encode()
    for token in range(0, vocabulary.size, 97):
        if "\ufffd" not in (decoded := embedded.decode([token])):
            assert vocabulary.text_of(token) == decoded
    assert vocabulary.guidance.vocab_size == vocabulary.size
    assert set(vocabulary.guidance.eos_tokens) == embedded.eos_token_ids


def test_of_another_tokenizer() -> None:
    class Other(ByteTokenizer):
        pass

    class Foreign:
        vocab_size, eos_token_ids = 3, frozenset({0})

    assert Vocabulary(Other()).bytes_of(65) == b"A"
    with pytest.raises(ValueError, match="Foreign"):
        Vocabulary(Foreign()).bytes_of(0)  # type: ignore[arg-type]
