"""What `bench-speculation` shows: a table, the targets, a JSON document."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tiny_llm_kit.bench.drafts import shown_share
from tiny_llm_kit.bench.report import Target
from tiny_llm_kit.bench.run import Result, find, share_equal
from tiny_llm_kit.cli.tables import duration, or_dash

ENGINES: dict[str, str | None] = {"plain": None, "always 4": "ngram-4", "adaptive": "ngram"}
"""What is compared, and how each speculates."""

COLUMNS = [
    "workload",
    "rows",
    "drafts",
    "tokens/s",
    "× plain",
    "steps",
    "tokens per step",
    "drafted",
    "accepted",
    "TPOT p50",
    "quiet runs",
]


@dataclass(frozen=True)
class Served:
    """The results of one workload."""

    workload: str
    results: Sequence[Result]

    def ratio(self, engine: str, rows: int) -> float | None:
        """How many times as fast as without drafts; None if one of the two was not measured, or not on a quiet machine."""
        ours, plain = (find(self.results, name, rows) for name in (engine, "plain"))
        speeds = [result.tokens_per_second if result else None for result in (ours, plain)]
        return speeds[0] / speeds[1] if speeds[0] and speeds[1] else None


def rows(served: Sequence[Served]) -> list[list[str]]:
    """A row per workload, number of rows and engine; a dash where no run was quiet enough to count."""
    return [_row(one, result) for one in served for result in one.results]


def _row(one: Served, result: Result) -> list[str]:
    case, first = result.case, result.runs[0].served
    return [
        one.workload,
        str(case.batch_size),
        case.engine,
        or_dash(result.tokens_per_second, "{:.1f}".format),
        or_dash(one.ratio(case.engine, case.batch_size), "{:.2f}".format),
        str(first.steps),
        f"{first.tokens_per_step:.2f}",
        or_dash(first.drafted, str),
        shown_share(first),
        or_dash(result.percentile("tpot", 50), duration),
        f"{len(result.quiet)} of {len(result.runs)}",
    ]


def targets(served: Sequence[Served]) -> list[Target]:
    """What adaptive drafts should reach alone and with 8 rows."""
    by_name = {one.workload: one for one in served}

    def speed(workload: str, count: int, limit: float) -> Target:
        ratio = by_name[workload].ratio("adaptive", count) if workload in by_name else None
        return Target(f"{workload}, rows: {count}, adaptive / plain", ratio, limit, True, "{:.2f} ×".format)

    return [
        speed("copying", 1, 2.5),
        speed("chat", 1, 1.05),
        speed("copying", 8, 1.5),
        speed("chat", 8, 0.97),
        Target("answers equal with and without drafts", _same_answers(served), 1.0, True, "{:.1%}".format),
    ]


def _same_answers(served: Sequence[Served]) -> float | None:
    """The share of equal answers, where it is lowest."""
    shares = []
    for one in served:
        for result in one.results:
            plain = find(one.results, "plain", result.case.batch_size)
            if plain is not None and plain is not result:
                shares.append(share_equal(result.runs[0].served.tokens, plain.runs[0].served.tokens))
    return min(shares, default=None)


def as_json(served: Sequence[Served]) -> list[dict[str, Any]]:
    """Each run by itself."""
    return [
        {
            "workload": one.workload,
            "rows": result.case.batch_size,
            "drafts": result.case.engine,
            "tokens_per_second": result.tokens_per_second,
            "ratio_to_plain": one.ratio(result.case.engine, result.case.batch_size),
            "runs": [
                {
                    "seconds": run.seconds,
                    "tokens": sum(map(len, run.served.tokens)),
                    "steps": run.served.steps,
                    "tokens_per_step": run.served.tokens_per_step,
                    "drafted": run.served.drafted,
                    "accepted": run.served.accepted,
                    "cpu_share_of_others": run.others,
                    "noisy": run.noisy,
                }
                for run in result.runs
            ],
        }
        for one in served
        for result in one.results
    ]
