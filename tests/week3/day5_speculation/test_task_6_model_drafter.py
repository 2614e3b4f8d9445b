"""Week 3 Day 5, task 6: a small model drafts, and keeps what it has computed as far as the answer agrees."""

from collections.abc import Iterator, Sequence
from typing import Any

import mlx.core as mx
import pytest

from answer import answer
from support import BrokenModelError, CountingModel, FragileModel, ToyModel, alone, make_prompt, refuses

PROMPT = make_prompt(9, seed=1)


@pytest.fixture
def counting(toy: ToyModel) -> CountingModel:
    return CountingModel(toy)


@pytest.fixture
def drafter(counting: CountingModel) -> Any:
    return answer.ModelDrafter(counting)


def assert_drafts(toy: ToyModel, drafter: Any, tokens: Sequence[int], look_at: str, count: int = 4) -> list[int]:
    """It proposes what the small model alone says after these tokens."""
    __tracebackhide__ = True
    got, expected = drafter.propose(tokens, count), alone(toy, tokens, count)
    assert got == expected, f"{look_at}: {got}, alone the model goes on with {expected}"
    return expected


def computed(counting: CountingModel) -> int:
    """How many tokens the model has been given since this was last asked."""
    tokens = sum(rows * length for rows, length in counting.calls)
    counting.calls.clear()
    return tokens


def continuations(toy: ToyModel, drafts: Sequence[int]) -> Iterator[tuple[str, list[int]]]:
    """What may follow a draft in the answer."""
    wrong = 65 if drafts[0] != 65 else 66
    yield "all drafts were right", [*drafts, wrong]
    yield "two drafts were right", [*drafts[:2], wrong if drafts[2] != wrong else wrong + 2]
    yield "no draft was right", [wrong]
    yield "one draft was right, and nothing was drafted for some steps", [drafts[0], wrong + 5, 70, 71, 72, 73, 74]
    yield "nothing has come", []


@pytest.mark.parametrize("count", [1, 2, 6])
def test_task_6_it_proposes_what_the_small_model_says(toy: ToyModel, drafter: Any, count: int) -> None:
    got = drafter.propose(PROMPT, count)
    assert type(got) is list, f"a list, not {type(got).__name__}"
    assert [type(token) for token in got] == [int] * count, f"{count} ints, not {got!r}"
    assert got == alone(toy, PROMPT, count), f"the most likely token, then the one after it, …: {got}"


def test_task_6_a_prompt_of_one_token(toy: ToyModel, drafter: Any) -> None:
    assert_drafts(toy, drafter, [77], "a prompt of one token")


def test_task_6_nothing_is_wanted_or_known(toy: ToyModel, drafter: Any) -> None:
    assert drafter.propose(PROMPT, 0) == [], "no drafts are wanted"
    assert drafter.propose([], 3) == [], "after no tokens a model knows nothing"
    assert_drafts(toy, drafter, PROMPT, "after calls that wanted nothing")


@pytest.mark.parametrize("case", range(5))
def test_task_6_whatever_became_of_a_draft(toy: ToyModel, drafter: Any, case: int) -> None:
    tokens = list(PROMPT)
    for _ in range(3):
        drafts = assert_drafts(toy, drafter, tokens, f"after {len(tokens) - len(PROMPT)} tokens of the answer")
        what, new = list(continuations(toy, drafts))[case]
        tokens += new
        assert_drafts(toy, drafter, tokens, f"{what}: go back to where draft and answer part, and go on from there")


@pytest.mark.parametrize("case", range(5))
def test_task_6_no_more_is_computed_than_is_new(toy: ToyModel, drafter: Any, counting: CountingModel, case: int) -> None:
    drafts = drafter.propose(PROMPT, 4)
    first = computed(counting)
    assert first == len(PROMPT) + 3, f"the prompt once, and three drafts to get the fourth: {first} tokens"
    what, new = list(continuations(toy, drafts))[case]
    drafter.propose([*PROMPT, *new], 4)
    held = [*PROMPT, *drafts[:3]]
    tokens = [*PROMPT, *new]
    common = next((i for i, (a, b) in enumerate(zip(held, tokens, strict=False)) if a != b), min(len(held), len(tokens)))
    expected = len(tokens) - min(common, len(tokens) - 1) + 3
    got = computed(counting)
    assert got == expected, (
        f"{what}: what draft and answer have in common stays in the cache, and the last token is always computed:"
        f" {got} tokens, expected {expected}"
    )


def test_task_6_the_prompt_is_one_call(drafter: Any, counting: CountingModel) -> None:
    drafter.propose(PROMPT, 4)
    assert counting.lengths == [len(PROMPT), 1, 1, 1], f"all new tokens at once, then a token per draft: {counting.lengths}"


def test_task_6_only_the_logits_that_are_needed_are_asked_for(toy: ToyModel) -> None:
    kept: list[Any] = []

    class Watching(CountingModel):
        def __call__(self, tokens: mx.array, *args: Any, **kwargs: Any) -> mx.array:
            logits = super().__call__(tokens, *args, **kwargs)
            kept.append(logits.shape[1])
            return logits

    answer.ModelDrafter(Watching(toy)).propose(PROMPT, 2)
    assert kept == [1, 1], f"the vocabulary product is needed for the last position only: {kept} positions"


