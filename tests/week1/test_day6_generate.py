"""Week 1 Day 6: generating tokens, stopping, and streaming text."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import mlx.core as mx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from answer import answer
from oracles import LOGITS, CountingModel, CountUp, assert_close, embedded, embedded_oracle, mlx_lm_greedy, mlx_lm_model
from support import refuses
from tiny_llm_kit.models.tiny_random import ByteTokenizer, random_weights, tiny_config
from tiny_llm_kit.models.tokenizer import StreamingDetokenizer

# Task 1: the decode loop


def counter() -> CountingModel:
    """After token t comes t + 1."""
    return CountingModel(CountUp(tiny_config()))


def test_task_1_every_token_continues_the_last() -> None:
    got = list(answer.generate_tokens(counter(), [9, 5], 4))
    assert got == [6, 7, 8, 9], "after 9, 5 this model says 6, then 7, …: take the logits of the last position, append, repeat"
    assert all(type(token) is int for token in got), "token ids are plain ints"


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_task_1_tokens_are_mlx_lms(seed: int) -> None:
    config = tiny_config()
    weights, prompt = random_weights(config, seed), [10 * seed + i for i in (1, 200, 30, 7)]
    got = list(answer.generate_tokens(answer.Model(config, weights), prompt, 8))
    want = mlx_lm_greedy(mlx_lm_model(config, weights), prompt, 8)
    assert got == want, "each token depends on the whole sequence: put prompt and answer through the model"


@pytest.mark.parametrize(("eos", "want"), [({8}, [6, 7]), ([9, 8], [6, 7]), ({6}, []), ({5}, [6, 7, 8, 9]), ((), [6, 7, 8, 9])])
def test_task_1_an_end_token_ends_the_text_and_is_not_part_of_it(eos: Any, want: list[int]) -> None:
    got = list(answer.generate_tokens(counter(), [5], 4, eos_token_ids=eos))
    assert got == want, f"end tokens {eos}: the one that is generated is not yielded; one in the prompt means nothing"


@pytest.mark.parametrize("count", [0, 1, 5])
def test_task_1_it_stops_after_max_tokens(count: int) -> None:
    model = counter()
    got = list(answer.generate_tokens(model, [5], count))
    assert len(got) == count, f"max_tokens={count}, got {len(got)} tokens: check the loop's end"
    assert len(model.lengths) <= count, f"{len(model.lengths)} runs of the model for {count} tokens: one token, one run"


def test_task_1_tokens_come_as_soon_as_they_are_known() -> None:
    model = counter()
    tokens = answer.generate_tokens(model, [5], 100)
    for asked, want in enumerate([6, 7, 8], start=1):
        got = next(tokens)
        assert got == want, f"token {asked} of the answer is {want}, not {got}"
        assert len(model.lengths) <= asked, "yield a token before the next one is computed: a reader should not have to wait"


def test_task_1_an_empty_prompt_is_refused() -> None:
    model, look_at = counter(), "there is no token to continue: refuse an empty prompt before the model runs"
    with refuses(ValueError, look_at):
        list(answer.generate_tokens(model, [], 3))
    assert not model.lengths, look_at


@pytest.mark.parametrize("kind", [list, tuple])
def test_task_1_the_prompt_is_left_alone(kind: type) -> None:
    prompt = kind([3, 4])
    assert list(answer.generate_tokens(counter(), prompt, 2)) == [5, 6], f"the prompt may be a {kind.__name__}"
    assert prompt == kind([3, 4]), "the caller's prompt must not grow: append to a copy"


def test_task_1_the_sampler_chooses_from_the_last_logits() -> None:
    shapes, before, given = [], [], []

    def second_best(logits: mx.array, tokens: Sequence[int]) -> mx.array:
        shapes.append(logits.shape)
        before.append(list(tokens))
        given.append(logits)
        return mx.argsort(-logits)[1]

    config = tiny_config()
    weights, prompt = random_weights(config, 4), [72, 105]
    got = list(answer.generate_tokens(answer.Model(config, weights), prompt, 3, sampler=second_best))
    assert set(shapes) == {(config.vocab_size,)}, "a sampler takes the logits of one position, (V,)"
    assert before == [prompt + got[:i] for i in range(3)], "and all tokens before the one that is wanted"
    oracle = mlx_lm_model(config, weights)
    for i, token in enumerate(got):
        logits = oracle(mx.array([prompt + got[:i]]))[0, -1]
        hint = "a sampler is given the logits of the last position as the model gives them: no probabilities, nothing scaled"
        assert_close(given[i], logits, hint, LOGITS)
        assert token == mx.argsort(-logits)[1].item(), "the sampler decides which token comes next"


def test_task_1_the_real_model_answers_as_in_mlx_lm() -> None:
    loaded = embedded()
    prompt = loaded.tokenizer.apply_chat_template([{"role": "user", "content": "What is the capital of France?"}])
    got = list(answer.generate_tokens(answer.Model(loaded.config, loaded.weights), prompt, 20, loaded.tokenizer.eos_token_ids))
    want = mlx_lm_greedy(embedded_oracle(), prompt, len(got) + 1)
    assert want[-1] in loaded.tokenizer.eos_token_ids, "the answer should go on to the model's end token"
    assert got == want[:-1], f"got {loaded.tokenizer.decode(got)!r}, mlx-lm says {loaded.tokenizer.decode(want[:-1])!r}"


# Task 2: stop strings


def shown(stops: Any, pieces: Sequence[str]) -> str:
    """All that a reader sees of a text that comes in pieces."""
    text = ""
    for piece in pieces:
        text += stops.push(piece)
        if stops.stopped:
            return text
    return text + stops.flush()


@pytest.mark.parametrize("stops", [[], ["END"], ["END", "\n\n"]])
def test_task_2_text_without_a_stop_passes_at_once(stops: list[str]) -> None:
    stop = answer.StopStrings(stops)
    for piece in ("Hello", ", ", "world"):
        assert stop.push(piece) == piece, f"none of {stops} can begin in {piece!r}: show it now"
    assert not stop.stopped, f"no stop string of {stops} has come: `stopped` must not be set"


@pytest.mark.parametrize("pieces", [["one END two"], ["one EN", "D two"], ["one ", "E", "N", "D", " two"], [*"one END two"]])
def test_task_2_a_stop_string_may_come_in_pieces(pieces: list[str]) -> None:
    stop = answer.StopStrings(["END"])
    got = shown(stop, pieces)
    assert got == "one ", f"{pieces}: the text ends before the stop string, however it is cut; shown was {got!r}"
    assert stop.stopped, "`stopped` is set when a stop string is complete"


def test_task_2_what_could_become_a_stop_string_is_held_back() -> None:
    stop = answer.StopStrings(["END"])
    assert stop.push("the E") == "the ", '"E" may be the beginning of "END": hold it back, and nothing more'
    assert stop.push("N") == "", '"EN" may still become "END"'
    assert stop.push("E") == "EN", '"EN" has not become "END", so show it; the new "E" may be the beginning of one'
    assert not stop.stopped, '"END" has not been complete: `stopped` must not be set by what could become one'


def test_task_2_at_the_end_what_was_held_back_is_given() -> None:
    stop = answer.StopStrings(["END", "\n\n"])
    got = [stop.push("no E"), stop.push("N"), stop.flush()]
    assert "".join(got) == "no EN", f'"EN" was no stop string after all: flush gives it back. Got {got}'
    assert stop.flush() == "", "what flush has given is not held any more"


@pytest.mark.parametrize("stops", [["x", "yy"], ["yy", "x"]])
def test_task_2_the_first_stop_string_in_the_text_counts(stops: list[str]) -> None:
    assert shown(answer.StopStrings(stops), ["a x b yy"]) == "a ", "not the first in the list: the first in the text"
    assert shown(answer.StopStrings(stops), ["a yy b x"]) == "a ", "not the first in the list: the first in the text"


def test_task_2_the_longest_possible_beginning_is_held_back() -> None:
    stops = ["aab", "b!"]
    assert shown(answer.StopStrings(stops), ["x", "a", "a", "a", "b"]) == "xa", '"aaab": the stop "aab" begins at the second a'
    assert shown(answer.StopStrings(stops), ["ab", "!"]) == "a", "any of the stop strings may have begun"
    stop = answer.StopStrings(["abcde"])
    assert stop.push("abc") == "", '"abc" is shorter than the stop "abcde", and may become it: hold back all of it'
    assert stop.push("de") == "", '"abcde" is complete: none of it is shown'


stop_lists = st.lists(st.text("ab.", min_size=1, max_size=4), max_size=3)
piece_lists = st.lists(st.text("ab.", max_size=5), max_size=8)


@given(stop_lists, piece_lists)
def test_task_2_the_pieces_make_no_difference(stops: list[str], pieces: list[str]) -> None:
    text = "".join(pieces)
    starts = [(at + len(stop), at) for stop in stops if (at := text.find(stop)) >= 0]
    want = text[: min(starts)[1]] if starts else text
    stop = answer.StopStrings(stops)
    got = shown(stop, pieces)
    assert got == want, f"stops {stops}, pieces {pieces}: shown was {got!r}, expected {want!r}"
    assert stop.stopped == bool(starts), "`stopped` says whether a stop string was found"


@given(stop_lists, piece_lists)
def test_task_2_no_more_is_held_back_than_could_be_a_stop_string(stops: list[str], pieces: list[str]) -> None:
    stop, text, out = answer.StopStrings(stops), "", ""
    for piece in pieces:
        text, out = text + piece, out + stop.push(piece)
        if stop.stopped:
            return
        assert text.startswith(out), "show the text as it came: nothing twice, nothing left out"
        held = text[len(out) :]
        assert not held or any(s.startswith(held) for s in stops), f"{held!r} is held back, but none of {stops} begins so"


# Task 3: streaming text


class Feed:
    """An iterator over tokens that knows how many were taken."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self.tokens = tokens
        self.taken = 0

    def __iter__(self) -> Iterator[int]:
        for token in self.tokens:
            self.taken += 1
            yield token


