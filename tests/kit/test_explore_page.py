"""The explorable page of Week 2 Day 6 in a real browser: its scheduler decides as the reference's does, and the page works."""

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from kit.browser import Page, open_page
from support import ToyModel
from tiny_llm_kit.course.course_map import find_root
from tiny_llm_kit.workloads.items import WorkItem
from tiny_llm_ref import STRATEGIES, BatchState, ContinuousBatchScheduler, DynamicBatcher, EventKind, Request, SlotManager
from tiny_llm_ref.in_flight import InFlight
from tiny_llm_ref.measure import simulated_time, simulator
from tiny_llm_ref.measure.cost_model import Call, Roofline

EXPLORE = find_root() / "book/src/explore"
EOS = 0
"""A token that `ToyModel` never draws by itself."""
PASS = 10.0


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with open_page((EXPLORE / "index.html").as_uri(), tmp_path_factory.mktemp("profile")) as page:
        yield page


# The same requests through the page's scheduler and the reference's


@dataclass(frozen=True)
class Trace:
    """Requests (prompt, output, arrival in ms), and how they are served. `limit`: max_tokens of answers that end by EOS."""

    requests: list[tuple[int, int, float]]
    slots: int
    chunk: int
    cost: str
    knee: int
    host: float
    max_wait: float
    limit: int = 0

    def items(self) -> list[WorkItem]:
        return [WorkItem((40,) * prompt, output, arrival) for prompt, output, arrival in self.requests]

    def for_page(self, schedule: str, strategy: str, ahead: bool) -> str:
        requests = [
            {"prompt": prompt, "output": output, "maxTokens": self.limit or output, "arrival": arrival}
            for prompt, output, arrival in self.requests
        ]
        settings = {
            **{"slots": self.slots, "chunk": self.chunk, "strategy": strategy, "ahead": ahead},
            **{"cost": self.cost, "knee": self.knee, "host": self.host, "maxWait": self.max_wait},
        }
        return json.dumps([schedule, requests, settings])


def make_trace(seed: int, limit: int = 0) -> Trace:
    """A few requests in few slots, so that there is a queue; every other trace has arrivals, and some have odd sizes."""
    draw = random.Random(seed)
    count, longest_prompt = draw.randint(1, 18), draw.choice([1, 5, 30])
    times = sorted(draw.uniform(0, 300) for _ in range(count)) if seed % 2 and not limit else [0.0] * count
    requests = [(draw.randint(1, longest_prompt), draw.choice([1, 2, draw.randint(1, 15)]), time) for time in times]
    return Trace(
        requests=requests,
        slots=draw.choice([1, 2, 3, 5]),
        chunk=draw.choice([1, 4, 16, 128]),
        cost=["flat", "linear", "roofline"][seed % 3],
        knee=draw.choice([2, 4, 8]),
        host=0.0 if limit else draw.choice([0.0, 1.0, 12.5]),
        max_wait=draw.choice([0.0, 15.0, 40.0]),
        limit=limit,
    )


TRACES = [make_trace(seed) for seed in range(30)]
# 40 short ones overtake a long one: more often than a strategy lets them
TRACES.append(Trace([(9, 9, 0.0)] * 2 + [(1, 3, 0.0)] * 45, 1, 16, "flat", 4, 0.0, 0.0))
EOS_TRACES = [make_trace(seed, limit=20) for seed in range(100, 110)]


@dataclass
class Log:
    """A run, iteration by iteration, requests by their place in the trace: what both schedulers are asked for."""

    iterations: list[dict[str, Any]] = field(default_factory=list)
    first: dict[int, float] = field(default_factory=dict)
    number: dict[int, int] = field(default_factory=dict)

    def reader(self, slots: Callable[[], list[int | None]]) -> Callable[[BatchState], None]:
        def read(state: BatchState) -> None:
            for event in state.events:
                if event.kind is EventKind.ARRIVED:
                    self.number[event.request_id] = len(self.number)
            by_kind: dict[EventKind, list[Any]] = {kind: [] for kind in EventKind}
            for event in state.events:
                by_kind[event.kind].append(event)
            name = self.number
            for event in by_kind[EventKind.FIRST_TOKEN]:
                self.first[name[event.request_id]] = event.time
            chunks = [[name[e.request_id], e.position - e.tokens, e.position] for e in by_kind[EventKind.PREFILL_CHUNK]]
            self.iterations.append(
                {
                    "active": state.active_requests,
                    "queue": state.queue_size,
                    "chunks": chunks,
                    "slots": [None if owner is None else name[owner] for owner in slots()],
                    "ended": sorted(name[event.request_id] for event in by_kind[EventKind.FINISHED]),
                    "time": state.time,
                }
            )

        return read


