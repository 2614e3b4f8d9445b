"""Results for people and for programs: a table, the targets, a JSON file, a chart."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiny_llm_kit.bench import over_lists
from tiny_llm_kit.bench.drafts import served_as_json
from tiny_llm_kit.bench.over_lists import Measured, Spread
from tiny_llm_kit.bench.run import Result, find, share_equal
from tiny_llm_kit.bench.serving import SIMULATED
from tiny_llm_kit.cli.tables import duration, markdown, or_dash

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


def as_markdown(tables: Sequence[Table], *notes: str) -> str:
    """Tables under their titles, and the notes below them, as a program writes them to its .md file."""
    return "\n\n".join([*(f"{table.title}\n\n{markdown(table.columns, table.rows)}" for table in tables), *notes])


@dataclass(frozen=True)
class Target:
    """Something the engine should reach; `value` None means that it was not measured, or not on a quiet machine.

    spread: what `value` is the mean of, if it is one.
    """

    name: str
    value: float | None
    limit: float
    at_least: bool
    show: Callable[[float], str]
    spread: Spread | None = None

    @property
    def met(self) -> bool | None:
        if self.value is None:
            return None
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def row(self) -> list[str]:
        wanted = f"{'≥' if self.at_least else '≤'} {self.show(self.limit)}"
        verdict = {True: "yes", False: "no", None: "not measured"}[self.met]
        value = "—" if self.value is None else self.spread.shown(self.show) if self.spread else self.show(self.value)
        return [self.name, wanted, value, verdict]

    def as_json(self) -> dict[str, Any]:
        own = {"name": self.name, "value": self.value, "limit": self.limit, "at_least": self.at_least, "met": self.met}
        return {**own, "least": self.spread.least, "most": self.spread.most} if self.spread else own


TARGET_COLUMNS = ["", "wanted", "measured", "reached"]


def rows(results: Sequence[Result]) -> list[list[str]]:
    """A row per result; a dash where no run was quiet enough to count."""
    return [_row(result) for result in sorted(results, key=lambda r: (r.case.batch_size, r.case.engine))]


def _row(result: Result) -> list[str]:
    return [
        result.case.engine,
        str(result.case.batch_size),
        or_dash(result.tokens_per_second, "{:.1f}".format),
        or_dash(result.requests_per_second, "{:.2f}".format),
        *(or_dash(result.percentile(name, percent), duration) for name in ("ttft", "tpot") for percent in (50, 95)),
        or_dash(result.median(lambda run: run.served.steps), "{:.0f}".format),
        or_dash(result.median(lambda run: run.served.utilization), "{:.0%}".format),
        or_dash(result.median(lambda run: run.peak_memory / 2**20) or None, "{:.0f} MiB".format),
        f"{len(result.quiet)} of {len(result.runs)}",
    ]


def targets(measured: Sequence[Measured], slots: int, outside_model: float, host_us: float) -> list[Target]:
    """What continuous batching should reach at `slots` slots; ratios are geometric means over the workloads."""
    continuous = [find(workload.results, "continuous", slots) for workload in measured]
    ran = [result for result in continuous if result]

    def ratio(name: str, engine: str, batch_size: int, limit: float) -> Target:
        found = over_lists.ratio(measured, ("continuous", slots), (engine, batch_size))
        return Target(name, found and found.mean, limit, True, "{:.2f} ×".format, found)

    same = [
        share_equal(run.served.tokens, workload.alone)
        for workload, result in zip(measured, continuous, strict=True)
        for run in (result.runs if result else [])
    ]
    crowded = [result.median(lambda run: run.served.crowded or 0.0) for result in ran]
    lowest = min((share for share in crowded if share is not None), default=None)

    over = f", geometric mean over {len(measured)} seeds" if len(measured) > 1 else ""
    share = "{:.1%}".format
    return [
        ratio(f"continuous / mlx-lm, {slots} slots{over}", "mlx-lm", slots, 1.5),
        ratio(f"continuous / static, {slots} slots{over}", "static", slots, 1.7),
        ratio(f"continuous / sequential{over}", "sequential", 1, 2.5),
        Target("answers equal to the request alone", min(same, default=None), 1.0, True, share),
        Target("slots in use while requests wait", lowest, 0.95, True, share),
        Target("time outside the model's calls", outside_model, 0.02, False, share),
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
                **served_as_json(run.served),
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
    speeds = {case: speed.mean for case in cases if (speed := over_lists.over_lists(measured, *case))}
    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    colours: dict[str, str] = {}
    for engine in dict.fromkeys(engine for engine, _ in speeds):
        points = sorted((size, speed) for (name, size), speed in speeds.items() if name == engine)
        served = engine.removesuffix(SIMULATED)
        style = "--" if served != engine else "-"
        if served == "sequential":
            axes.axhline(points[0][1], linestyle="-." if served != engine else ":", color="gray", label=engine)
        else:
            colour = colours.setdefault(served, f"C{len(colours)}")
            axes.plot(*zip(*points, strict=True), marker="o", linestyle=style, color=colour, label=engine)
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
