"""Week 1 Day 7: the filters against NumPy, and a sampler that nothing else can disturb."""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from answer import answer
from oracles import assert_close, normal, softmax64, to_numpy
from support import refuses

# From a grid, so that ties are common and differences large against rounding; −inf is what an earlier step ruled out.
scores = st.lists(st.integers(-40, 40).map(lambda n: n / 4) | st.just(-np.inf), min_size=1, max_size=12).filter(
    lambda logits: max(logits) > -np.inf
)
distinct_scores = st.lists(st.integers(-40, 40).map(lambda n: n / 4), min_size=1, max_size=12, unique=True)


def assert_kept(got: mx.array, logits: mx.array, kept: np.ndarray, hint: str) -> None:
    assert_close(got, np.where(kept, to_numpy(logits), -np.inf), f"{hint} (−inf: ruled out; the others as they were)", 1e-6)


# Task 1: top-k


@pytest.mark.parametrize("k", [1, 2, 49])
def test_task_1_top_k_keeps_the_k_largest(k: int) -> None:
    logits = normal(50, seed=k, size=3.0)
    kept = to_numpy(logits) >= np.sort(to_numpy(logits))[-k]
    assert_kept(answer.top_k(logits, k), logits, kept, f"the {k} largest of 50")


@pytest.mark.parametrize("k", [0, 5, 6, 1000])
def test_task_1_top_k_of_0_or_of_everything_keeps_all(k: int) -> None:
    logits = normal(5, seed=1)
    assert_kept(answer.top_k(logits, k), logits, np.ones(5, bool), f"k = {k} of 5 tokens: 0 keeps all, and so does too many")


def test_task_1_top_k_keeps_ties() -> None:
    logits = mx.array([1.0, 3.0, 2.0, 2.0, 2.0, 0.0])
    want = np.array([0, 1, 1, 1, 1, 0], dtype=bool)
    assert_kept(answer.top_k(logits, 2), logits, want, "tokens that tie with the 2nd largest stay")


@given(scores, st.integers(1, 14))
def test_task_1_top_k_of_any_logits(values: list[float], k: int) -> None:
    kept = np.array(values) >= np.sort(values)[-min(k, len(values))]
    assert_kept(answer.top_k(mx.array(values), k), mx.array(values), kept, f"the {k} largest of {values}")


# Task 2: top-p


def log(probabilities: list[float]) -> mx.array:
    """Logits that give these probabilities."""
    return mx.log(mx.array(probabilities))


@pytest.mark.parametrize(
    ("p", "want"),
    [(0.05, [0, 0, 1, 0]), (0.45, [0, 0, 1, 0]), (0.55, [0, 1, 1, 0]), (0.85, [1, 1, 1, 0]), (0.98, [1, 1, 1, 1])],
)
def test_task_2_top_p_keeps_tokens_until_p_is_reached(p: float, want: list[int]) -> None:
    logits = log([0.15, 0.3, 0.5, 0.05])
    hint = f"of 0.5, 0.3, 0.15, 0.05 keep the most likely ones up to AND WITH the one that reaches {p}"
    assert_kept(answer.top_p(logits, p), logits, np.array(want, bool), hint)


def test_task_2_top_p_of_1_keeps_all() -> None:
    logits = mx.array([30.0, 0.0, -30.0, 10.0])
    assert_kept(answer.top_p(logits, 1.0), logits, np.ones(4, bool), "1 keeps all, also those of probability 1e-26")


def test_task_2_the_most_likely_token_always_stays() -> None:
    logits = normal(100, seed=2, size=0.1)
    kept = to_numpy(logits) == to_numpy(logits).max()
    assert_kept(answer.top_p(logits, 1e-6), logits, kept, "p below the largest probability: one token stays, not none")


def test_task_2_top_p_counts_what_an_earlier_step_left() -> None:
    logits = mx.array([2.0, -mx.inf, 1.0, -mx.inf, 0.0])
    # Probabilities 0.67, 0.24, 0.09 of what is left.
    want = np.array([1, 0, 1, 0, 0], bool)
    assert_kept(answer.top_p(logits, 0.8), logits, want, "−inf has no probability and stays ruled out")


@given(distinct_scores, st.floats(0.01, 0.99))
def test_task_2_top_p_of_any_logits(values: list[float], p: float) -> None:
    order = np.argsort(values)[::-1]
    before = np.cumsum(softmax64(values)[order]) - softmax64(values)[order]
    assume(np.abs(before - p).min() > 1e-4)  # at a sum of exactly p, rounding decides
    kept = np.zeros(len(values), bool)
    kept[order[before < p]] = True
    assert_kept(answer.top_p(mx.array(values), p), mx.array(values), kept, f"p = {p}, probabilities {softmax64(values)}")