def cost_of(trace: Trace) -> Any:
    """The cost model of the page; the roofline is the reference's own."""
    if trace.cost == "roofline":
        return Roofline(
            flops=2 * trace.knee / PASS,
            bandwidth=1.0,
            weights=1,
            output_weights=0,
            bytes_per_weight=PASS,
            kv_bytes=0,
            attention_flops=0,
        )
    return _Cost(trace.knee if trace.cost == "linear" else 0)


@dataclass
class _Cost:
    """The same for each iteration, or, with a knee, a part of that for each token."""

    knee: int
    launch_waits = False

    def seconds(self, calls: Sequence[Call]) -> float:
        return sum(call.tokens * PASS / self.knee for call in calls) if self.knee else PASS


class _Slots(SlotManager):
    """Remembers the one that was made last, to be looked at from outside."""

    last: "_Slots"

    def __init__(self, max_slots: int) -> None:
        super().__init__(max_slots)
        _Slots.last = self

    @staticmethod
    def owners() -> list[int | None]:
        owner_of = {slot: owner for owner, slot in _Slots.last.slot_of.items()}
        return [owner_of.get(slot) for slot in range(_Slots.last.max_slots)]


def simulated(trace: Trace, schedule: str, strategy: str, monkeypatch: pytest.MonkeyPatch) -> Log:
    """The trace in the reference's simulators of week 2 day 7, whose plan, strategy and slots are those of the engine."""

    class Device(simulated_time.SimulatedDevice):
        """Whose host takes its time, too."""

        def launch(self, launch: Any, calls: Sequence[Call]) -> None:
            self.now += trace.host if calls else 0
            super().launch(launch, calls)

    monkeypatch.setattr(simulator, "SimulatedDevice", Device)
    monkeypatch.setattr(simulator, "SlotManager", _Slots)
    log = Log()
    group = Group()
    readers = [group.read, log.reader(_Slots.owners if schedule == "continuous" else group.members)]
    cost: Any = cost_of(trace)
    if schedule == "continuous":
        simulator.simulate_slots(
            trace.items(),
            cost,
            trace.slots,
            prefill_step=trace.chunk,
            strategy=STRATEGIES[strategy](),
            readers=readers,
        )
    else:
        max_wait = trace.max_wait if schedule == "dynamic" else 0.0
        simulator.simulate_groups(trace.items(), cost, trace.slots, max_wait, prefill_step=trace.chunk, readers=readers)
    return log


class Group:
    """Who is in the group that runs: those who were admitted together."""

    def __init__(self) -> None:
        self._members: list[int] = []

    def read(self, state: BatchState) -> None:
        if admitted := [event.request_id for event in state.events if event.kind is EventKind.ADMITTED]:
            self._members = admitted

    def members(self) -> list[int | None]:
        return list(self._members)


class EndsByEos(Request):
    """Its `output`-th token is an EOS, whatever the model draws."""

    output = 0

    def accept(self, token: int) -> bool:
        return super().accept(EOS if len(self.generated_tokens) + 1 == self.output else token)


class ReadsAtOnce(ContinuousBatchScheduler):
    """An engine that does not launch ahead: what an iteration launches is what it reads."""

    def _launch(self, plan: Any) -> InFlight:
        self._in_flight = super()._launch(plan)
        return InFlight()


def engine_run(trace: Trace, engine: Any, slots: Callable[[], list[int | None]], *readers: Any) -> Log:
    """The trace in one of the reference's engines, over a toy model. Its clock is not looked at."""
    log = Log()
    engine.event_log.readers += [*readers, log.reader(slots)]
    for prompt, output, _ in trace.requests:
        request = EndsByEos([40] * prompt, trace.limit, eos_token_ids=[EOS])
        request.output = output
        engine.submit(request)
    engine.run()
    return log


