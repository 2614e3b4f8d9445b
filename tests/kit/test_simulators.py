"""The simulators beside the engines that they simulate: the same events and the same times, iteration by iteration.

The real engines run on a toy model and a clock that only a cost model moves: a launch is computed after the one before, and
whoever reads its tokens waits for that. What a call costs is worked out here, from what the model is given.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

import tiny_llm_ref
from support import ToyModel
from tiny_llm_kit.workloads.items import WorkItem
from tiny_llm_ref.event_log import BatchState, EventKind
from tiny_llm_ref.in_flight import InFlight
from tiny_llm_ref.measure.cost_model import Call
from tiny_llm_ref.paged.runner import PagedRunner
from tiny_llm_ref.scheduling import STRATEGIES

TICK = 1 / 1024
"""All times are multiples of it, so that sums of them are exact and times can be compared with ==."""


@dataclass(frozen=True)
class Cost:
    """So much per call and per thing in it."""

    launch_waits: bool = False

    def seconds(self, calls: Sequence[Call]) -> float:
        return TICK * sum(8 + call.tokens + 2 * call.outputs + call.context / 16 + call.pairs / 256 for call in calls)


@dataclass
class Played:
    """What a run told the log, and the clients: events without TOKEN, which simulators leave out, in numbers from 0 on."""

    events: list[tuple[Any, ...]] = field(default_factory=list)
    states: list[tuple[Any, ...]] = field(default_factory=list)
    wishes: list[tuple[int, float]] = field(default_factory=list)
    _ids: dict[int, int] = field(default_factory=dict)

    def read(self, state: BatchState) -> None:
        for event in state.events:
            number = self._ids.setdefault(event.request_id, len(self._ids))
            if event.kind is not EventKind.TOKEN:
                self.events.append((event.step, event.kind.value, number, event.tokens, event.position, event.time))
        self.states.append((state.step, state.time, state.active_requests, state.max_slots, state.queue_size, state.new_tokens))

    def wanted(self, request_id: int, time: float) -> None:
        self.wishes.append((len(self.wishes), time))


class PricedModel:
    """A toy whose calls are noted as `Call`s."""

    def __init__(self, toy: ToyModel) -> None:
        self.toy = toy
        self.config = toy.config
        self.calls: list[Call] = []

    def __call__(self, tokens: mx.array, offset: Any, cache: Any, mask: Any = None, logits_to_keep: Any = None) -> mx.array:
        rows, length = tokens.shape
        if not isinstance(logits_to_keep, mx.array):  # the paged engine's calls are noted by its plans
            keys = int(mx.max(mx.array(offset)).item()) + length
            self.calls.append(Call(rows * length, rows * logits_to_keep, rows * keys, rows * length * keys))
        return self.toy(tokens, offset, cache, mask, logits_to_keep)


class Clock:
    """Moved by whoever reads tokens."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def toy() -> ToyModel:
    return ToyModel()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def priced(toy: ToyModel) -> PricedModel:
    toy.begin_test()
    return PricedModel(toy)


