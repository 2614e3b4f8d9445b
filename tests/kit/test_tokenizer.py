"""Tokenizers: text comes back as it went in, at once and token by token.

The laws are held against SmolLM2's own tokenizer, which comes with the embedded model.
"""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiny_llm_kit.models.load import load
from tiny_llm_kit.models.tiny_random import ByteTokenizer
from tiny_llm_kit.models.tokenizer import StreamingDetokenizer, Tokenizer

TEXTS = [
    "",
    "Hello, world!",
    " a leading space, and two at the end  ",
    "tabs\tand\n\nnew lines\r\n",
    "spaces , before . punctuation ! are not cleaned up ' s",
    "def f(x: int) -> dict[str, int]:\n    return {'x': x ** 2}  # a comment\n",
    "naïve café, Ελληνικά, русский, עברית, हिन्दी, 中文, 日本語, 한국어",
    "👍🏽 👩‍👩‍👧 🏳️‍🌈 and a flag 🇨🇭",
    "1234567890 3.14 ½ ² ٣٤",
    "a character that says it is none: \ufffd",
]


@pytest.fixture(scope="module")
def smollm2() -> Tokenizer:
    return load(keep_quantized=True).tokenizer


@pytest.fixture(scope="module", params=["smollm2", "bytes"])
def tokenizer(request: pytest.FixtureRequest, smollm2: Tokenizer) -> Tokenizer:
    return smollm2 if request.param == "smollm2" else ByteTokenizer()


def stream(tokenizer: Tokenizer, tokens: Sequence[int]) -> list[str]:
    """What a user sees arrive: the new text after each token, and after the last."""
    detokenizer = tokenizer.detokenizer()
    segments = []
    for token in tokens:
        detokenizer.add_token(token)
        segments.append(detokenizer.last_segment)
    detokenizer.finalize()
    segments.append(detokenizer.last_segment)
    assert detokenizer.text == "".join(segments), "`text` should be all the segments that were given out"
    return segments


@pytest.mark.parametrize("text", TEXTS)
def test_text_comes_back(tokenizer: Tokenizer, text: str) -> None:
    tokens = tokenizer.encode(text)
    assert tokenizer.decode(tokens) == text
    assert "".join(stream(tokenizer, tokens)) == text


# SmolLM2's vocabulary lacks the bytes of a few control characters and of the planes from U+40000 up.
@given(st.text(st.characters(max_codepoint=0x3FFFF, exclude_categories=["Cs", "Cc"]) | st.sampled_from("\n\t")))
@settings(deadline=None)
def test_any_text_comes_back(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(st.lists(st.integers(0, ByteTokenizer.vocab_size - 1) | st.integers(0, 1000)))
@settings(deadline=None)
def test_any_tokens_give_the_same_text_one_by_one(tokenizer: Tokenizer, tokens: list[int]) -> None:
    tokens = [token % tokenizer.vocab_size for token in tokens]
    assert "".join(stream(tokenizer, tokens)) == tokenizer.decode(tokens), (
        "a model may write bytes that are no character: the stream should end as the decoding of all tokens"
    )


@pytest.mark.parametrize("text", ["👩‍👩‍👧", "é中👍 done"])
def test_a_character_is_held_back_until_it_is_whole(tokenizer: Tokenizer, text: str) -> None:
    tokens = tokenizer.encode(text)
    segments = stream(tokenizer, tokens)
    assert "" in segments[:-1], "a token that only begins a character should give no text"
    assert not any("\ufffd" in segment for segment in segments), "half a character should wait for its other half"
    assert segments[-1] == "", "whole characters should not wait for the end"


def test_text_is_given_out_as_soon_as_it_is_there(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode(" one two  three\n")
    assert stream(tokenizer, tokens)[:-1] == [tokenizer.decode([token]) for token in tokens]


def test_a_text_that_ends_within_a_character_ends_with_its_mark(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode("ok 👍")[:-1]
    segments = stream(tokenizer, tokens)
    assert segments[-1].endswith("\ufffd"), "finalize() should let go of what was held back"


def test_a_piece_may_depend_on_the_one_before() -> None:
    words = ["one", "two", "three"]
    detokenizer = StreamingDetokenizer(lambda tokens: " ".join(words[token] for token in tokens))
    segments = []
    for token in (0, 1, 2):
        detokenizer.add_token(token)
        segments.append(detokenizer.last_segment)
    assert segments == ["one", " two", " three"], "as in SentencePiece, where a text's first word has no space before it"


def test_every_detokenizer_is_fresh(tokenizer: Tokenizer) -> None:
    first, second = tokenizer.detokenizer(), tokenizer.detokenizer()
    first.add_token(tokenizer.encode("x")[0])
    assert (first.text, second.text) == ("x", ""), "two requests must not write into each other's text"


def test_smollm2_splits_digits_and_knows_its_control_tokens(smollm2: Tokenizer) -> None:
    assert smollm2.encode("a  12") == [token for part in ("a", "  ", "1", "2") for token in smollm2.encode(part)], (
        "SmolLM2 reads digit by digit, and a digit takes no space along"
    )
    assert smollm2.encode("Hello world") == [19556, 905], "these are the ids of SmolLM2's published tokenizer"
    assert smollm2.encode("<|im_start|>user<|im_end|>") == [1, 4093, 2]
    assert smollm2.eos_token_ids == {0, 2}, "<|endoftext|> and <|im_end|> end an answer"
    assert smollm2.vocab_size == 49152


@pytest.mark.parametrize("text", ["\ud83d", "half a smile: \ud83d!"])
def test_half_a_surrogate_pair_is_refused(tokenizer: Tokenizer, text: str) -> None:
    with pytest.raises(
        ValueError, match=f"character {text.index(chr(0xD83D))} of the text.*is half a surrogate pair: take it out"
    ):
        tokenizer.encode(text)
    with pytest.raises(ValueError, match="half a surrogate pair"):
        tokenizer.apply_chat_template([{"role": "user", "content": text}])


def test_smollm2_chat_template(smollm2: Tokenizer) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "2+2?"},
    ]
    assert smollm2.decode(smollm2.apply_chat_template(messages)) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\nHello<|im_end|>\n"
        "<|im_start|>user\n2+2?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_byte_tokenizer_chat_template() -> None:
    tokenizer = ByteTokenizer()
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    tokens = tokenizer.apply_chat_template(messages)
    assert tokenizer.decode(tokens) == "<|system|>Be brief.<|end|><|user|>Hi<|end|><|assistant|>"
    assert len(tokenizer.eos_token_ids & {*tokens}) == 1, "<|end|> is one token, and ends an answer"
    assert max(tokens) < tokenizer.vocab_size
    with pytest.raises(ValueError, match="unknown role 'robot': choose one of system, user, assistant"):
        tokenizer.apply_chat_template([{"role": "robot", "content": "beep"}])
