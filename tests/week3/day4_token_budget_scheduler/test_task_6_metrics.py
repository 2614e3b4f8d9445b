"""Week 3 Day 4, task 6: what the engine tells its metrics, compared with what can be seen from outside."""

import random
from math import floor
from typing import Any

import pytest

from answer import answer
from paged_engines import ask, ask_with_eos, engine, serve
from support import (
    POISON,
    CountingModel,
    FragileModel,
    ToyModel,
    assert_alone,
    finish_all,
    is_poisoned,
    make_prompt,
    step_until,
)


class ObservedRun:
    """An engine whose clock ticks once per step. Notes, from outside, when what happened to which request, and compares."""

    def __init__(self, model: Any, **options: Any) -> None:
        self.now = 0.0
        self.engine = engine(model, clock=lambda: self.now, **options)
        self.requests: list[Any] = []
        self.times: dict[str, dict[int, float]] = {"arrived": {}, "admitted": {}, "first_token": {}, "finished": {}}
        self.active: list[int] = []
        self.preemptions = 0

    @property
    def has_work(self) -> bool:
        return bool(self.engine.has_work)

    def submit(self, request: Any) -> Any:
        self.requests.append(request)
        self.times["arrived"][request.request_id] = self.now
        self.engine.submit(request)
        return request

    def preempt(self, request: Any) -> None:
        self.engine.preempt(request)
        self.preemptions += 1

    def step(self) -> list[Any]:
        self.now = floor(self.now) + 1.0
        before = {request.request_id: request.offset for request in self.requests}
        waiting = [request for request in self.requests if request.state == "waiting"]
        ended: list[Any] = self.engine.step()
        for request in self.requests:
            if request.offset or request.generated_tokens:
                self.times["admitted"].setdefault(request.request_id, self.now)
            if request.generated_tokens:
                self.times["first_token"].setdefault(request.request_id, self.now)
            if request.finish_reason is not None:
                self.times["finished"].setdefault(request.request_id, self.now)
        self.active.append(sum(request.offset > before[request.request_id] for request in self.requests))
        self._compare_this_step(len([request for request in waiting if not request.offset and request.finish_reason is None]))
        return ended

    def _compare_this_step(self, queue: int) -> None:
        metrics, step = self.engine.metrics, len(self.active)
        assert metrics.steps == step, f"after {step} steps: close_iteration is called once in every step"
        assert metrics.queue_size == queue, f"step {step}: {queue} waited when the plan was carried out"
        assert metrics.total_requests == len(self.requests), f"step {step}: all that were submitted have arrived"
        assert metrics.finished_requests == len(self.times["finished"]), f"step {step}: a request that has ended has finished"
        tokens = sum(len(request.generated_tokens) for request in self.requests)
        assert metrics.total_tokens == tokens, f"step {step}: tokens are those that came back and were kept"

    def compare(self) -> None:
        """All figures of the whole run."""
        metrics = self.engine.metrics
        spans = {
            "queue_time": ("arrived", "admitted", "from submit to the step that admits it for the first time"),
            "ttft": ("arrived", "first_token", "from submit to the step in which its first token is read"),
            "latency": ("arrived", "finished", "from submit to its end"),
        }
        for name, (begin, end, meaning) in spans.items():
            begins, ends = self.times[begin], self.times[end]
            expected = sorted(ends[i] - begins[i] for i in begins if i in ends)
            assert sorted(metrics.values(name)) == pytest.approx(expected), f"{name} goes {meaning}"
        assert metrics.num_preemptions == self.preemptions, (
            f"there were {self.preemptions} preemptions: each is logged as PREEMPTED once, and the metrics count what is logged"
        )