def stream(text: str, stop: Sequence[str] = ()) -> list[str]:
    """The pieces in which a text comes, a byte a token."""
    tokenizer = ByteTokenizer()
    return list(answer.stream_text(tokenizer.encode(text), tokenizer.detokenizer(), stop))


@pytest.mark.parametrize("text", ["", "plain", "héllo — wörld", "🙂🙂", "日本語 and more"])
@pytest.mark.parametrize("stop", [(), ["END"]])
def test_task_3_the_pieces_are_the_text(text: str, stop: Sequence[str]) -> None:
    pieces = stream(text, stop)
    assert "".join(pieces) == text, f"with stops {stop}: the pieces, joined, are the text {text!r}, not {pieces}"
    assert "" not in pieces, "a token that completes no letter gives no piece: don't yield empty text"


def test_task_3_each_piece_comes_as_soon_as_it_is_final() -> None:
    tokenizer = ByteTokenizer()
    feed = Feed(tokenizer.encode("aé🙂b"))
    pieces = answer.stream_text(feed, tokenizer.detokenizer())
    for want, tokens in (("a", 1), ("é", 3), ("🙂", 7), ("b", 8)):
        got = next(pieces, None)
        assert got == want, f"the next letter is {want!r}, but the next piece is {got!r}: one piece for each letter"
        assert feed.taken == tokens, (
            f"{want!r} is complete after {tokens} tokens, but {feed.taken} were taken before it was shown"
        )


