"""What `bench-serve` shows: what the server costs, how late its loop and its streams are, the targets, a JSON document."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import psutil

from tiny_llm_kit.bench.report import Target
from tiny_llm_kit.bench.run import share_equal
from tiny_llm_kit.bench.server_cost import GENERATE, SERVER, WAYS, CostRun, Streams
from tiny_llm_kit.cli.tables import or_dash

COST_COLUMNS = ["way", "tokens/s", "× generate", "step p50", "CPU per token", "process", "client", "others", "quiet runs"]
DELAY_COLUMNS = ["from … to …", "p50", "p99", "most", "p50, steps", "p99, steps", "samples"]
PERCENTS = (50, 99)


@dataclass(frozen=True)
class CostResult:
    """All runs of both ways. Figures are of the quiet ones; None if there is none."""

    runs: Sequence[CostRun]

    def of(self, way: str, quiet: bool = True) -> list[CostRun]:
        return [run for run in self.runs if run.way == way and not (quiet and run.noisy)]

    def median(self, way: str, figure: Callable[[CostRun], float]) -> float | None:
        """Over the runs of a way."""
        return median(map(figure, self.of(way))) if self.of(way) else None

    def ratio(self, way: str) -> float | None:
        """Tokens per second over those of `generate`."""
        own, plain = (self.median(one, lambda run: run.tokens_per_second) for one in (way, GENERATE))
        return own / plain if own and plain else None

    def delays(self, seconds: Callable[[Streams], Sequence[float]], in_steps: bool = False) -> list[float]:
        """The delays in all runs of the server together, in seconds, or in median steps of their run."""
        return [one / (run.step if in_steps else 1.0) for run in self.of(SERVER) if run.streams for one in seconds(run.streams)]

    def equal(self) -> float | None:
        """The share of answers that are those of the first `generate`, where it is lowest."""
        first = next(iter(self.of(GENERATE, quiet=False)), None)
        others = self.of(SERVER, quiet=False)
        return min((share_equal(run.answers, first.answers) for run in others), default=None) if first else None


DELAYS: dict[str, Callable[[Streams], Sequence[float]]] = {
    "loop: from due to called": lambda streams: streams.lags,
    "stream: from its token to its first byte": lambda streams: streams.firsts,
    "stream: from any token to its bytes": lambda streams: streams.pieces,
}
_LAG, _FIRST, _ = DELAYS.values()


def cost_rows(result: CostResult) -> list[list[str]]:
    """A row per way; a dash where no run was quiet enough to count."""
    share = "{:.1%}".format
    return [
        [
            way,
            or_dash(result.median(way, lambda run: run.tokens_per_second), "{:.1f}".format),
            or_dash(result.ratio(way), "{:.3f}".format),
            or_dash(result.median(way, lambda run: run.step), _milliseconds),
            or_dash(result.median(way, cpu_per_token), _milliseconds),
            or_dash(result.median(way, lambda run: run.meter.own_cpu), share),
            "—" if way == GENERATE else or_dash(result.median(way, lambda run: run.meter.helper_cpu), share),
            or_dash(result.median(way, lambda run: run.meter.others), share),
            f"{len(result.of(way))} of {len(result.of(way, quiet=False))}",
        ]
        for way in WAYS
    ]


def cpu_per_token(run: CostRun) -> float:
    """Seconds of CPU that the process of the engine had for a token, all its threads together."""
    return run.meter.own_cpu * run.meter.wall * (psutil.cpu_count() or 1) / sum(len(tokens) for tokens, _ in run.answers)


def delay_rows(result: CostResult) -> list[list[str]]:
    """What is late, and by how much."""
    rows = []
    for name, seconds in DELAYS.items():
        late, steps = result.delays(seconds), result.delays(seconds, in_steps=True)
        figures = [*(percentile(late, percent) for percent in PERCENTS), max(late, default=None)]
        in_steps = [None if seconds is _LAG else percentile(steps, percent) for percent in PERCENTS]
        shown = [or_dash(value, _milliseconds) for value in figures] + [or_dash(value, "{:.3f}".format) for value in in_steps]
        rows.append([name, *shown, str(len(late))])
    return rows


def percentile(values: Sequence[float], percent: float) -> float | None:
    return float(np.percentile(values, percent)) if values else None


def targets(result: CostResult) -> list[Target]:
    """What a server may cost, and how late it may be."""

    def first_byte(percent: int) -> Target:
        value = percentile(result.delays(_FIRST, in_steps=True), percent)
        return Target(f"first byte of a stream after its token, p{percent}", value, 1.0, False, "{:.2f} steps".format)

    return [
        Target("tokens/s, server / generate", result.ratio(SERVER), 0.95, True, "{:.3f} ×".format),
        Target("lag of the event loop, p99", percentile(result.delays(_LAG), 99), 0.05, False, _milliseconds),
        *map(first_byte, PERCENTS),
        Target("answers equal to generate's", result.equal(), 1.0, True, "{:.1%}".format),
    ]


def as_json(result: CostResult) -> list[dict[str, Any]]:
    """Each run by itself."""
    return [
        {
            "way": run.way,
            "seconds": run.seconds,
            "tokens": sum(len(tokens) for tokens, _ in run.answers),
            "tokens_per_second": run.tokens_per_second,
            "steps": len(run.steps) + 1,
            "median_step_seconds": run.step,
            "cpu_seconds_per_token": cpu_per_token(run),
            "cpu_share_of_process": run.meter.own_cpu,
            "cpu_share_of_client": run.meter.helper_cpu,
            "cpu_share_of_others": run.meter.others,
            "noisy": run.noisy,
            "delays": None if run.streams is None else _delays_as_json(run.streams),
        }
        for run in result.runs
    ]


def _delays_as_json(streams: Streams) -> dict[str, Any]:
    found = {"event_loop_lag": streams.lags, "first_byte": streams.firsts, "every_piece": streams.pieces}
    return {
        name: {
            **{f"p{percent}_seconds": percentile(own, percent) for percent in PERCENTS},
            "most_seconds": max(own, default=None),
        }
        for name, own in found.items()
    }


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms"