def test_task_6_metrics_of_a_run_without_accidents(toy: ToyModel) -> None:
    run = ObservedRun(toy)
    for length, tokens in ((4, 5), (30, 3), (9, 1), (5, 8), (6, 2), (3, 4)):
        run.submit(ask(length, tokens, length))
    while run.has_work:
        run.step()
        expected = run.active[-1]
        assert run.engine.metrics.active_requests == expected, (
            f"active are those that the plan gave a token or a chunk, here {expected}, and not those whose last token is merely"
            " on its way"
        )
    run.compare()
    shares = [active / 4 for active in run.active]
    assert run.engine.metrics.slot_utilization == pytest.approx(sum(shares) / len(shares)), (
        "of 4 that may run, as max_num_seqs says"
    )


def test_task_6_metrics_of_preempted_requests(toy: ToyModel) -> None:
    run = ObservedRun(toy)
    victim, other = run.submit(ask(6, 9)), run.submit(ask(5, 12, seed=1))
    for tokens in (0, 1, 4):
        step_until(run, lambda: victim.request_id in run.engine.running and len(victim.generated_tokens) >= tokens)  # noqa: B023
        run.preempt(victim)
        for _ in range(3):
            run.step()
    finish_all(run)
    assert_alone(toy, victim, other)
    run.compare()


@pytest.mark.parametrize("seed", range(3))
def test_task_6_metrics_of_random_traffic(toy: ToyModel, seed: int) -> None:
    chance = random.Random(seed)
    run = ObservedRun(toy, num_blocks=20)
    for _ in range(30):
        if chance.random() < 0.4:
            run.submit(ask(chance.randint(1, 25), chance.randint(1, 8), seed))
        if chance.random() < 0.2 and run.engine.running:
            run.preempt(chance.choice(list(run.engine.running.values())))
        run.step()
    while run.has_work:
        run.step()
    assert_alone(toy, *run.requests)
    run.preemptions = sum(request.preemptions for request in run.requests)  # also those by the plan, which this can't foresee
    run.compare()


def test_task_6_metrics_of_a_failing_model(toy: ToyModel) -> None:
    served = engine(FragileModel(toy, is_poisoned), max_num_seqs=1)
    serve(served, answer.PagedRequest([*make_prompt(5), POISON], 4), ask(5, 1))
    metrics = served.metrics
    assert metrics.finished_requests == metrics.total_requests == len(metrics.values("latency")) == 2, (
        "an end by error is an end"
    )
    assert (metrics.total_tokens, metrics.computed_tokens) == (1, 5), "what the model failed on was not computed"


def test_task_6_metrics_overtaking_takes_no_time(toy: ToyModel) -> None:
    """Whoever is admitted out of the order of arrival is found without a look at all who came before."""
    served = engine(toy, max_num_seqs=1)
    many = [served.submit(ask(3, 2, user="many")) for _ in range(50)]
    served.step()
    urgent = served.submit(ask(4, 2, seed=1, priority=-1))
    looks = 0
    given = type(many[0]).__setattr__

    def watched(request: Any, name: str, value: Any) -> None:
        nonlocal looks
        looks += 1
        given(request, name, value)

    type(many[0]).__setattr__ = watched
    try:
        step_until(served, lambda: urgent.state == "finished")
    finally:
        type(many[0]).__setattr__ = given
    assert looks < 50, f"{looks} changes were made to requests while one of them overtook 49: thousands may wait"


def test_task_6_metrics_count_whoever_is_computed_for(toy: ToyModel) -> None:
    model = CountingModel(toy)
    served = engine(model)
    requests = [ask(1, 5), ask_with_eos(toy, 1, 2, 9, seed=1), ask(1, 2, 3), ask_with_eos(toy, 1, 1, 9, seed=4)]
    for request in requests:
        served.submit(request)
    while served.has_work:
        model.calls.clear()
        served.step()
        rows = sum(length for _, length in model.calls)
        assert served.metrics.active_requests == rows, (
            f"each of these requests has one token in a step, and {rows} were given to the model: this many requests were"
            " active, also those whose end is read in the same step"
        )
    kept = sum(len(request.generated_tokens) for request in requests)
    assert served.metrics.total_tokens == kept, "an EOS is no token of the answer, and none that comes after it is kept"