@pytest.mark.parametrize("p", [1e-9, 1e-46])
def test_task_2_top_p_always_keeps_the_most_likely(p: float) -> None:
    logits = mx.array([0.0, 1.0, 3.0, 2.0])
    kept = np.arange(4) == 2
    assert_kept(answer.top_p(logits, p), logits, kept, f"p = {p}: the first token always stays, also when p is 0 in float32")


# Task 3: min-p


@pytest.mark.parametrize(("p", "want"), [(0.05, [1, 1, 1, 1]), (0.2, [1, 1, 1, 0]), (0.5, [0, 1, 1, 0]), (0.9, [0, 0, 1, 0])])
def test_task_3_min_p_is_relative_to_the_most_likely_token(p: float, want: list[int]) -> None:
    logits = log([0.15, 0.3, 0.51, 0.04])
    hint = f"keep tokens with at least {p} times the probability of the most likely one, 0.51"
    assert_kept(answer.min_p(logits, p), logits, np.array(want, bool), hint)


def test_task_3_min_p_of_0_keeps_all_and_of_1_the_most_likely() -> None:
    logits = mx.array([0.5, 2.0, -80.0, 2.0])
    assert_kept(answer.min_p(logits, 0.0), logits, np.ones(4, bool), "0 keeps all")
    assert_kept(answer.min_p(logits, 1.0), logits, np.array([0, 1, 0, 1], bool), "1 keeps the most likely, and its ties")


@given(scores, st.floats(0.001, 0.999))
def test_task_3_min_p_of_any_logits(values: list[float], p: float) -> None:
    probabilities = softmax64(values)
    ratio = probabilities / probabilities.max()
    assume(np.abs(ratio / p - 1).min() > 1e-4)  # at a ratio of exactly p, rounding decides
    assert_kept(answer.min_p(mx.array(values), p), mx.array(values), ratio >= p, f"p = {p}, ratios to the largest {ratio}")


# Task 4: the repetition penalty


@pytest.mark.parametrize("penalty", [1.3, 2.0, 0.5, 1.0])
def test_task_4_the_penalty_pushes_seen_tokens_down(penalty: float) -> None:
    logits = mx.array([2.0, -3.0, 0.25, -0.25, 0.0, 1.5, -0.5, -mx.inf])
    seen = mx.array([True, True, True, True, True, False, False, True])
    want = [2.0 / penalty, -3.0 * penalty, 0.25 / penalty, -0.25 * penalty, 0.0, 1.5, -0.5, -np.inf]
    hint = f"penalty {penalty}: positive logits of seen tokens are divided, negative ones multiplied, the others untouched"
    assert_close(answer.repetition_penalty(logits, seen, penalty), want, hint)


def test_task_4_nothing_seen_nothing_changed() -> None:
    logits = normal(20, seed=1)
    assert_close(answer.repetition_penalty(logits, mx.zeros(20, mx.bool_), 5.0), logits, "no token was seen")


# Task 5: a sampler with its own seed


def draw(sampler: Any, logits: mx.array, count: int, prompt: Sequence[int] = ()) -> list[int]:
    """An answer of `count` tokens, for a model that always gives these logits."""
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(int(sampler(logits, list(tokens)).item()))
    return tokens[len(prompt) :]


def sampler(**params: float) -> Any:
    return answer.Sampler(answer.SamplingParams(**params))


def assert_distribution(draws: list[int], probabilities: np.ndarray, hint: str) -> None:
    """Pearson's chi-square: with 5 degrees of freedom, right draws exceed 36 once in a million seeds."""
    counts = np.bincount(draws, minlength=6)
    impossible = probabilities == 0
    assert counts[impossible].sum() == 0, f"{hint}: tokens that are ruled out were drawn, {counts}"
    expected = len(draws) * probabilities[~impossible]
    chi_square = ((counts[~impossible] - expected) ** 2 / expected).sum()
    assert chi_square < 36, f"{hint}: drawn {counts[~impossible]}, expected about {expected.round()}"


LOGITS = mx.array([2.0, 1.0, 0.5, 0.0, -0.5, -1.0])


def test_task_5_temperature_0_takes_the_most_likely_token() -> None:
    token = sampler(temperature=0.0)(LOGITS[::-1], [3, 1])
    assert token.shape == (), "a sampler gives one token id, a scalar array"
    assert mx.issubdtype(token.dtype, mx.integer), "a token id is an integer"
    assert token.item() == 5, "temperature 0 means the largest logit"


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_task_5_temperature_divides_the_logits(temperature: float) -> None:
    draws = draw(sampler(temperature=temperature, seed=1), LOGITS, 3000)
    hint = f"temperature {temperature}: tokens are drawn with probability softmax(logits / temperature)"
    assert_distribution(draws, softmax64(to_numpy(LOGITS) / temperature), hint)


