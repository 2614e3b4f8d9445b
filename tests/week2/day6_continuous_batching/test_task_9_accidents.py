"""Task 9: accidents stay where they happen. Whatever clients do, and whichever prompts the model fails on, the others are
served as if they were alone, and no slot is lost."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from answer import answer
from support import POISON, CountingModel, FragileModel, ToyModel, alone, assert_alone, finish_all, is_poisoned, make_prompt

EXAMPLES = 25


@dataclass(frozen=True)
class Accident:
    """What a client's on_update does when `after` tokens have come."""

    kind: str
    after: int
    whom: int


ACCIDENTS = st.builds(
    Accident,
    kind=st.sampled_from(["nothing", "raise", "leave", "cancel another", "ask again", "poisoned prompt"]),
    after=st.integers(1, 6),
    whom=st.integers(0, 5),
)


@settings(max_examples=EXAMPLES)
@given(
    accidents=st.lists(ACCIDENTS, min_size=1, max_size=6),
    max_tokens=st.lists(st.integers(1, 8), min_size=6, max_size=6),
    slots=st.integers(1, 4),
    late=st.booleans(),
)
def test_task_9_accidents_stay_where_they_happen(
    toy: ToyModel, accidents: list[Accident], max_tokens: list[int], slots: int, late: bool
) -> None:
    model = CountingModel(FragileModel(toy, is_poisoned, late))
    scheduler = answer.ContinuousBatchScheduler(model, slots, max_seq_len=40, prefill_step=8)
    scheduler.check_integrity()
    requests: list[Any] = []

    def happen(accident: Accident) -> Callable[[Any, str], None]:
        def on_update(request: Any, new_text: str) -> None:
            if len(request.generated_tokens) != accident.after or request.finish_reason == "cancelled":
                return
            match accident.kind:
                case "raise":
                    raise OSError("the client's connection is gone")
                case "leave":
                    scheduler.cancel(request)
                case "cancel another":
                    scheduler.cancel(requests[accident.whom % len(requests)])
                case "ask again":
                    requests.append(scheduler.submit(answer.Request(make_prompt(5), 3)))

        return on_update

    for row, accident in enumerate(accidents):
        prompt = make_prompt(3 + 4 * row, seed=1)
        if accident.kind == "poisoned prompt":
            prompt[-1] = POISON
        requests.append(answer.Request(prompt, max_tokens[row], on_update=happen(accident)))
    for request in list(requests):
        scheduler.submit(request)
    ended = finish_all(scheduler, after_step=scheduler.check_integrity)

    assert sorted(r.request_id for r in ended) == sorted(r.request_id for r in requests), "step returns each ended request once"
    for row, request in enumerate(requests):
        assert_as_it_should(toy, request, accidents[row].kind if row < len(accidents) else "nothing")
    assert_every_slot_is_there(toy, scheduler, model, slots)


def assert_as_it_should(toy: ToyModel, request: Any, kind: str) -> None:
    """Everything that it generated is what it generates alone, and only its own accident, or a cancel, has ended it early."""
    assert request.state == "finished", f"a request is {request.state} when there is no more work"
    if kind == "poisoned prompt" and request.finish_reason != "cancelled":
        assert (request.finish_reason, request.generated_tokens) == ("error", []), (
            "the model fails on its prompt, and it ends so"
        )
        return
    tokens = alone(toy, request.prompt, request.max_tokens)
    if request.finish_reason == "length":
        assert request.generated_tokens == tokens, "this request had no accident, so a neighbour's must not matter"
    else:
        own = request.finish_reason == "cancelled" or kind == "raise"
        if not own:
            raise AssertionError(f"it had no accident, and ended with {request.error!r}") from request.error
        assert request.generated_tokens == tokens[: len(request.generated_tokens)], "until its end its answer is as if alone"


def assert_every_slot_is_there(toy: ToyModel, scheduler: Any, model: CountingModel, slots: int) -> None:
    """New requests, as many as there are slots, are all decoded together."""
    model.calls.clear()
    after = [scheduler.submit(answer.Request(make_prompt(4, seed), 6)) for seed in range(slots)]
    finish_all(scheduler, after_step=scheduler.check_integrity)
    assert_alone(toy, *after)
    assert max(model.decode_rows) == slots, "after all accidents every slot must be there again"
