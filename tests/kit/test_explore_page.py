"""The explorable page of Week 2 Day 6 in a real browser: its scheduler decides as the reference's does, and the page works."""

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

import tiny_llm_ref
from kit.browser import Page, open_page
from support import ToyModel
from tiny_llm_kit.course.course_map import find_root
from tiny_llm_kit.timeline.chrome_trace import as_trace
from tiny_llm_kit.timeline.worked_example import play
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
    return browser.evaluate(
        f"[{','.join(asked)}].map(([schedule, requests, settings]) => "  # type: ignore[no-any-return]
        "{ const { log, requests: all, figures, columns } = Scheduler.simulate(schedule, requests, settings);"
        " return { log, first: all.map((one) => one.first), figures, columns }; })"
    )


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


# The page itself


def text(page: Page, element: str) -> str:
    return str(page.evaluate(f"document.getElementById({element!r}).textContent"))


def click(page: Page, element: str) -> None:
    page.evaluate(f"document.getElementById({element!r}).click()")


def choose(page: Page, preset: str) -> None:
    page.evaluate(f"document.querySelector('[data-key={json.dumps(preset)}]').click()")


def set_field(page: Page, name: str, value: str) -> None:
    page.evaluate(f"form[{name!r}].value = {value!r}; form[{name!r}].dispatchEvent(new Event('input', {{ bubbles: true }}))")


def so_far(page: Page) -> dict[str, str]:
    """What stands above each timeline, by its title."""
    bands = "[...document.querySelectorAll('#timelines .band')]"
    return dict(page.evaluate(f"{bands}.map((band) => ['h3', '.so-far'].map((one) => band.querySelector(one).textContent))"))


def words(page: Page) -> list[str]:
    """What happens in this iteration, in static, dynamic and continuous batching."""
    lines = page.evaluate("[...document.querySelectorAll('#timelines .words')].map((one) => one.textContent)")
    assert isinstance(lines, list)
    return lines


@pytest.fixture(params=[360, 1400], ids=["phone", "desk"])
def page(request: pytest.FixtureRequest, browser: Page) -> Iterator[Page]:
    """As on the first visit. At the end nothing has gone wrong, and nothing was wider than the window."""
    width = request.param
    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 500)
    browser.evaluate("document.title = 'old'")
    browser.call("Page.reload")
    browser.until("document.title !== 'old' && document.readyState === 'complete'")
    browser.evaluate(
        "window.failures = []; for (const kind of ['error', 'unhandledrejection'])"
        " addEventListener(kind, (event) => failures.push(String(event.message ?? event.reason)))"
    )
    browser.evaluate("document.getElementById('settings').open = true")
    yield browser
    wide = browser.evaluate("document.documentElement.scrollWidth")
    failures = browser.evaluate("failures")
    browser.call("Emulation.clearDeviceMetricsOverride")
    assert failures == []
    assert wide <= width, "the page itself need not be scrolled sideways"


def test_the_worked_example_is_the_chapter_s(page: Page) -> None:
    assert "24 of 36 places used so far, 67 %" in so_far(page)["Static batches"]
    assert "36 of 36 places used so far, 100 %" in so_far(page)["Continuous batching"]
    click(page, "last")
    assert "iteration 20 of 20 · 36 of 60 places used so far, 60 %" in so_far(page)["Static batches"]


def test_each_preset_can_be_stepped_through_and_back(page: Page) -> None:
    for preset in page.evaluate("Object.keys(PRESETS)"):
        choose(page, preset)
        click(page, "first")
        before = words(page)
        assert all(line.strip() for line in before), f"{preset}: each timeline says what its first iteration does"
        moments = page.evaluate("state.moments.length")
        for _ in range(min(moments - 1, 12)):
            click(page, "step")
        assert words(page) != before
        for _ in range(min(moments - 1, 12)):
            click(page, "back")
        assert words(page) == before, f"{preset}: back again it says what it said before"


