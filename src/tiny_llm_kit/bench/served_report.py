"""What `load-test` shows: a row per rate, the targets, and all of it as JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tiny_llm_kit.bench.report import Target
from tiny_llm_kit.bench.served_load import Outcome, Stage
from tiny_llm_kit.cli.tables import duration, or_dash

REQUEST_COLUMNS = [
    "load",
    "offered",
    "requests",
    "200",
    "429",
    "503",
    "others",
    "broken",
    "not as alone",
    "answers/s",
    "tokens/s",
]
TIME_COLUMNS = [
    "load",
    "TTFT p50",
    "TTFT p95",
    "latency p50",
    "latency p95",
    "most waiting",
    "RSS after warm-up",
    "RSS at the end",
]
NOTE = (
    "Sent by locust, in an open loop (Poisson); 1 × is what the server answers per second while clients in a closed loop keep"
    " it full. Figures are those of requests sent after the warm-up; others, broken and not as alone count the warm-up, too."
    " Others: statuses but 200, 429 and 503. Broken: streams without an end. Not as alone: complete answers that differ from"
    " the request's alone, in text, in the number of tokens or in how they end. RSS: the server's."
)
GROWTH = 0.05


def request_rows(stages: Sequence[Stage]) -> list[list[str]]:
    """What was asked, and how it was answered."""
    return [_request_row(stage) for stage in stages]


def _request_row(stage: Stage) -> list[str]:
    return [
        stage.name,
        or_dash(stage.offered, "{:.2f}/s".format),
        str(len(stage.measured)),
        *(str(stage.statuses[status]) for status in (200, 429, 503)),
        *(str(stage.count(outcome)) for outcome in (Outcome.OTHER, Outcome.BROKEN, Outcome.DIFFERENT)),
        f"{stage.throughput():.2f}",
        f"{stage.tokens_per_second():.1f}",
    ]


def time_rows(stages: Sequence[Stage]) -> list[list[str]]:
    """How long it took, and what it took of the server."""
    return [_time_row(stage) for stage in stages]


def _time_row(stage: Stage) -> list[str]:
    percentiles = (stage.ttft(50), stage.ttft(95), stage.latency(50), stage.latency(95))
    return [
        stage.name,
        *(or_dash(value, duration) for value in percentiles),
        str(stage.most_waiting()),
        *(f"{value / 2**20:.0f} MiB" for value in stage.rss()),
    ]


def targets(stages: Sequence[Stage], max_queue: int, saturated: bool, exit_code: int) -> list[Target]:
    """What has to hold in all stages together, the one that measured the rate included.

    Args:
        stages: in their order; the first may be of a closed loop.
        saturated: whether the last one should have met a full queue.
        exit_code: the server's, after SIGTERM.
    """
    number, share = "{:.0f}".format, "{:.1%}".format

    def none_of(name: str, outcome: Outcome) -> Target:
        return Target(name, sum(stage.count(outcome) for stage in stages), 0, False, number)

    open_loops = [stage for stage in stages if stage.offered is not None]
    grown = [stage.growth() for stage in open_loops]
    grown += [open_loops[-1].rss()[1] / open_loops[0].rss()[0] - 1] if open_loops else []
    left = [stage.left for stage in stages]
    full = [Target("refused with 429 at the highest rate", stages[-1].statuses[429], 1, True, number)] if saturated else []
    return [
        none_of("statuses other than 200, 429 and 503", Outcome.OTHER),
        none_of("broken streams", Outcome.BROKEN),
        none_of("answers whose tokens differ from the request alone", Outcome.DIFFERENT),
        *full,
        Target("most requests that waited", max(stage.most_waiting() for stage in stages), max_queue, False, number),
        Target("growth of RSS after the warm-up, in a rate or over all", max(grown, default=None), GROWTH, False, share),
        Target("requests left when all was answered", max(one.waiting + one.running for one in left), 0, False, number),
        Target("blocks or slots in use then", max(one.kv_used for one in left), 0, False, share),
        Target("/health not 200 then", sum(not stage.healthy for stage in stages), 0, False, number),
        Target("exit code after SIGTERM", abs(exit_code), 0, False, number),
    ]


def stage_as_json(stage: Stage) -> dict[str, Any]:
    early, late = stage.rss()
    return {
        "load": stage.name,
        "offered_per_second": stage.offered,
        "warm_up_seconds": stage.warm_up,
        "seconds": stage.seconds,
        "requests": len(stage.measured),
        "requests_with_warm_up": len(stage.seen),
        "requests_counted_by_locust": stage.counted,
        "statuses": {str(status): count for status, count in sorted(stage.statuses.items())},
        "outcomes_with_warm_up": {outcome: stage.count(outcome) for outcome in Outcome},
        "answers_per_second": stage.throughput(),
        "tokens_per_second": stage.tokens_per_second(),
        **{f"ttft_p{percent}_seconds": stage.ttft(percent) for percent in (50, 95)},
        **{f"latency_p{percent}_seconds": stage.latency(percent) for percent in (50, 95)},
        "most_waiting": stage.most_waiting(),
        "rss_bytes_after_warm_up": early,
        "rss_bytes_at_the_end": late,
        "left": {"waiting": stage.left.waiting, "running": stage.left.running, "kv_used": stage.left.kv_used},
        "healthy": stage.healthy,
        "some_samples": [
            {**asdict(one), "time": one.time - stage.began} for one in stage.samples[:: len(stage.samples) // 30 + 1]
        ],
    }


def faults(stages: Sequence[Stage], most: int = 5) -> list[str]:
    """Some of the requests that should not have ended as they did, for people."""
    bad = (Outcome.OTHER, Outcome.BROKEN, Outcome.DIFFERENT)
    found = [
        f"{stage.name}, request {one.item} of the list: {outcome}: {one}"
        for stage in stages
        for one, outcome in zip(stage.seen, stage.outcomes, strict=True)
        if outcome in bad
    ]
    return [*found[:most], *([f"… and {len(found) - most} more"] if len(found) > most else [])]
