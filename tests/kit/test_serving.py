"""A schedule does the same by its name, whether a model runs it or a cost takes the model's place."""

from collections.abc import Callable
from typing import Any

import pytest

import tiny_llm_ref
from tiny_llm_kit.bench.load_test import LoadTest
from tiny_llm_kit.bench.serving import SCHEDULES, ServingOptions, build, simulate, simulated_run
from tiny_llm_kit.models.tiny_random import random_weights, tiny_config
from tiny_llm_kit.workloads.items import WorkItem
from tiny_llm_kit.workloads.requests import make_requests

MODEL = tiny_llm_ref.Model(tiny_config(), random_weights(tiny_config()))
ITEMS = [WorkItem(tuple(range(3, 3 + prompt)), answer) for prompt, answer in ((12, 4), (5, 9), (7, 2), (10, 6), (3, 8))]
OPTIONS = ServingOptions(slots=2, prefill_step=4)


class CallCost:
    """Every call of the model takes a second."""

    launch_waits = True

    def seconds(self, calls: Any) -> float:
        return float(len(calls))


def real(schedule: str, options: ServingOptions = OPTIONS) -> Any:
    """The recorder of a run with everyone there from the start."""
    engine = build(tiny_llm_ref, MODEL, schedule, ITEMS, options)
    recorder = tiny_llm_ref.RunRecorder()
    engine.event_log.readers.append(recorder.read)
    for request in make_requests(tiny_llm_ref, ITEMS, paged=schedule == "paged"):
        engine.submit(request)
    engine.run()
    return recorder


def simulated(schedule: str, options: ServingOptions = OPTIONS) -> Any:
    return simulate(tiny_llm_ref, CallCost(), schedule, ITEMS, options)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("run", [real, simulated])
def test_every_schedule_answers_everyone(schedule: str, run: Callable[[str], Any]) -> None:
    recorder = run(schedule)
    assert [times.generated for times in recorder.requests.values()] == [item.max_tokens for item in ITEMS]
    assert recorder.tokens == sum(item.max_tokens for item in ITEMS)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_simulation_takes_the_steps_of_the_engine(schedule: str) -> None:
    engine, simulation = real(schedule), simulated(schedule)
    assert (simulation.used_slots, simulation.offered_slots) == (engine.used_slots, engine.offered_slots)


@pytest.mark.parametrize("run", [real, simulated])
def test_schedules_differ_as_their_names_say(run: Callable[..., Any]) -> None:
    steps = {schedule: run(schedule).steps for schedule in SCHEDULES}
    assert steps["continuous"] < steps["static"] < steps["sequential"], "who ends makes room; two answers share a step"
    assert steps["continuous-unchunked"] < steps["continuous"], "a prompt in one piece takes one step"
    assert steps["dynamic"] == steps["static"], "with everyone there, groups are full at once"


@pytest.mark.parametrize(("schedule", "waits"), [("static", False), ("dynamic", True)])
def test_only_dynamic_groups_wait(schedule: str, waits: bool) -> None:
    """A request that comes alone could start at once."""
    options = ServingOptions(slots=2, prefill_step=4, max_wait=0.3)
    test = LoadTest(tiny_llm_ref, MODEL, ITEMS[:1], options, tiny_llm_ref.Slo(1.0, 1.0), 1.0, seed=0, noise=1.0)
    assert (test.open_loop(schedule, rate=1e6).summary.queue_time.p50 >= 0.3) == waits
    assert (test.simulated(schedule, 1e6, CallCost()).summary.queue_time.p50 >= 0.3) == waits


def test_a_simulated_run_has_the_figures_of_a_measured_one() -> None:
    run = simulated_run(tiny_llm_ref, CallCost(), "sequential", ITEMS, ServingOptions(slots=1, prefill_step=100))
    assert [len(tokens) for tokens in run.served.tokens] == [item.max_tokens for item in ITEMS]
    assert run.seconds == pytest.approx(sum(item.max_tokens for item in ITEMS), abs=2 * len(ITEMS)), "a second for each token"
    assert len(run.served.ttft) == len(run.served.tpot) == len(ITEMS)
    assert 0 < run.served.utilization <= 1
    assert not run.noisy