def on_the_page(browser: Page, asked: Sequence[str]) -> list[Any]:
    """The runs of the page's scheduler, all in one call."""
    return browser.evaluate(f"[{','.join(asked)}].map(([schedule, requests, settings]) => "  # type: ignore[no-any-return]
        "{ const { log, requests: all, figures, columns } = Scheduler.simulate(schedule, requests, settings);"
        " return { log, first: all.map((one) => one.first), figures, columns }; })")


def check_same(ours: list[dict[str, Any]], reference: list[dict[str, Any]], keys: Sequence[str], about: str) -> None:
    for step, (mine, theirs) in enumerate(zip(ours, reference, strict=False)):
        for key in keys:
            seen = mine[key]
            if key == "queue":
                seen = len(seen)
            elif key == "ended":
                seen = sorted(seen)
            elif key == "time":
                theirs = {**theirs, key: pytest.approx(theirs[key])}
            assert seen == theirs[key], f"{about}: in iteration {step} `{key}` is {seen}, in the reference {theirs[key]}"
    assert len(ours) == len(reference), f"{about}: {len(ours)} iterations, {len(reference)} in the reference"


WHAT = ("active", "queue", "chunks", "slots", "ended", "time")


@pytest.mark.parametrize(
    ("schedule", "strategy"),
    [("static", "fifo"), ("dynamic", "fifo"), *(("continuous", strategy) for strategy in STRATEGIES)],
)
def test_it_schedules_as_the_reference_does(
    browser: Page, monkeypatch: pytest.MonkeyPatch, schedule: str, strategy: str
) -> None:
    runs = on_the_page(browser, [trace.for_page(schedule, strategy, ahead=True) for trace in TRACES])
    for trace, run in zip(TRACES, runs, strict=True):
        reference = simulated(trace, schedule, strategy, monkeypatch)
        check_same(run["log"], reference.iterations, WHAT, f"{schedule}, {strategy}, {trace}")
        first = [reference.first[number] for number in range(len(trace.requests))]
        assert run["first"] == pytest.approx(first), f"{schedule}, {strategy}, {trace}: the first tokens' times"


WITHOUT_TIME = ("active", "queue", "chunks", "slots", "ended")


@pytest.mark.parametrize("ahead", [True, False])
def test_ends_by_eos_are_noticed_as_in_the_engine(browser: Page, monkeypatch: pytest.MonkeyPatch, ahead: bool) -> None:
    monkeypatch.setattr("tiny_llm_ref.engine.SlotManager", _Slots)
    kind = ContinuousBatchScheduler if ahead else ReadsAtOnce
    runs = on_the_page(browser, [trace.for_page("continuous", "shortest-remaining", ahead) for trace in EOS_TRACES])
    for trace, run in zip(EOS_TRACES, runs, strict=True):
        options = {"max_seq_len": 64, "prefill_step": trace.chunk, "strategy": STRATEGIES["shortest-remaining"]()}
        reference = engine_run(trace, kind(ToyModel(), trace.slots, **options), _Slots.owners)
        check_same(run["log"], reference.iterations, WITHOUT_TIME, f"ahead {ahead}, {trace}")
        late = sum(cell["kind"] == "wasted" for column in run["columns"] for cell in column["cells"])
        assert late == (len(trace.requests) if ahead else 0), "launching ahead wastes one row for each EOS, and only then"


def test_groups_notice_an_eos_as_the_batcher_does(browser: Page) -> None:
    runs = on_the_page(browser, [trace.for_page("static", "fifo", ahead=True) for trace in EOS_TRACES])
    for trace, run in zip(EOS_TRACES, runs, strict=True):
        group = Group()
        batcher = DynamicBatcher(ToyModel(), trace.slots, max_seq_len=64, prefill_step=trace.chunk)
        reference = engine_run(trace, batcher, group.members, group.read)
        check_same(run["log"], reference.iterations, WITHOUT_TIME, f"static, {trace}")