@pytest.mark.parametrize(
    ("text", "stop", "want"),
    [
        ("one\n\ntwo", ["\n\n"], "one"),
        ("one\ntwo\n\nthree", ["\n\n", "###"], "one\ntwo"),
        ("\n\n", ["\n\n"], ""),
        ("a é b", ["é"], "a "),
        ("no EN", ["END"], "no EN"),
        ("x y", ["y", "x"], ""),
    ],
)
def test_task_3_the_text_ends_before_the_first_stop_string(text: str, stop: list[str], want: str) -> None:
    got = "".join(stream(text, stop))
    assert got == want, f"{text!r} with stops {stop}, a byte a token: got {got!r}"


def test_task_3_no_token_is_asked_for_after_a_stop_string() -> None:
    tokenizer = ByteTokenizer()
    feed = Feed(tokenizer.encode("one END and more"))
    got = "".join(answer.stream_text(feed, tokenizer.detokenizer(), ["END"]))
    assert got == "one ", f"the text ends before the stop string: 'one ', not {got!r}"
    assert feed.taken == len("one END"), "the stop string is complete: every further token would be computed for nothing"


def test_task_3_endless_tokens_can_be_streamed() -> None:
    pieces = answer.stream_text(itertools.repeat(ord("a")), ByteTokenizer().detokenizer())
    assert list(itertools.islice(pieces, 3)) == ["a", "a", "a"], "don't wait for the last token"


