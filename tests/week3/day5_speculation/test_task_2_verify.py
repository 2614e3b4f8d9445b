"""Week 3 Day 5, task 2: draw at every place with the request's own key, and accept while the draft is equal."""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import pytest

from answer import answer
from day6_engines import UnreadableModel
from launching_ahead import waits_for_nothing
from oracles import normal
from speculating import Knowing
from support import ToyModel, make_prompt, refuses

VOCABULARY = 24

SAMPLINGS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "drawn": {"temperature": 1.5, "seed": 3},
    "filtered": {"temperature": 0.9, "top_k": 8, "top_p": 0.9, "min_p": 0.01, "seed": 4},
    "penalized": {"repetition_penalty": 1.6},
    "drawn and penalized": {"temperature": 1.2, "repetition_penalty": 1.4, "seed": 5},
}

each_sampling = pytest.mark.parametrize("params", SAMPLINGS.values(), ids=SAMPLINGS.keys())


def sampler_of(**params: Any) -> Any:
    return answer.Sampler(answer.SamplingParams(**params))


# What is kept


@pytest.mark.parametrize(
    ("drafts", "drawn", "kept", "why"),
    [
        ([5, 6, 7], [5, 6, 7, 8], [5, 6, 7, 8], "all drafts are right, and the token after them is drawn as well"),
        ([5, 6, 7], [5, 6, 1, 8], [5, 6, 1], "the third draft is wrong: what was drawn in its place is right"),
        ([5, 6, 7], [9, 6, 7, 8], [9], "the first is wrong: those after it are equal by chance, drawn after a wrong token"),
        ([5, 6, 7], [5, 1, 7, 8], [5, 1], "the second is wrong, and nothing after it counts"),
        ([5, 5, 5], [5, 5, 5, 5], [5, 5, 5, 5], "equal tokens are drafts like any other"),
        ([5, 5], [5, 6, 7], [5, 6], "the second draft is what was drawn before it, and not in its place"),
        ([5, 6], [6, 5, 7], [6], "each draft was drawn in the place of the other"),
        ([5], [5, 2], [5, 2], "one draft, which is right"),
        ([5], [2, 5], [2], "one draft, which is wrong"),
        ([], [4], [4], "without drafts, a step yields its one token"),
    ],
)
def test_task_2_what_is_kept_of_what_was_drawn(drafts: list[int], drawn: list[int], kept: list[int], why: str) -> None:
    got = answer.matches(drawn, drafts)
    assert got == kept, f"{why}: drafts {drafts}, drawn {drawn}: kept {got}, expected {kept}"
    assert answer.matches(tuple(drawn), tuple(drafts)) == kept, "any sequence will do; what is kept is a list"


@pytest.mark.parametrize(("drafts", "drawn"), [([5, 6], [5, 6]), ([5, 6], [5, 6, 7, 8]), ([], []), ([5], [])])
def test_task_2_one_token_more_than_drafts_must_be_drawn(drafts: list[int], drawn: list[int]) -> None:
    with refuses(ValueError, f"{len(drawn)} tokens drawn for {len(drafts)} drafts: one more than drafts is needed"):
        answer.matches(drawn, drafts)


def test_task_2_what_was_drawn_is_left_alone() -> None:
    drawn, drafts = [5, 6, 7], [5, 6]
    answer.matches(drawn, drafts).append(9)
    assert (drawn, drafts) == ([5, 6, 7], [5, 6]), "matches changes neither of its lists, and returns neither"


# Drawing


@each_sampling
@pytest.mark.parametrize("count", [0, 1, 4])
def test_task_2_each_place_draws_as_a_single_step_would(params: dict[str, Any], count: int) -> None:
    """The sampler of week 1 day 7 is asked for each place alone, with the tokens before it."""
    sampler, tokens, drafts = sampler_of(**params), make_prompt(6, seed=7), [3, 3, 17, 9][:count]
    tokens = [token % VOCABULARY for token in tokens]
    logits = normal(count + 1, VOCABULARY, seed=count, size=2)
    got = answer.draw(logits, drafts, sampler, tokens)
    assert isinstance(got, mx.array), f"draw returns an array that has not been read, not {type(got).__name__}"
    assert got.shape == (count + 1,), f"a token for each of {count + 1} rows, in one array: the shape is {got.shape}"
    expected = [int(sampler(logits[place], [*tokens, *drafts[:place]])) for place in range(count + 1)]
    assert got.tolist() == expected, f"each place with its own key, and the tokens and drafts before it: {got}, not {expected}"


class Noting:
    """A sampler of another kind: it notes the tokens that it is given, and draws how many they are."""

    greedy = False

    def __init__(self) -> None:
        self.given: list[list[int]] = []

    def __call__(self, logits: mx.array, tokens: Sequence[int]) -> mx.array:
        self.given.append([int(token) for token in tokens])
        return mx.array(len(tokens), dtype=mx.uint32)


def test_task_2_each_place_knows_the_tokens_before_it() -> None:
    noting = Noting()
    got = answer.draw(mx.zeros((4, VOCABULARY)), [7, 8, 9], noting, [1, 2])
    expected = [[1, 2], [1, 2, 7], [1, 2, 7, 8], [1, 2, 7, 8, 9]]
    assert sorted(noting.given, key=len) == expected, f"a place is given what comes before it, drafts included: {noting.given}"
    assert got.tolist() == [2, 3, 4, 5], "the tokens are in the order of the rows, each where its own row was"