def test_keys_step_and_play(page: Page) -> None:
    page.evaluate("document.activeElement.blur()")
    for key, expected in (("Home", 0), ("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("End", 19), ("Home", 0)):
        page.press(key)
        assert page.evaluate("state.place") == expected, key
    page.press(" ")
    page.until("state.place >= 1")
    page.press(" ")
    assert text(page, "play") == "Play"
    page.evaluate("form.slots.focus()")
    place = page.evaluate("state.place")
    page.press("ArrowRight")
    assert page.evaluate("state.place") == place, "in a field, keys belong to the field"


def test_a_field_changes_the_run_and_a_wrong_value_is_named(page: Page) -> None:
    set_field(page, "slots", "1")
    assert "of 36" in so_far(page)["Continuous batching"], "one slot: an iteration for each token"
    set_field(page, "slots", "99")
    assert "Slots: 1 to 32" in text(page, "wrong")
    set_field(page, "slots", "2")
    assert text(page, "wrong") == ""
    set_field(page, "list", "3/4, four")
    assert "four" in text(page, "wrong")
    set_field(page, "list", "9999/9999, 9999/9999")
    assert "10000 at most" in text(page, "wrong")


def test_launching_ahead_shows_its_lag(page: Page) -> None:
    choose(page, "eos")
    wasted = "state.runs.continuous.figures.places.wasted"
    assert page.evaluate(wasted) == 5, "a row for each EOS"
    page.evaluate("form.ahead.click()")
    assert page.evaluate(wasted) == 0
    click(page, "last")
    assert page.evaluate("document.querySelectorAll('#timelines .band:last-child rect.wasted').length") == 0


def test_the_next_step_can_be_predicted(page: Page) -> None:
    choose(page, "heavy-tail")
    click(page, "first")
    click(page, "predict")
    score, right = 0, True
    while page.evaluate("state.asked !== null"):
        assert page.evaluate("document.querySelectorAll('#timelines rect.hide').length") > 0, "what comes is covered"
        if page.evaluate("state.asked.kind") == "rows":
            page.evaluate(f"document.getElementById('rows').value = state.asked.answer + {0 if right else 1}")
        else:
            chosen = "state.asked.answer" if right else "state.asked.waiting.filter((id) => !state.asked.answer.includes(id))"
            page.evaluate(f"{chosen}.forEach((id) => document.querySelector(`[data-id='${{id}}']`).click())")
        click(page, "check")
        score += right
        assert text(page, "verdict").startswith("Right" if right else "No")
        assert f"{score} of " in text(page, "score")
        right = not right
        click(page, "next-question")
    assert score > 3
    click(page, "predict")
    assert page.evaluate("document.querySelectorAll('#timelines rect.hide').length") == 0


def open_file(page: Page, name: str, content: str) -> None:
    """As if dropped on the page."""
    page.evaluate(
        f"openFile(new File([{json.dumps(content)}], {name!r}, {{ type: 'application/json' }}))",
    )


def test_a_trace_of_the_learners_engine_is_one_more_timeline(page: Page) -> None:
    trace = as_trace(play(tiny_llm_ref))
    open_file(page, "run.json", json.dumps(trace))
    assert text(page, "file-words") == ""
    titles = page.evaluate("[...document.querySelectorAll('#traces h3')].map((one) => one.textContent)")
    assert titles == [run["name"] for run in trace["otherData"]["runs"]]
    figures = page.evaluate("document.querySelector('#traces .so-far').textContent")
    assert "slots in use 60 %" in figures
    assert "5 requests in 20 steps" in figures
    assert "1.8 tokens per step" in figures
    click(page, "serve")
    assert page.evaluate("form.list.value") == "3/4, 3/12, 3/8, 3/8, 3/4"
    click(page, "close")
    assert page.evaluate("document.getElementById('traces').hidden")


OTHER_FILES = {
    "a picture": ("\x89PNG", "not JSON"),
    "settings": ('{"a": 1}', "not a trace"),
    "null": ("null", "not a trace"),
    "of another program": ('{"traceEvents": []}', "from another program"),
    "changed": ('{"traceEvents": [], "otherData": {"made_by": "tiny-llm timeline", "runs": [{"lanes": -1}]}}', "changed"),
}


@pytest.mark.parametrize("kind", OTHER_FILES)
def test_a_file_of_another_kind_is_refused_in_words(browser: Page, kind: str) -> None:
    content, expected = OTHER_FILES[kind]
    open_file(browser, "wrong.file", content)
    said = text(browser, "file-words")
    assert said.startswith("wrong.file: ")
    assert expected in said
    assert "--trace" in said, "it names the remedy"
    assert browser.evaluate("document.getElementById('traces').hidden")


def test_everything_has_a_name_and_is_light_or_dark(page: Page) -> None:
    nameless = page.evaluate(
        "[...document.querySelectorAll('button, input, select, [role=img], [role=region]')].filter((one) => !("
        "one.textContent.trim() || one.getAttribute('aria-label') || one.getAttribute('aria-labelledby') || one.labels?.length"
        ")).map((one) => one.outerHTML)"
    )
    assert nameless == []
    shades = []
    for scheme in ("light", "dark"):
        page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        shades.append(page.evaluate("getComputedStyle(document.body.parentElement).backgroundColor"))
    page.call("Emulation.setEmulatedMedia", features=[])
    assert shades[0] != shades[1]


def test_it_needs_nothing_from_elsewhere(browser: Page) -> None:
    loaded = browser.evaluate("performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert all(name.startswith((EXPLORE.as_uri(), "data:")) for name in loaded), loaded
    for file in EXPLORE.iterdir():
        content = file.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http" not in content, f"{file.name} names another site"
