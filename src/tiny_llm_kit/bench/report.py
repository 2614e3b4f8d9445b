"""Results for people and for programs: a table, the targets, a JSON file, a chart."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import geometric_mean
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
class Table:
    title: str
    columns: list[str]
    rows: list[list[str]]


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

    def as_json(self) -> dict[str, Any]:
        return {"name": self.name, "value": self.value, "limit": self.limit, "at_least": self.at_least, "met": self.met}


TARGET_COLUMNS = ["", "wanted", "measured", "reached"]


@dataclass(frozen=True)
class Measured:
    """A workload's results, and what each of its requests generates by itself."""

    name: str
    results: Sequence[Result]
    alone: Sequence[list[int]]


def rows(results: Sequence[Result]) -> list[list[str]]:
    """A row per result; a dash where no run was quiet enough to count."""
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


def targets(measured: Sequence[Measured], slots: int, beside_model: float, host_us: float) -> list[Target]:
    """What continuous batching should reach at `slots` slots; ratios are geometric means over the workloads."""
    continuous = [find(workload.results, "continuous", slots) for workload in measured]
    ran = [result for result in continuous if result]

    def ratio(engine: str, batch_size: int) -> float | None:
        others = [find(workload.results, engine, batch_size) for workload in measured]
        speeds = [(a and a.tokens_per_second, b and b.tokens_per_second) for a, b in zip(continuous, others, strict=True)]
        ratios = [ours / other for ours, other in speeds if ours and other]
        return geometric_mean(ratios) if len(ratios) == len(measured) else None

    same = [
        sum(a == b for a, b in zip(run.served.tokens, workload.alone, strict=True)) / len(workload.alone)
        for workload, result in zip(measured, continuous, strict=True)
        for run in (result.runs if result else [])
    ]
    crowded = [result.median(lambda run: run.served.crowded or 0.0) for result in ran]
    lowest = min((share for share in crowded if share is not None), default=None)

    over = f", geometric mean over {len(measured)} seeds" if len(measured) > 1 else ""
    times = "{:.2f} ×".format
    share = "{:.1%}".format
    return [
        Target(f"continuous / mlx-lm, {slots} slots{over}", ratio("mlx-lm", slots), 1.5, True, times),
        Target(f"continuous / static, {slots} slots{over}", ratio("static", slots), 1.7, True, times),
        Target(f"continuous / sequential{over}", ratio("sequential", 1), 2.5, True, times),
        Target("answers equal to the request alone", min(same, default=None), 1.0, True, share),
        Target("slots in use while requests wait", lowest, 0.95, True, share),
        Target("time beside the model's calls", beside_model, 0.02, False, share),
        Target("host time of a step, 64 slots, fake model", host_us, 100, False, "{:.0f} µs".format),
    ]


def as_json(measured: Sequence[Measured], goals: Sequence[Target], about: dict[str, Any]) -> dict[str, Any]:
    """Everything that was measured, each run by itself."""
    return {
        **about,
        "targets": [goal.as_json() for goal in goals],
        "results": [_result_as_json(workload.name, result) for workload in measured for result in workload.results],
    }


def _result_as_json(workload: str, result: Result) -> dict[str, Any]:
    return {
        "workload": workload,
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


def draw(measured: Sequence[Measured], path: Path, title: str) -> None:
    """Tokens per second over the batch size, a line per engine; with several workloads, their geometric mean."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    cases = dict.fromkeys((result.case.engine, result.case.batch_size) for work in measured for result in work.results)
    speeds = {case: speed for case in cases if (speed := _mean_speed(measured, *case))}
    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    for engine in dict.fromkeys(engine for engine, _ in speeds):
        points = sorted((size, speed) for (name, size), speed in speeds.items() if name == engine)
        if engine == "sequential":
            axes.axhline(points[0][1], linestyle=":", color="gray", label=engine)
        else:
            axes.plot(*zip(*points, strict=True), marker="o", label=engine)
    sizes = sorted({size for _, size in cases})
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.set_xlabel("slots (batch size)")
    axes.set_ylabel("generated tokens per second")
    axes.set_ylim(bottom=0)
    axes.set_title(title)
    axes.legend()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _mean_speed(measured: Sequence[Measured], engine: str, batch_size: int) -> float | None:
    results = [find(workload.results, engine, batch_size) for workload in measured]
    speeds = [result.tokens_per_second for result in results if result and result.tokens_per_second]
    return geometric_mean(speeds) if len(speeds) == len(measured) else None