def test_task_2_the_penalty_sees_the_drafts() -> None:
    logits = mx.array([[5.0, 4.0, 0.0, 0.0]] * 3)
    got = answer.draw(logits, [0, 1], sampler_of(repetition_penalty=2.0), [3]).tolist()
    assert got[0] == 0, "only token 3 has been seen, and 5 is the largest logit"
    assert got[1] == 1, "the first draft is token 0: after it, 5 / 2 is less than 4"
    assert got[2] == 0, "after both drafts both count half"


def test_task_2_drafts_are_not_seen_before_their_place() -> None:
    logits = mx.array([[5.0, 4.0, 0.0, 0.0]] * 3)
    got = answer.draw(logits, [2, 0], sampler_of(repetition_penalty=2.0), [3]).tolist()
    assert got[:2] == [0, 0], "token 0 is the second draft, so the first two places know nothing of it"


def test_task_2_places_draw_independently() -> None:
    """From even logits, a sampler that used one key for all places would draw one token for all."""
    got = answer.draw(mx.zeros((9, 1000)), [1] * 8, sampler_of(temperature=1.0, seed=9), [5]).tolist()
    assert len(set(got)) > 4, f"nine draws from a thousand equally likely tokens, each with its own key: {got}"


def test_task_2_what_is_drawn_depends_on_no_later_draft() -> None:
    sampler, logits = sampler_of(temperature=1.0, repetition_penalty=1.5, seed=2), normal(5, VOCABULARY, seed=1)
    one = answer.draw(logits, [3, 4, 5, 6], sampler, [1, 2]).tolist()
    other = answer.draw(logits, [3, 4, 20, 21], sampler, [1, 2]).tolist()
    assert one[:3] == other[:3], "the drafts differ from the third on, and the first three draws come before it"


@each_sampling
def test_task_2_draw_waits_for_nothing(toy: ToyModel, params: dict[str, Any]) -> None:
    model = UnreadableModel(toy)
    model.broken = True
    tokens, drafts = make_prompt(5), [65, 66]
    logits = model(mx.array([[*tokens, *drafts]]), logits_to_keep=3)[0]
    with waits_for_nothing("draw"):
        answer.draw(logits, drafts, sampler_of(**params), tokens)


@pytest.mark.parametrize(("rows", "count"), [(2, 2), (4, 2), (1, 3), (1, 1)])
@pytest.mark.parametrize("params", [{}, {"temperature": 1.0}], ids=["greedy", "drawn"])
def test_task_2_one_row_more_than_drafts_is_needed(rows: int, count: int, params: dict[str, Any]) -> None:
    with refuses(ValueError, f"{rows} rows of logits for {count} drafts: one more than drafts is needed"):
        answer.draw(mx.zeros((rows, VOCABULARY)), [1] * count, sampler_of(**params), [2])


# Both, read back


def unspeculated(model: ToyModel, sampler: Any, prompt: Sequence[int], count: int) -> list[int]:
    """The answer, a token per step; each with all that comes before it."""
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(int(sampler(model(mx.array([tokens]), logits_to_keep=1)[0, -1], tokens)))
    return tokens[len(prompt) :]


@each_sampling
@pytest.mark.parametrize("right", [4, 2, 0], ids=["an oracle", "half right", "an adversary"])
def test_task_2_an_answer_is_the_same_with_any_drafts(toy: ToyModel, params: dict[str, Any], right: int) -> None:
    sampler, prompt = sampler_of(**params), make_prompt(7, seed=2)
    expected = unspeculated(toy, sampler, prompt, 14)
    drafter = Knowing([[*prompt, *expected]], right)
    tokens, steps = list(prompt), 0
    while len(tokens) < len(prompt) + 14:
        drafts = drafter.propose(tokens, min(4, len(prompt) + 14 - len(tokens) - 1))
        logits = toy(mx.array([[*tokens, *drafts]]), logits_to_keep=len(drafts) + 1)[0]
        kept = answer.accept(logits, drafts, sampler, tokens)
        assert type(kept) is list, f"a list of ints, not {kept!r}"
        assert kept, "a step yields one token at least"
        assert {type(token) for token in kept} == {int}, f"the tokens are read back, as ints: {kept!r}"
        tokens += kept
        steps += 1
    got = tokens[len(prompt) :]
    assert got == expected, f"no draft changes a token: {got}, without drafts {expected}"
    needed = {4: 3, 2: 5, 0: 14}[right]
    assert steps == needed, f"{right} drafts and one token more are kept in a step, so {needed} steps are needed, not {steps}"


def test_task_2_drafts_of_an_oracle_are_all_kept() -> None:
    logits = mx.array([[0.0, 9.0, 0.0], [0.0, 0.0, 9.0], [9.0, 0.0, 0.0]])
    drafts = Knowing([[7, 1, 2, 0]]).propose([7], 2)
    assert answer.accept(logits, drafts, sampler_of(), [7]) == [1, 2, 0], "both drafts are what the model says, and 0 follows"


def test_task_2_accept_refuses_what_draw_refuses() -> None:
    with refuses(ValueError, "two rows for two drafts: one more than drafts is needed"):
        answer.accept(mx.zeros((2, VOCABULARY)), [1, 2], sampler_of(), [2])