@pytest.fixture(params=[False, True], ids=["launching ahead", "launching waits"])
def cost(request: pytest.FixtureRequest, clock: Clock, priced: PricedModel, monkeypatch: pytest.MonkeyPatch) -> Cost:
    """Lets the engines' launches and reads take the time that this cost says."""
    cost, computed = Cost(request.param), 0.0
    start, read, run = InFlight.start, InFlight.read, PagedRunner.run

    def timed_start(self: Any) -> None:
        nonlocal computed
        start(self)
        if priced.calls:
            computed = max(computed, clock.now) + cost.seconds(priced.calls)
            priced.calls.clear()
            if cost.launch_waits:
                clock.now = computed
        self.computed = computed

    def timed_read(self: Any) -> Any:
        if self.drawn:
            clock.now = max(clock.now, self.computed)
        return read(self)

    def noted_run(self: Any, plan: Any) -> Any:
        size = self.block_size
        spans = [(chunk.start, chunk.end, chunk.request.to_compute == chunk.end - chunk.start) for chunk in plan.chunks]
        rows, keys = len(plan.decodes), max([request.offset // size + 1 for request in plan.decodes], default=0) * size
        context, pairs = rows * keys, rows * keys
        for begin, end, _ in spans:
            context += (end + size - 1) // size * size
            pairs += (end - begin) * ((end + size - 1) // size * size)
        tokens, outputs = rows + sum(end - begin for begin, end, _ in spans), rows + sum(asks for _, _, asks in spans)
        priced.calls.append(Call(tokens, outputs, context, pairs))
        return run(self, plan)

    monkeypatch.setattr(InFlight, "start", timed_start)
    monkeypatch.setattr(InFlight, "read", timed_read)
    monkeypatch.setattr(PagedRunner, "run", noted_run)
    return cost


FIGURES = ("prefix_cache_queries", "prefix_cache_hits", "num_preemptions", "computed_tokens")


def figures(metrics: tiny_llm_ref.PagedMetrics) -> dict[str, int]:
    return {name: getattr(metrics, name) for name in FIGURES}


def serve(engine: Any, items: Sequence[WorkItem], clock: Clock, kind: type[Any]) -> Played:
    """An open loop: everyone is submitted at the first moment between two iterations after their arrival."""
    played, coming = Played(), list(items)
    engine.event_log.readers.append(played.read)
    while coming or engine.has_work:
        while coming and coming[0].arrival <= clock.now:
            item = coming.pop(0)
            engine.submit(kind(item.prompt, item.max_tokens))
            played.wanted(0, item.arrival)
        if engine.has_work and engine.idle_until is None:
            engine.step()
        else:
            moments = [coming[0].arrival] if coming else []
            clock.now = min([*moments, *([engine.idle_until] if engine.idle_until is not None else [])])
    return played


def simulate(simulator: Callable[..., None], items: Sequence[WorkItem], cost: Cost, *sizes: Any, **options: Any) -> Played:
    played = Played()
    simulator(iter(items), cost, *sizes, readers=[played.read], wanted=played.wanted, **options)
    return played


def assert_same(simulated: Played, real: Played) -> None:
    """Event by event, so that the first difference is what one sees."""
    for number, (ours, theirs) in enumerate(zip(simulated.events, real.events, strict=False)):
        assert ours == theirs, f"event {number}: the simulator says {ours}, the engine {theirs}"
    for ours, theirs in zip(simulated.states, real.states, strict=False):
        assert ours == theirs, f"the simulator closes an iteration with {ours}, the engine with {theirs}"
    assert len(simulated.events) == len(real.events)
    assert len(simulated.states) == len(real.states)
    assert simulated.wishes == real.wishes
    assert real.events, "nothing happened: the test compares nothing"


def workload(seed: int, count: int = 24, longest: int = 40, answers: int = 14, shared: int = 0) -> list[WorkItem]:
    """Random prompts, answers, and gaps: some come together, some after everyone has gone. Half begin alike."""
    random = np.random.default_rng(seed)
    gaps = random.choice([0, 0, 1, 20, 150, 2500], size=count)
    beginning = tuple(random.integers(0, 256, shared).tolist())
    items = []
    for number, moment in enumerate(np.cumsum(gaps).tolist()):
        prompt = tuple(random.integers(0, 256, random.integers(1, longest, endpoint=True)).tolist())
        prompt = beginning + prompt if number % 2 else prompt
        items.append(WorkItem(prompt, int(random.integers(1, answers, endpoint=True)), moment * TICK))
    return items


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(("slots", "prefill_step"), [(1, 128), (3, 7), (32, 64)])
def test_slots(slots: int, prefill_step: int, strategy: str, cost: Cost, clock: Clock, priced: PricedModel) -> None:
    items = workload(0)
    choice = STRATEGIES[strategy]()
    choice.max_overtakes = 3
    limits: dict[str, Any] = {"prefill_step": prefill_step, "strategy": choice}
    engine = tiny_llm_ref.ContinuousBatchScheduler(priced, slots, clock=clock, **limits)  # type: ignore[arg-type]
    real = serve(engine, items, clock, tiny_llm_ref.Request)
    assert_same(simulate(tiny_llm_ref.simulate_slots, items, cost, slots, **limits), real)


@pytest.mark.parametrize("max_wait", [0.0, 64 * TICK, 1024 * TICK])
@pytest.mark.parametrize(("rows", "prefill_step"), [(1, 128), (3, 7), (5, 64)])
def test_groups(rows: int, prefill_step: int, max_wait: float, cost: Cost, clock: Clock, priced: PricedModel) -> None:
    items = workload(0)
    engine = tiny_llm_ref.DynamicBatcher(priced, rows, max_wait, prefill_step=prefill_step, clock=clock)  # type: ignore[arg-type]
    real = serve(engine, items, clock, tiny_llm_ref.Request)
    assert_same(simulate(tiny_llm_ref.simulate_groups, items, cost, rows, max_wait, prefill_step=prefill_step), real)


SIZES = {
    "room for all": {"num_blocks": 400, "block_size": 4},
    "many are preempted": {"num_blocks": 20, "block_size": 4, "max_num_seqs": 8, "max_num_batched_tokens": 24},
    "no watermark": {"num_blocks": 24, "block_size": 4, "max_num_seqs": 6, "max_num_batched_tokens": 9, "watermark": 0.0},
    "few seats": {"num_blocks": 60, "block_size": 2, "max_num_seqs": 3, "max_num_batched_tokens": 16},
    "one at a time": {"num_blocks": 80, "block_size": 1, "max_num_seqs": 1, "max_num_batched_tokens": 1},
    "blocks of 16": {"num_blocks": 6, "block_size": 16, "max_num_seqs": 8, "max_num_batched_tokens": 64},
}


@pytest.mark.parametrize("prefix_caching", [True, False], ids=["prefix caching", "no caching"])
@pytest.mark.parametrize("sizes", SIZES.values(), ids=list(SIZES))
def test_paged(sizes: dict[str, Any], prefix_caching: bool, cost: Cost, clock: Clock, priced: PricedModel) -> None:
    items = workload(1, longest=24, answers=40, shared=16)
    engine = tiny_llm_ref.Engine(priced, clock=clock, prefix_caching=prefix_caching, **sizes)  # type: ignore[arg-type]
    real = serve(engine, items, clock, tiny_llm_ref.PagedRequest)
    preempted = sum(event[1] == "preempted" for event in real.events)
    if sizes is SIZES["many are preempted"]:
        assert preempted, "nobody was preempted: the test is not about what it says"
    assert_same(simulate(tiny_llm_ref.simulate_paged, items, cost, prefix_caching=prefix_caching, **sizes), real)


@pytest.mark.parametrize("num_blocks", [11, 16, 25])
def test_paged_remembers_and_forgets_what_the_engine_does(
    num_blocks: int, cost: Cost, clock: Clock, priced: PricedModel
) -> None:
    """Prompts that come again, whole blocks long, so that their last block is copied; between them others, whose answers push
    them out. No answer to a prompt that comes again fills a block, for the engine would find that again, too."""
    random = np.random.default_rng(0)
    known = [tuple(random.integers(0, 256, 16).tolist()) for _ in range(3)]
    items = []
    for number in range(40):
        moment = 800 * TICK * (number // 2)
        if random.random() < 0.6:
            items.append(WorkItem(known[random.integers(3)], 3, moment))
        else:
            items.append(WorkItem(tuple(random.integers(0, 256, 9).tolist()), int(random.integers(1, 24)), moment))
    sizes: dict[str, Any] = {"num_blocks": num_blocks, "block_size": 4, "watermark": 0.0}
    engine = tiny_llm_ref.Engine(priced, clock=clock, **sizes)  # type: ignore[arg-type]
    real = serve(engine, items, clock, tiny_llm_ref.PagedRequest)
    assert engine.metrics.prefix_cache_hits, "nothing was found again: the test is not about what it says"
    assert num_blocks > 16 or engine.metrics.num_evictions, "nothing was pushed out: the test is not about what it says"
    assert_same(simulate(tiny_llm_ref.simulate_paged, items, cost, **sizes), real)


@pytest.mark.parametrize("prefix_caching", [True, False], ids=["prefix caching", "no caching"])
def test_paged_has_the_engines_figures(prefix_caching: bool, cost: Cost, clock: Clock, priced: PricedModel) -> None:
    items, sizes = workload(1, longest=24, answers=40, shared=16), SIZES["many are preempted"]
    engine = tiny_llm_ref.Engine(priced, clock=clock, prefix_caching=prefix_caching, **sizes)  # type: ignore[arg-type]
    serve(engine, items, clock, tiny_llm_ref.PagedRequest)
    metrics = tiny_llm_ref.PagedMetrics(prefix_caching=prefix_caching)
    tiny_llm_ref.simulate_paged(items, cost, prefix_caching=prefix_caching, readers=[metrics.update], **sizes)  # type: ignore[arg-type]
    assert figures(metrics) == figures(engine.metrics), "both are read from the same log"
    asked = sum(len(item.prompt) for item in items) if prefix_caching else 0
    assert metrics.prefix_cache_queries == asked, "each prompt is looked for once, also those that came back"
    assert bool(metrics.prefix_cache_hits) == prefix_caching, "half of the prompts begin alike"
    assert metrics.num_preemptions > 0, "nobody was preempted: the test is not about what it says"
