"""Week 2 Day 6 shows plans, moves and a request's life: each is played by the reference and compared with its page."""

import re
from collections.abc import Iterator

import pytest

import tiny_llm_ref as ref
from tiny_llm_kit.course.course_map import find_root
from tiny_llm_kit.models.tiny_random import random_weights, tiny_config
from tiny_llm_kit.timeline.worked_example import ANSWERS, PROMPT_TOKENS, SLOTS
from tiny_llm_ref.slot_lengths import SlotLengths

BUILD = (find_root() / "book/src/week2-06b-build.md").read_text(encoding="utf-8")
WHY = (find_root() / "book/src/week2-06-continuous-batching.md").read_text(encoding="utf-8")
PLANS = {
    "| — | 20, 3 | 8 of the 20 |": (None, [20, 3], [8]),
    "| 12 of 20 | 3, 1 | 8 of the 12 |": ((12, 20), [3, 1], [8]),
    "| 4 of 20 | 3, 2 | the 4, the 3; the 2 does not fit into 1 and ends the plan |": ((4, 20), [3, 2], [4, 3]),
    "| 4 of 20 | 5, 1 | the 4; the 5 does not fit into 4, and the 1 may not overtake it |": ((4, 20), [5, 1], [4]),
    "| — | 5, 3, 2 | the 5 and the 3, which use up the budget exactly |": (None, [5, 3, 2], [5, 3]),
}
MOVES = [
    ("A  ·  C  D", [(3, 1)], "A  D  C  ·"),
    ("·  ·  C  D", [(3, 0), (2, 1)], "D  C  ·  ·"),
    ("A  B  ·  ·", [], "A  B  ·  ·"),
]


def make_engine(slots: int) -> ref.ContinuousBatchScheduler:
    config = tiny_config()
    return ref.ContinuousBatchScheduler(ref.Model(config, random_weights(config), ref.OPERATORS["arrays"]), slots)


def submit_example(engine: ref.RequestBook) -> dict[str, ref.Request]:
    """The requests of the worked example, by their names."""
    return {
        name: engine.submit(ref.Request([number + 1] * PROMPT_TOKENS, tokens))
        for number, (name, tokens) in enumerate(ANSWERS.items())
    }


def life_of_d() -> Iterator[str]:
    """What D looks like after each iteration, a line of the page's table per iteration."""
    states: list[ref.BatchState] = []
    engine = make_engine(SLOTS)
    engine.event_log.readers.append(states.append)
    request = submit_example(engine)["D"]
    while engine.has_work:
        before = request.offset
        engine.step()
        events = [event for event in states[-1].events if event.request_id == request.request_id]
        chunk = next((event for event in events if event.kind is ref.EventKind.PREFILL_CHUNK), None)
        launched = "—" if request.offset == before else "a row"
        if chunk:
            launched = f"tokens {chunk.position - chunk.tokens} to {chunk.position - 1} of its prompt"
        logged = ", ".join(f"{event.kind.name} {event.tokens or ''}".strip() for event in events)
        slot = engine.slots.slot_of.get(request.request_id, "—")
        back = len(request.generated_tokens)
        cells = [states[-1].step, launched, slot, request.offset, back, request.state, logged]
        yield "| " + " | ".join(map(str, cells)).rstrip() + " |"


def test_the_life_of_a_request_is_that_of_the_worked_example() -> None:
    shown = BUILD.partition("<!-- the life of D -->\n\n")[2].partition("\n\n")[0].splitlines()[2:]
    assert shown == list(life_of_d()), "the table of D's life is not what the engine does"


@pytest.mark.parametrize("line", PLANS)
def test_the_plans_are_those_that_are_shown(line: str) -> None:
    middle, queue, chunks = PLANS[line]
    assert line in BUILD
    running = []
    if middle:
        left, length = middle
        running.append(ref.Request([1] * length, 4))
        running[0].offset = length - left
    waiting = [ref.Request([1] * length, 4) for length in queue]
    plan = ref.plan_step(waiting, running, 8, 8, ref.Fifo())
    assert [chunk.end - chunk.start for chunk in plan.prefill] == chunks


@pytest.mark.parametrize(("before", "moves", "after"), MOVES)
def test_the_moves_are_those_that_are_shown(before: str, moves: list[tuple[int, int]], after: str) -> None:
    assert re.search(rf"{before} +free [\d, ]+{re.escape(str(moves))} +{after} +free", BUILD), "the page shows these moves"
    manager = ref.SlotManager(4)
    manager.slot_of = {ord(owner): slot for slot, owner in enumerate(before.split("  ")) if owner != "·"}
    manager.free = [slot for slot, owner in enumerate(before.split("  ")) if owner == "·"]
    assert manager.condense() == moves
    assert {chr(owner): slot for owner, slot in manager.slot_of.items()} == {
        owner: slot for slot, owner in enumerate(after.split("  ")) if owner != "·"
    }


def test_the_places_are_those_that_are_shown() -> None:
    lengths = SlotLengths({0: 2, 1: 4}).longer(1)
    assert "lengths before   {0: 2, 1: 4}" in BUILD
    assert f"lengths after    {lengths.lengths}" in BUILD
    for name, places in zip(("slot", "head", "position"), lengths.places(1, 1), strict=True):
        assert re.search(rf"{name} +{re.escape(str(places.tolist()))}", BUILD), name


def test_prediction_5_of_the_first_page() -> None:
    engine = make_engine(4)
    requests = submit_example(engine)
    engine.run()
    tokens = sum(len(request.generated_tokens) for request in requests.values())
    groups = ref.DynamicBatcher(engine.runner.model, 4)
    submit_example(groups)
    groups.run()
    continuous, static = engine.metrics.steps - 1, groups.metrics.steps  # the engine's last iteration only reads
    page = " ".join(WHY.split())
    assert f"{static} steps, {4 * static} places, {tokens} of them used, {100 * tokens / (4 * static):.0f} %" in page
    assert f"{continuous} steps, {4 * continuous} places, {tokens} used, {100 * tokens / (4 * continuous):.0f} %" in page
