"""Timelines as a Chrome trace, the JSON that Perfetto (ui.perfetto.dev) and chrome://tracing open, and back.

The format: "Trace Event Format", Google, 2016. A run is a process, a lane is a thread. Requests and their prompt chunks are
complete events ("X"); waiting is a nestable asynchronous one ("b", "e"), since many wait at a time; first tokens and ends are
instants ("i"), and what the steps held are counters ("C"). Times are microseconds.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tiny_llm_kit.timeline.plausible import check_run
from tiny_llm_kit.timeline.run import Chunk, Life, Run, Sample, Stay

QUEUE_THREAD = 0
"""Lane n is thread n + 1."""
MOST_NAMED = 10_000
"""Lanes with a name; a viewer numbers the others."""
MADE_BY = "tiny-llm timeline"

Event = dict[str, Any]


def as_trace(runs: Sequence[Run]) -> dict[str, Any]:
    """The whole document."""
    events = [event for pid, run in enumerate(runs, start=1) for event in _events_of(run, pid)]
    about = [
        {
            "name": run.name,
            "lanes": run.lanes,
            "slots": run.slots,
            "seconds": run.duration,
            "unit": run.unit,
            "left_out": run.left_out,
            "note": run.note,
        }
        for run in runs
    ]
    return {"traceEvents": events, "displayTimeUnit": "ms", "otherData": {"made_by": MADE_BY, "runs": about}}


def _events_of(run: Run, pid: int) -> Iterator[Event]:
    yield _named("process_name", run.name, pid, QUEUE_THREAD)
    yield _named("thread_name", "queue", pid, QUEUE_THREAD)
    for lane in range(min(run.lanes, MOST_NAMED)):
        yield _named("thread_name", f"{'lane' if run.slots is None else 'slot'} {lane}", pid, lane + 1)
    for life in run.lives:
        for event in _events_of_life(life, run.duration):
            yield {**event, "pid": pid}
    for sample in run.samples:
        for name, value in _counts(run, sample):
            yield {"ph": "C", "name": name, "ts": _us(sample.time), "pid": pid, "tid": QUEUE_THREAD, "args": {"value": value}}


def _counts(run: Run, sample: Sample) -> Iterator[tuple[str, int]]:
    yield "waiting", sample.queue
    yield "active", sample.active
    yield "KV tokens", sample.kv_tokens
    if sample.blocks is not None:
        yield "blocks", sample.blocks


def _events_of_life(life: Life, duration: float) -> Iterator[Event]:
    about = {
        "request": life.number,
        "prompt_tokens": life.prompt_tokens,
        "generated": life.generated,
        "outcome": life.outcome or "not ended",
    }
    for begin, end in life.waits:
        wait = {"name": f"{life.name} waits", "cat": "waiting", "id": str(life.number), "tid": QUEUE_THREAD}
        yield {
            **wait,
            "ph": "b",
            "ts": _us(begin),
            "args": {
                **about,
                "name": life.name,
                "admitted": None if life.admitted is None else _us(life.admitted),
                "tokens": [_us(token) for token in life.tokens],
            },
        }
        yield {**wait, "ph": "e", "ts": _us(duration if end is None else end)}
    for stay in life.stays:
        end = duration if stay.end is None else stay.end
        yield {**_slice(life.name, "request", stay.lane, stay.begin, end), "args": {**about, "preempted": stay.preempted}}
        for chunk in stay.chunks:
            begin, done = max(chunk.begin, stay.begin), min(chunk.end, end)
            args = {"request": life.number, "tokens": chunk.tokens}
            if done > begin:
                yield {**_slice(f"prefill {chunk.tokens}", "prefill", stay.lane, begin, done), "args": args}
    lane = life.stays[-1].lane + 1 if life.stays else QUEUE_THREAD
    for name, time in (("first token", life.first_token), (life.outcome, life.ended)):
        if time is not None:
            instant = {"ph": "i", "s": "t", "name": name, "cat": "moment", "ts": _us(time), "tid": lane}
            yield {**instant, "args": {"request": life.number}}


def _slice(name: str, category: str, lane: int, begin: float, end: float) -> Event:
    return {"ph": "X", "name": name, "cat": category, "ts": _us(begin), "dur": _us(end) - _us(begin), "tid": lane + 1}


def _named(kind: str, name: str, pid: int, tid: int) -> Event:
    return {"ph": "M", "name": kind, "pid": pid, "tid": tid, "args": {"name": name}}


def _us(seconds: float) -> float:
    return round(seconds * 1e6, 3)


def from_trace(document: Any) -> list[Run]:
    """The runs of a trace that `as_trace` made.

    Raises:
        ValueError: for anything else.
    """
    try:
        if document["otherData"]["made_by"] != MADE_BY:
            raise KeyError("made_by")
        runs = [
            Run(
                about["name"],
                about["lanes"],
                [],
                [],
                about["seconds"],
                about["unit"],
                about["slots"],
                about["left_out"],
                about["note"],
            )
            for about in document["otherData"]["runs"]
        ]
        for pid, run in enumerate(runs, start=1):
            _fill(run, [event for event in document["traceEvents"] if event["pid"] == pid])
            check_run(run)
        return runs
    except (KeyError, TypeError, IndexError, AttributeError, OverflowError) as error:
        raise ValueError(f"this is not a trace that --trace wrote ({type(error).__name__}: {error})") from None
    except ValueError as error:
        raise ValueError(f"this is not a trace that --trace wrote, or it was changed: {error}") from None


def _fill(run: Run, events: Iterable[Event]) -> None:
    lives: dict[int, Life] = {}
    samples: dict[float, dict[str, int]] = {}
    for event in events:
        args, time = event.get("args", {}), event.get("ts", 0) / 1e6
        match event["ph"], str(event.get("cat", event["name"])):
            case "b", _:
                if args["request"] not in lives:
                    outcome = "" if args["outcome"] == "not ended" else args["outcome"]
                    life = Life(args["request"], args["name"], args["prompt_tokens"], time, outcome=outcome)
                    life.admitted = None if args["admitted"] is None else args["admitted"] / 1e6
                    life.generated = args["generated"]
                    life.tokens = [token / 1e6 for token in args["tokens"]]
                    lives[life.number] = life
            case "X", "request":
                stay = Stay(event["tid"] - 1, time, time + event["dur"] / 1e6, preempted=args["preempted"])
                lives[args["request"]].stays.append(stay)
            case "X", "prefill":
                lives[args["request"]].stays[-1].chunks.append(Chunk(time, time + event["dur"] / 1e6, args["tokens"]))
            case "i", _:
                life = lives[args["request"]]
                if event["name"] == "first token":
                    life.first_token = time
                else:
                    life.ended = time
            case "C", name:
                samples.setdefault(time, {})[name] = args["value"]
    run.lives = list(lives.values())
    for life in run.lives:
        if life.stays and not life.outcome and not life.stays[-1].preempted:
            life.stays[-1].end = None
    run.samples = [
        Sample(time, counts["waiting"], counts["active"], counts["KV tokens"], counts.get("blocks"))
        for time, counts in samples.items()
    ]
