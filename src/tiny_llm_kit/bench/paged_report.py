"""What `bench-paged` shows of the engines' speed: a table, the targets, a chart."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from tiny_llm_kit.bench.drafts import served_as_json
from tiny_llm_kit.bench.gaps import Gaps
from tiny_llm_kit.bench.report import Target
from tiny_llm_kit.bench.run import Result, Run, find, share_equal
from tiny_llm_kit.cli.tables import duration, or_dash

ENGINES = ("slots", "paged", "mlx-lm")

COLUMNS = [
    "workload, seed",
    "engine",
    "slots",
    "tokens/s",
    "in flight",
    "TTFT p50",
    "TPOT p50",
    "steps",
    "peak memory",
    "quiet runs",
]


@dataclass(frozen=True)
class Served:
    """The results of one list of requests."""

    workload: str
    seed: int
    results: Sequence[Result]


def rows(served: Sequence[Served]) -> list[list[str]]:
    """A row per list and case; a dash where no run was quiet enough to count, or an engine does not report it."""
    return [_row(one, result) for one in served for result in one.results]


def _row(served: Served, result: Result) -> list[str]:
    return [
        f"{served.workload}, {served.seed}",
        result.case.engine,
        str(result.case.batch_size),
        or_dash(result.tokens_per_second, "{:.1f}".format),
        or_dash(result.median(in_flight), "{:.1f}".format),
        *(or_dash(result.percentile(name, percent), duration) for name, percent in (("ttft", 50), ("tpot", 50))),
        or_dash(result.median(lambda run: run.served.steps), "{:.0f}".format),
        or_dash(result.median(lambda run: run.peak_memory / 2**20), "{:.0f} MiB".format),
        f"{len(result.quiet)} of {len(result.runs)}",
    ]


def in_flight(run: Run) -> float:
    return run.served.in_flight or 0.0


def ratio(
    served: Sequence[Served], workload: str, engine: str, slots: int, figure: Callable[[Result], float | None] | None = None
) -> float | None:
    """How many times as much `paged` has of a figure, tokens/s by default: the geometric mean over the seeds of a workload.

    None if one of them was not measured, or not on a quiet machine.
    """
    measure = figure or (lambda result: result.tokens_per_second)
    pairs = [
        (find(one.results, "paged", slots), find(one.results, engine, slots)) for one in served if one.workload == workload
    ]
    figures = [(ours and measure(ours), other and measure(other)) for ours, other in pairs]
    ratios = [ours / other for ours, other in figures if ours and other]
    return geometric_mean(ratios) if ratios and len(ratios) == len(pairs) else None


def targets(served: Sequence[Served], slots: int) -> list[Target]:
    """What the paged engine should reach with the memory of this many slots."""
    times = "{:.2f} ×".format

    def speed(workload: str, engine: str, limit: float) -> Target:
        return Target(f"{workload}: paged / {engine}", ratio(served, workload, engine, slots), limit, True, times)

    in_flight_ratio = ratio(served, "heavy-tail", "slots", slots, lambda result: result.median(in_flight))
    return [
        speed("heavy-tail", "slots", 1.05),
        Target("heavy-tail: requests in flight, paged / slots", in_flight_ratio, 2.0, True, times),
        speed("heavy-tail", "mlx-lm", 1.5),
        speed("shared-prefix", "mlx-lm", 3.0),
        speed("prefill-heavy", "mlx-lm", 1.0),
        Target("answers equal with paged and slots", _same_answers(served, slots), 1.0, True, "{:.1%}".format),
    ]


def _same_answers(served: Sequence[Served], slots: int) -> float | None:
    """The share of equal answers, in the list where it is lowest."""
    pairs = [(find(one.results, "paged", slots), find(one.results, "slots", slots)) for one in served]
    answers = [(a.runs[0].served.tokens, b.runs[0].served.tokens) for a, b in pairs if a and b]
    return min((share_equal(a, b) for a, b in answers), default=None)


def as_json(served: Sequence[Served]) -> list[dict[str, Any]]:
    """Each run by itself."""
    return [
        {
            "workload": one.workload,
            "seed": one.seed,
            "engine": result.case.engine,
            "slots": result.case.batch_size,
            "tokens_per_second": result.tokens_per_second,
            "in_flight": result.median(in_flight),
            "runs": [
                {
                    "seconds": run.seconds,
                    "tokens": sum(map(len, run.served.tokens)),
                    "steps": run.served.steps,
                    "peak_memory_bytes": run.peak_memory,
                    "cpu_share_of_others": run.others,
                    "noisy": run.noisy,
                    **served_as_json(run.served),
                }
                for run in result.runs
            ],
        }
        for one in served
        for result in one.results
    ]


def draw(served: Sequence[Served], gaps: Mapping[int, Gaps], slots: int, path: Path, title: str) -> None:
    """Tokens per second of each workload and engine, and the gaps over the prompt budget."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    workloads = list(dict.fromkeys(one.workload for one in served))
    for number, engine in enumerate(ENGINES):
        speeds = [_mean_speed(served, workload, engine, slots) for workload in workloads]
        left.bar([place + (number - 1) * 0.27 for place in range(len(workloads))], speeds, width=0.25, label=engine)
    left.set_xticks(range(len(workloads)), workloads)
    left.set_ylabel("generated tokens per second")
    left.set_title(title)
    left.legend()
    budgets = list(gaps)
    right.plot(budgets, [gaps[budget].percentile(99) * 1e3 for budget in budgets], marker="o", label="p99")
    right.plot(budgets, [gaps[budget].percentile(50) * 1e3 for budget in budgets], marker="o", label="p50")
    right.plot(budgets, [gaps[budget].median_before * 1e3 for budget in budgets], linestyle=":", label="median before")
    right.set_xscale("log", base=2)
    right.set_xticks(budgets, [str(budget) for budget in budgets])
    right.set_xlabel("prompt tokens per step")
    right.set_ylabel("gap between two tokens, ms")
    right.set_ylim(bottom=0)
    right.set_title("while a long prompt is read")
    right.legend()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _mean_speed(served: Sequence[Served], workload: str, engine: str, slots: int) -> float:
    """0 where it was not measured: no bar."""
    results = [find(one.results, engine, slots) for one in served if one.workload == workload]
    speeds = [result.tokens_per_second for result in results if result and result.tokens_per_second]
    return geometric_mean(speeds) if speeds else 0.0
