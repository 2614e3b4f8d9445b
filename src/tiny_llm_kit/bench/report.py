"""Results for people and for programs: a table, the targets, a JSON file, a chart."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiny_llm_kit.bench.run import Result, find
from tiny_llm_kit.cli.tables import duration

COLUMNS = [
    "engine",
    "slots",
    "tokens/s",
    "requests/s",
    "TTFT p50",
    "TTFT p95",
    "TPOT p50",
    "TPOT p95",
    "steps",
    "in use",
    "peak memory",
    "quiet runs",
]


@dataclass(frozen=True)
class Target:
    """Something the engine should reach; `value` None means that it was not measured, or not on a quiet machine."""

    name: str
    value: float | None
    limit: float
    at_least: bool
    show: Callable[[float], str]

    @property
    def met(self) -> bool | None:
        if self.value is None:
            return None
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def row(self) -> list[str]:
        wanted = f"{'≥' if self.at_least else '≤'} {self.show(self.limit)}"
        verdict = {True: "yes", False: "no", None: "not measured"}[self.met]
        return [self.name, wanted, "—" if self.value is None else self.show(self.value), verdict]


def rows(results: Sequence[Result]) -> list[list[str]]:
    """A row a result; a dash where no run was quiet enough to count."""
    return [_row(result) for result in sorted(results, key=lambda r: (r.case.batch_size, r.case.engine))]


def _row(result: Result) -> list[str]:
    def shown(value: float | None, form: Callable[[float], str]) -> str:
        return "—" if value is None else form(value)

    return [
        result.case.engine,
        str(result.case.batch_size),
        shown(result.tokens_per_second, "{:.1f}".format),
        shown(result.requests_per_second, "{:.2f}".format),
        *(shown(result.percentile(name, percent), duration) for name in ("ttft", "tpot") for percent in (50, 95)),
        shown(result.median(lambda run: run.served.steps), "{:.0f}".format),
        shown(result.median(lambda run: run.served.utilization), "{:.0%}".format),
        shown(result.median(lambda run: run.peak_memory / 2**20), "{:.0f} MiB".format),
        f"{len(result.quiet)} of {len(result.runs)}",
    ]


def targets(
    results: Sequence[Result], slots: int, alone: Sequence[list[int]], beside_model: float, host_us: float
) -> list[Target]:
    """What continuous batching should reach at `slots` slots; `alone` is what every request generates by itself."""
    continuous = find(results, "continuous", slots)

    def ratio(engine: str, batch_size: int) -> float | None:
        other = find(results, engine, batch_size)
        speeds = [r.tokens_per_second if r else None for r in (continuous, other)]
        return speeds[0] / speeds[1] if speeds[0] and speeds[1] else None

    runs = continuous.runs if continuous else []
    same = [sum(a == b for a, b in zip(run.served.tokens, alone, strict=True)) / len(alone) for run in runs]
    crowded = continuous.median(lambda run: run.served.crowded or 0.0) if continuous else None

    times = "{:.2f} ×".format
    share = "{:.1%}".format
    return [
        Target(f"continuous / mlx-lm, {slots} slots", ratio("mlx-lm", slots), 1.2, True, times),
        Target(f"continuous / static, {slots} slots", ratio("static", slots), 1.7, True, times),
        Target("continuous / sequential", ratio("sequential", 1), 2.5, True, times),
        Target("answers equal to the request alone", min(same, default=None), 1.0, True, share),
        Target("slots in use while requests wait", crowded, 0.95, True, share),
        Target("time beside the model's calls", beside_model, 0.02, False, share),
        Target("host time of a step, 64 slots, fake model", host_us, 100, False, "{:.0f} µs".format),
    ]


def as_json(results: Sequence[Result], goals: Sequence[Target], about: dict[str, Any]) -> dict[str, Any]:
    """Everything that was measured, each run by itself."""
    return {
        **about,
        "targets": [
            {"name": goal.name, "value": goal.value, "limit": goal.limit, "at_least": goal.at_least, "met": goal.met}
            for goal in goals
        ],
        "results": [
            {
                "engine": result.case.engine,
                "slots": result.case.batch_size,
                "tokens_per_second": result.tokens_per_second,
                "requests_per_second": result.requests_per_second,
                **{f"{n}_p{p}_seconds": result.percentile(n, p) for n in ("ttft", "tpot") for p in (50, 95)},
                "runs": [
                    {
                        "seconds": run.seconds,
                        "tokens": sum(map(len, run.served.tokens)),
                        "steps": run.served.steps,
                        "utilization": run.served.utilization,
                        "utilization_while_waiting": run.served.crowded,
                        "peak_memory_bytes": run.peak_memory,
                        "cpu_share_of_others": run.others,
                        "noisy": run.noisy,
                    }
                    for run in result.runs
                ],
            }
            for result in results
        ],
    }


def draw(results: Sequence[Result], path: Path, title: str) -> None:
    """Tokens per second over the batch size, a line an engine."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    for engine in dict.fromkeys(result.case.engine for result in results):
        points = sorted((r.case.batch_size, r.tokens_per_second) for r in results if r.case.engine == engine and r.quiet)
        if engine == "sequential" and points:
            axes.axhline(points[0][1] or 0.0, linestyle=":", color="gray", label=engine)
        elif points:
            axes.plot(*zip(*points, strict=True), marker="o", label=engine)
    sizes = sorted({result.case.batch_size for result in results})
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.set_xlabel("slots (batch size)")
    axes.set_ylabel("generated tokens per second")
    axes.set_ylim(bottom=0)
    axes.set_title(title)
    axes.legend()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