def test_task_3_a_stop_string_may_lie_anywhere_in_the_tokens() -> None:
    words = ["Hello", " w", "orld S", "TO", "P and", " on"]

    def text_of(tokens: Sequence[int]) -> str:
        return "".join(words[token] for token in tokens)

    pieces = list(answer.stream_text(range(len(words)), StreamingDetokenizer(text_of), ["STOP"]))
    assert "".join(pieces) == "Hello world ", f"the stop string begins and ends inside of tokens; got {pieces}"


def test_task_3_a_letter_that_never_ends_is_let_go_at_the_end() -> None:
    tokenizer = ByteTokenizer()
    tokens = tokenizer.encode("aé")[:-1]
    got = "".join(answer.stream_text(tokens, tokenizer.detokenizer(), ["END"]))
    assert got == tokenizer.decode(tokens), "after the last token, call finalize() and show what it lets go"


def test_task_3_a_text_stream_is_the_same_one_token_at_a_time() -> None:
    tokenizer = ByteTokenizer()
    stream = answer.TextStream(tokenizer.detokenizer(), ["END"])
    pieces = [stream.push(token) for token in tokenizer.encode("aé E")]
    assert "".join(pieces) == "aé ", "each letter with its last token, and the E held back: it could begin a stop string"
    assert not stream.stopped, "no stop string is complete: `stopped` must not be set"
    assert stream.finish() == "E", "the tokens have ended without a stop string: the rest belongs to the text"


def test_task_3_after_a_stop_string_nothing_follows() -> None:
    tokenizer = ByteTokenizer()
    stream = answer.TextStream(tokenizer.detokenizer(), ["END"])
    got = "".join(stream.push(token) for token in tokenizer.encode("one END"))
    assert got == "one ", f"the text ends before the stop string: 'one ', not {got!r}"
    assert stream.stopped, "END is complete: `stopped` says so"
    rest = stream.finish()
    assert rest == "", f"after a stop string nothing belongs to the text, but finish() gave {rest!r}"


def test_task_3_a_stop_string_may_be_complete_only_at_the_end() -> None:
    tokenizer = ByteTokenizer()
    broken = "é".encode()[:1]
    replaced = broken.decode(errors="replace")  # what the detokenizer makes of a letter that never ends
    stream = answer.TextStream(tokenizer.detokenizer(), [replaced])
    got = "".join(stream.push(token) for token in [*b"ab", *broken])
    assert got == "ab", f"two letters, and the beginning of a third: 'ab' is final, not {got!r}"
    assert (stream.finish(), stream.stopped) == ("", True), "finalize() gives text like any other: look for stop strings in it"