def test_task_5_logits_in_half_precision_are_drawn_from_in_float32() -> None:
    # 2,000 tokens, each with a part of a thousandth: bfloat16 knows three digits, and its cumulative sum fewer.
    logits, tokens = normal(2000, seed=6).astype(mx.bfloat16), [[5] * length for length in range(64)]
    one = sampler(temperature=0.7, top_p=0.9, seed=6)
    other = sum(one(logits, before).item() != one(logits.astype(mx.float32), before).item() for before in tokens)
    # Three, for answers that subtract the largest logit before they turn to float32.
    assert other <= 3, f"{other} of 64 tokens are not those of the same logits in float32: cast before you divide"


def test_task_5_a_drawn_token_is_a_scalar_integer() -> None:
    token = sampler(temperature=1.0)(LOGITS, [3, 1])
    assert token.shape == (), "a sampler gives one token id, a scalar array"
    assert mx.issubdtype(token.dtype, mx.integer), "a token id is an integer"


def filtered(keep: int) -> np.ndarray:
    return softmax64(np.where(np.arange(6) < keep, to_numpy(LOGITS), -np.inf))


# The probabilities of LOGITS are 0.54, 0.20, 0.12, 0.07, 0.04, 0.03.
@pytest.mark.parametrize(
    ("params", "keep"),
    [
        ({"top_k": 2}, 2),
        ({"top_p": 0.7}, 2),
        ({"min_p": 0.2}, 3),
        ({"top_k": 4, "min_p": 0.3}, 2),
        ({"top_k": 5, "top_p": 0.9, "min_p": 0.01}, 4),
        ({"top_k": 2, "top_p": 0.7}, 1),  # of the two that top-k leaves, the first has 0.73
        ({"top_p": 0.85, "min_p": 0.2}, 3),  # three reach 0.856; if min-p came first, two of its three would reach 0.85
        ({"top_k": 4, "top_p": 0.9, "min_p": 0.13}, 3),  # top-p counts in four: 0.58, 0.79, 0.92
    ],
)
def test_task_5_the_filters_apply(params: dict[str, float], keep: int) -> None:
    draws = draw(sampler(temperature=1.0, seed=2, **params), LOGITS, 1500)
    assert_distribution(draws, filtered(keep), f"{params} leaves {keep} tokens; the order is top-k, top-p, min-p")


def test_task_5_temperature_comes_before_the_filters() -> None:
    # At temperature 3 the probabilities are 0.28, 0.20, 0.17, 0.14, 0.12, 0.10: four of them reach 0.7, not two.
    want = softmax64(np.where(np.arange(6) < 4, to_numpy(LOGITS) / 3, -np.inf))
    draws = draw(sampler(temperature=3.0, top_p=0.7, seed=3), LOGITS, 1500)
    assert_distribution(draws, want, "top-p looks at the probabilities after the temperature")


@pytest.mark.parametrize(("temperature", "keep"), [(3.0, 4), (1.0, 1), (0.4, 1)])
def test_task_5_min_p_looks_at_the_probabilities_after_the_temperature(temperature: float, keep: int) -> None:
    # At temperature 3 the ratios to the largest are 1, 0.72, 0.61, 0.51, 0.43, 0.37; at 1 the second is 0.37.
    want = softmax64(np.where(np.arange(6) < keep, to_numpy(LOGITS) / temperature, -np.inf))
    draws = draw(sampler(temperature=temperature, min_p=0.5, seed=4), LOGITS, 1500)
    hint = f"temperature {temperature}, min_p 0.5 leaves {keep} tokens: min-p comes last, and looks at what the others left"
    assert_distribution(draws, want, hint)


def test_task_5_a_seed_decides_what_is_drawn() -> None:
    flat = mx.zeros(1000)
    first, again, other = (draw(sampler(temperature=1.0, seed=seed), flat, 20) for seed in (7, 7, 8))
    assert first == again, "the same seed must draw the same tokens"
    assert first != other, "another seed must draw other tokens"
    assert len(set(first)) > 10, "every draw needs a fresh key: the same token comes again and again"


def test_task_5_a_neighbour_changes_nothing() -> None:
    flat = mx.zeros(1000)
    alone = draw(sampler(temperature=1.0, seed=7), flat, 20)
    mine, neighbour, together = sampler(temperature=1.0, seed=7), sampler(temperature=1.0, seed=7), []
    for i in range(20):
        mx.random.seed(i)
        draw(neighbour, flat, 1 + i % 3)
        together += draw(mine, flat, 1, together)
    assert together == alone, "a sampler's randomness is its own: no global seed, nothing shared with another sampler"


