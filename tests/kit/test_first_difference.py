"""What a test says of a wrong answer: which call of the model, which row and which layer it comes from."""

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import pytest

from support import ToyModel, alone, assert_alone, make_prompt
from tiny_llm_ref import KvCache

PROMPT, COUNT, CHUNK = make_prompt(7), 6, 4


def serve(
    toy: ToyModel,
    feed: Callable[[int, int], tuple[int, int]] = lambda token, position: (token, position),
    spoil: Callable[[list[KvCache]], None] = lambda caches: None,
    hand_out: Callable[[int], int] = lambda token: token,
) -> Any:
    """A finished request: its prompt in two chunks, then a token at a time. The arguments are what may go wrong.

    Args:
        feed: the token and the position that the model is given, from the right ones.
        spoil: called with the caches of all layers when the prompt is there.
        hand_out: the token that the request gets, from the right one.
    """
    caches, answer = [KvCache() for _ in toy.layers], []
    toy.begin_test()
    toy(mx.array([PROMPT[:CHUNK]]), 0, caches, logits_to_keep=0)
    logits = toy(mx.array([PROMPT[CHUNK:]]), CHUNK, caches, logits_to_keep=1)
    spoil(caches)
    for position in range(len(PROMPT), len(PROMPT) + COUNT):
        token = int(logits[0, -1].argmax())
        answer.append(hand_out(token))
        token, position = feed(token, position)
        logits = toy(mx.array([[token]]), mx.array([position]), caches, mask=None)
    return SimpleNamespace(
        request_id=3,
        prompt=PROMPT,
        max_tokens=COUNT,
        eos_token_ids=(),
        error=None,
        finish_reason="length",
        generated_tokens=answer,
    )


def message(toy: ToyModel, request: Any) -> str:
    with pytest.raises(AssertionError) as caught:
        assert_alone(toy, request)
    return str(caught.value)


def test_a_right_answer_is_right() -> None:
    toy = ToyModel()
    assert_alone(toy, serve(toy))


@pytest.mark.parametrize("layer", [0, 1])
def test_the_layer_whose_cache_is_spoiled_is_named(layer: int) -> None:
    def spoil(caches: list[KvCache]) -> None:
        caches[layer].values[:, :, 2] += 3

    toy = ToyModel()
    said = message(toy, serve(toy, spoil=spoil))
    assert re.match(r"token \d of request 3 \(a prompt of 7 tokens\) is '.', alone it is '.': position 7 was the first", said)
    assert "in call 3 of the model (one token), row 0" in said
    assert ("layer 0 differs already" if layer == 0 else "layer 1 is the first that differs") in said


def test_a_position_that_is_off_is_named() -> None:
    toy = ToyModel()
    said = message(toy, serve(toy, feed=lambda token, position: (token, position + 2 * (position > 8))))
    assert "no call of the model has computed its token 2 at position 9, but call 5 of the model (one token), row 0" in said
    assert "has at 11: look at the offsets" in said


def test_a_token_that_is_not_the_right_one_is_named() -> None:
    toy = ToyModel()
    said = message(toy, serve(toy, feed=lambda token, position: (65 if position == 8 else token, position)))
    assert "has computed its token 1 at position 8, but call 4 of the model (one token), row 0 has computed 65 there" in said


def test_the_token_of_somebody_else_is_named() -> None:
    toy, counted = ToyModel(), iter(range(COUNT))
    said = message(toy, serve(toy, hand_out=lambda token: token ^ (next(counted) == 2)))
    assert (
        "its logits in call 4 of the model (one token), row 0 were right: look at which request is given which row's token"
        in said
    )


def test_an_answer_that_is_too_short_says_so() -> None:
    toy = ToyModel()
    request = serve(toy)
    request.generated_tokens.pop()
    assert "got 5 tokens, alone it gets 6: the first 5 are right" in message(toy, request)
    assert request.generated_tokens == alone(toy, PROMPT, 5)


def test_notes_keep_no_cache_alive() -> None:
    """Of a chunk whose logits nobody wants, the last layer's output is never computed, and would hold on to its caches."""
    toy, caches = ToyModel(), [KvCache(), KvCache()]
    toy(mx.array([PROMPT]), 0, caches, logits_to_keep=0)
    mx.eval([[cache.keys, cache.values] for cache in caches])
    (call,) = toy.calls
    before = mx.get_active_memory()
    size = sum(cache.keys.nbytes + cache.values.nbytes for cache in caches)
    del caches
    assert before - mx.get_active_memory() >= size
    assert len(call.states) == 2
