"""The example that can be played by hand: answers of 4, 12 and 8 tokens in three slots, and two more that follow.

Every prompt is read in one step, which yields the first token of its answer, and every further step yields one token for each
row. So a request holds its slot for as many steps as its answer has tokens.
"""

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

from tiny_llm_kit.models.tiny_random import random_weights, tiny_config
from tiny_llm_kit.timeline.recorder import Recorder
from tiny_llm_kit.timeline.run import Run

SLOTS = 3
ANSWERS = {"A": 4, "B": 12, "C": 8, "D": 8, "E": 4}
"""Tokens of each, in the order in which they come; all are there from the start."""
PROMPT_TOKENS = 3
LAUNCHED = ("arrived", "admitted", "prefill chunk")
"""What happens at the beginning of a step. Tokens and ends come back at the end of one."""


def play(answer: ModuleType) -> list[Run]:
    """Static batches, and continuous batching, by the engines of an answer package over a toy model."""
    config = tiny_config()
    model = answer.Model(config, random_weights(config), answer.OPERATORS["arrays"])
    static, continuous = answer.DynamicBatcher(model, SLOTS), answer.ContinuousBatchScheduler(model, SLOTS)
    runs = [
        _serve(answer, "Static batches", static, ahead=False),
        _serve(answer, "Continuous batching", continuous, ahead=True),
    ]
    first_batch = max(life.ended or 0.0 for life in runs[0].lives[:SLOTS])
    runs[0].note = f"In the first batch, {_of_places(runs[0], first_batch)}. D and E wait until its longest answer is done."
    runs[1].note = f"In as many steps, {_of_places(runs[1], first_batch)}: D and E join as soon as a slot is free."
    return runs


def places(run: Run, until: float) -> tuple[int, int]:
    """How many places, a slot in a step, were used until then, and how many there were."""
    stays = [stay for life in run.lives for stay in life.stays]
    used = sum(min(run.duration if stay.end is None else stay.end, until) - min(stay.begin, until) for stay in stays)
    return round(used), round(SLOTS * until)


def _of_places(run: Run, until: float) -> str:
    used, there = places(run, until)
    return f"{used} of {there} places are used, {used / there:.0%}"


def _serve(answer: ModuleType, name: str, engine: Any, ahead: bool) -> Run:
    recorder = Recorder(name, SLOTS, names=list(ANSWERS), unit="step")
    engine.event_log.readers.append(in_steps(recorder.read, ahead))
    for number, tokens in enumerate(ANSWERS.values()):
        engine.submit(answer.Request([number + 1] * PROMPT_TOKENS, tokens))
    engine.run()
    return recorder.run()


def in_steps(read: Callable[[Any], None], ahead: bool) -> Callable[[Any], None]:
    """A reader that hands a log on to `read` on a clock that ticks once per step, whatever the engine's own says.

    ahead: whether what a step launches comes back in the next one, and not in the same.
    """

    def read_in_steps(state: Any) -> None:
        end = state.step if ahead else state.step + 1
        events = [event._replace(time=event.step if event.kind.value in LAUNCHED else end) for event in state.events]
        read(replace(state, time=end, events=events))

    return read_in_steps