@pytest.mark.parametrize(
    ("what", "tokens"),
    [
        ("another text", make_prompt(12, seed=5)),
        ("a shorter text", make_prompt(4, seed=6)),
        ("the beginning of the same", PROMPT[:5]),
        ("the first token alone", PROMPT[:1]),
        ("the same until the last but one", [*PROMPT[:-1], 99]),
        ("the same again", PROMPT),
        ("the same beginning, then more", [*PROMPT[:5], *make_prompt(11, seed=7)]),
    ],
)
def test_task_6_tokens_that_do_not_go_on(toy: ToyModel, drafter: Any, what: str, tokens: list[int]) -> None:
    assert_drafts(toy, drafter, PROMPT, "the first text")
    assert_drafts(toy, drafter, tokens, f"then {what}")
    assert_drafts(toy, drafter, [*tokens, 80, 81], f"then {what}, two tokens later")
    assert_drafts(toy, drafter, PROMPT, "and back to the first text")


def test_task_6_two_drafters_have_caches_of_their_own(toy: ToyModel) -> None:
    one, other = answer.ModelDrafter(toy), answer.ModelDrafter(toy)
    others = make_prompt(11, seed=3)
    assert_drafts(toy, one, PROMPT, "one drafter")
    assert_drafts(toy, other, others, "another drafter with the same model")
    assert_drafts(toy, one, [*PROMPT, 70], "the first one, after the other was asked")


def test_task_6_tokens_are_left_alone(toy: ToyModel, drafter: Any) -> None:
    tokens = list(PROMPT)
    drafts = drafter.propose(tokens, 4)
    assert tokens == PROMPT, "the tokens belong to the request"
    tokens += drafts[:2]  # the same list, which has grown
    drafts.clear()  # the caller may do with a draft what it likes
    tokens.append(90)
    assert_drafts(toy, drafter, tokens, "the list that was given has grown, and the draft was emptied")


@pytest.mark.parametrize("late", [False, True], ids=["before it computes", "when all layers are done"])
@pytest.mark.parametrize("failing", [0, 2])
def test_task_6_after_a_failure_it_goes_on(toy: ToyModel, failing: int, late: bool) -> None:
    calls = []

    def fails(tokens: mx.array) -> bool:
        calls.append(tokens.shape)
        return len(calls) == 5 + failing  # four calls make the first draft

    drafter = answer.ModelDrafter(FragileModel(toy, fails, late))
    drafts = assert_drafts(toy, drafter, PROMPT, "before the failure")
    tokens = [*PROMPT, *drafts[:2], 90]
    with refuses(BrokenModelError, "an error of the small model is not hidden"):
        drafter.propose(tokens, 4)
    assert_drafts(toy, drafter, tokens, "after a failure, what the cache holds beyond what is known is forgotten")
    assert_drafts(toy, drafter, [*tokens, 91, 92], "and two tokens later")


@pytest.mark.parametrize("late", [False, True], ids=["before it computes", "when all layers are done"])
def test_task_6_after_a_failure_the_old_drafts_are_forgotten(toy: ToyModel, late: bool) -> None:
    """The call that fails goes another way than the first drafts; the next one goes theirs."""
    broken = False
    drafter = answer.ModelDrafter(FragileModel(toy, lambda tokens: broken, late))
    drafts = assert_drafts(toy, drafter, PROMPT, "before the failure")
    broken = True
    with refuses(BrokenModelError, "an error of the small model is not hidden"):
        drafter.propose([*PROMPT, 90, 91, 92, 93], 4)
    broken = False
    look_at = "the call that failed went another way, so the drafts before it are in the cache no more"
    assert_drafts(toy, drafter, [*PROMPT, *drafts[:3], 95], look_at, count=8)


def test_task_6_a_layer_that_failed_has_less_than_those_before_it(toy: ToyModel) -> None:
    """The error comes from the second layer's cache, when the first one has stored the new tokens already."""

    class Failing:
        config = toy.config
        broken = False

        def __call__(self, tokens: mx.array, offset: Any, cache: Sequence[Any], *args: Any, **kwargs: Any) -> mx.array:
            if not self.broken:
                return toy(tokens, offset, cache, *args, **kwargs)
            cache[0].update_and_fetch(mx.zeros((1, 2, tokens.shape[1], 8)), mx.zeros((1, 2, tokens.shape[1], 8)))
            raise BrokenModelError("the second layer failed, as this test wants it to")

    model = Failing()
    drafter = answer.ModelDrafter(model)
    drafts = assert_drafts(toy, drafter, PROMPT, "before the failure")
    tokens = [*PROMPT, *drafts[:3], 90, 91, 92, 93, 94]
    model.broken = True
    with refuses(BrokenModelError, "an error of the small model is not hidden"):
        drafter.propose(tokens, 4)
    model.broken = False
    assert_drafts(toy, drafter, tokens, "the layers hold different numbers of tokens: each is rewound by its own", count=8)
