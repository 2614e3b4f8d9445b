"""Figures over several lists of requests: a figure from one list may be luck."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import geometric_mean
from typing import Any

from tiny_llm_kit.bench.over_seeds import Spread
from tiny_llm_kit.bench.run import Result, find
from tiny_llm_kit.bench.serving import SIMULATED
from tiny_llm_kit.cli.tables import duration

COLUMNS = ["workload", "engine", "slots", "tokens/s", "× sequential", "× static", "TTFT p50", "TPOT p50", "of measured"]


@dataclass(frozen=True)
class Measured:
    """A list's results, and what each of its requests generates by itself.

    name: of the list, in tables. workload: what it is a list of.
    """

    name: str
    results: Sequence[Result]
    alone: Sequence[list[int]]
    workload: str = ""


Figure = Callable[[Result], float | None]


def speed(result: Result) -> float | None:
    return result.tokens_per_second


def over_lists(measured: Sequence[Measured], engine: str, slots: int, figure: Figure = speed) -> Spread | None:
    """A figure of an engine; None if one of the lists lacks it: it did not run, or not on a quiet machine."""
    results = [find(one.results, engine, slots) for one in measured]
    return _spread([figure(result) if result else None for result in results])


def ratio(measured: Sequence[Measured], ours: tuple[str, int], other: tuple[str, int], figure: Figure = speed) -> Spread | None:
    """How many times as much of a figure one engine at its slots has as another, list by list; None as in `over_lists`."""
    pairs = [(find(one.results, *ours), find(one.results, *other)) for one in measured]
    figures = [(a and figure(a), b and figure(b)) for a, b in pairs]
    return _spread([a / b if a and b else None for a, b in figures])


def _spread(values: Sequence[float | None]) -> Spread | None:
    known = [value for value in values if value]
    return Spread(geometric_mean(known), min(known), max(known)) if known and len(known) == len(values) else None


def compare(measured: Sequence[Measured]) -> list[dict[str, Any]]:
    """A record per workload, engine and slots: tokens per second, ratios to the baselines of its kind, and of a simulation to
    what was measured."""
    records = []
    for workload in dict.fromkeys(one.workload for one in measured):
        lists = [one for one in measured if one.workload == workload]
        for engine, slots in dict.fromkeys((r.case.engine, r.case.batch_size) for one in lists for r in one.results):
            kind = SIMULATED if engine.endswith(SIMULATED) else ""
            records.append(
                {
                    "workload": workload,
                    "engine": engine,
                    "slots": slots,
                    "lists": len(lists),
                    "tokens_per_second": over_lists(lists, engine, slots),
                    "times_sequential": ratio(lists, (engine, slots), (f"sequential{kind}", 1)),
                    "times_static": ratio(lists, (engine, slots), (f"static{kind}", slots)),
                    "ttft_p50_seconds": over_lists(lists, engine, slots, lambda result: result.percentile("ttft", 50)),
                    "tpot_p50_seconds": over_lists(lists, engine, slots, lambda result: result.percentile("tpot", 50)),
                    "of_measured": ratio(lists, (engine, slots), (engine.removesuffix(SIMULATED), slots)) if kind else None,
                }
            )
    return records


def rows(records: Sequence[dict[str, Any]]) -> list[list[str]]:
    """The cells of `COLUMNS`; a dash for what is missing."""

    def cell(record: dict[str, Any], name: str, form: Callable[[float], str]) -> str:
        return record[name].shown(form) if record[name] else "—"

    times = "{:.2f}".format
    return [
        [
            record["workload"],
            record["engine"],
            str(record["slots"]),
            cell(record, "tokens_per_second", "{:.0f}".format),
            cell(record, "times_sequential", times),
            cell(record, "times_static", times),
            cell(record, "ttft_p50_seconds", duration),
            cell(record, "tpot_p50_seconds", duration),
            cell(record, "of_measured", times),
        ]
        for record in records
    ]


def as_json(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {name: value._asdict() if isinstance(value, Spread) else value for name, value in record.items()} for record in records
    ]