@pytest.mark.parametrize("penalty", [1.0, 1.5])
def test_task_5_a_draw_that_is_thrown_away_leaves_no_trace(penalty: float) -> None:
    logits = normal(50, seed=8)
    params = {"temperature": 1.0, "repetition_penalty": penalty, "seed": 3}
    want = draw(sampler(**params), logits, 12, [4, 9])
    one, got = sampler(**params), []
    for _ in range(12):
        once, again = one(logits, [4, 9, *got]), one(logits, [4, 9, *got])
        assert once.item() == again.item(), "a draw is a function: the same seed and the same tokens before it, the same token"
        one(logits, [1, 2, 3, 4, 5])
        got.append(int(again.item()))
    assert got == want, "what is drawn follows from the seed and the tokens before it, not from how many draws came before"


def test_task_5_every_position_has_a_draw_of_its_own() -> None:
    flat = mx.zeros(1000)
    drawn = [int(sampler(temperature=1.0, seed=7)(flat, [5] * length).item()) for length in range(40)]
    assert len(set(drawn)) > 30, "the position is a part of the key: without it the same token would come again and again"
    other = [int(sampler(temperature=1.0, seed=8)(flat, [5] * length).item()) for length in range(40)]
    assert len({*drawn} & {*other}) < 10, "two seeds must not draw the same tokens a few positions apart"


def test_task_5_the_last_token_may_still_be_on_the_device() -> None:
    logits = normal(50, seed=9)
    for params in ({"temperature": 1.0, "seed": 4}, {"temperature": 1.0, "repetition_penalty": 3.0, "seed": 4}):
        unread = mx.array([7, 31], dtype=mx.uint32)[1]
        got = [sampler(**params)(logits, tokens).item() for tokens in ([5, 31], [5, unread])]
        assert got[0] == got[1], "a scalar array among the tokens stands for the id in it"
    high = mx.where(mx.arange(50) == 31, 9.0, logits)
    penalized = sampler(repetition_penalty=100.0)
    assert penalized(high, [5, unread]).item() != 31, "a token that has not been read yet has been seen all the same"
    assert penalized(high, [5]).item() == 31, "token 31 has the largest logit, and only token 5 has been seen"


def test_task_5_the_penalty_counts_the_prompt() -> None:
    logits = mx.array([2.0, 1.8, 1.0, -1.0])
    for prompt in ([0, 3], [0, 0, 0]):
        got = draw(sampler(repetition_penalty=1.5), logits, 1, prompt)
        assert got == [1], f"the prompt {prompt} holds token 0: its logit 2.0 / 1.5 is below 1.8, even with temperature 0"


def test_task_5_the_penalty_counts_what_was_drawn() -> None:
    logits = mx.array([2.0, 1.8, 1.5, 0.1])
    got = draw(sampler(repetition_penalty=1.5), logits, 4)
    assert got == [0, 1, 2, 0], (
        f"each drawn token counts as seen from then on, once: 2.0, 1.8, 1.5, and then 2.0 / 1.5 again; got {got}"
    )


def test_task_5_the_penalty_comes_before_the_draw() -> None:
    one = sampler(temperature=0.8, repetition_penalty=2.0, seed=1)
    draws = [int(one(LOGITS, [0, 5] * length).item()) for length in range(1, 1501)]  # tokens 0 and 5, at many positions
    want = softmax64(np.array([1.0, 1.0, 0.5, 0.0, -0.5, -2.0]) / 0.8)
    assert_distribution(draws, want, "tokens 0 and 5 have been seen: 2.0 becomes 2.0 / 2, −1.0 becomes −1.0 · 2")


def test_task_5_without_a_penalty_the_tokens_themselves_do_not_matter() -> None:
    flat = mx.zeros(50)
    got, want = (draw(sampler(temperature=1.0, seed=5), flat, 20, prompt) for prompt in ([1, 2, 3], [9, 9, 9]))
    assert got == want, "repetition_penalty 1 is off"


@pytest.mark.parametrize(
    "bad",
    [
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"temperature": 1e-30},  # float32 cannot divide by it
        {"temperature": True},
        {"top_k": -1},
        {"top_k": 2.5},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"top_p": "0.9"},
        {"min_p": -0.1},
        {"repetition_penalty": 0.0},
        {"seed": -1},
        {"seed": 2**32},
        {"seed": 1.0},
    ],
)
def test_task_5_bad_parameters_are_refused(bad: dict[str, Any]) -> None:
    token = sampler(seed=2**32 - 1, temperature=1)(LOGITS, [1])
    assert token.shape == (), f"a large seed and a whole number as temperature are fine: a scalar array, not {token.shape}"
    with refuses(ValueError, f"{bad} is out of range: SamplingParams, which is given, refuses it", named=next(iter(bad))):
        answer.SamplingParams(**bad)
