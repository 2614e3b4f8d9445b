"""What `pdm run claims` found, as tables, as JSON, and as a chart."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tiny_llm_kit.bench.law import LawRow
from tiny_llm_kit.bench.law_measured import MeasuredRow
from tiny_llm_kit.bench.ledger import Claim, Key
from tiny_llm_kit.bench.over_seeds import Spread
from tiny_llm_kit.bench.predicted import Predicted

LAW_COLUMNS = ["answers", "rows", "law", "steps counted", "steps simulated", "time simulated"]
MEASURED_COLUMNS = ["rows", "law", "counted", "steps", "time", "over sequential", "in use, static", "in use, continuous"]
LIMIT_COLUMNS = ["case", "law", "simulated", "simulated / law", "because"]
COMPARED_COLUMNS = ["compared", "law", "simulated", "is that as claimed?", "measured"]
LEDGER_COLUMNS = ["claim", "claimed", *COMPARED_COLUMNS]
SOURCE_COLUMNS = ["claim", "baseline", "workload", "hardware", "source", "source read?", "what must be true"]


@dataclass(frozen=True)
class Held:
    """A claim, and the results of its comparisons. measured: see `Key`."""

    claim: Claim
    predicted: Sequence[Predicted]
    measured: Mapping[Key, Spread]

    def measurement(self, predicted: Predicted) -> Spread | None:
        key = predicted.comparison.filed_under
        return self.measured.get(key) if key else None


def law_cells(rows: Sequence[LawRow]) -> list[list[str]]:
    return [
        [row.distribution, str(row.rows), f"{row.law:.2f}", *map(str, (row.counted, row.simulated, row.timed))] for row in rows
    ]


def measured_cells(rows: Sequence[MeasuredRow]) -> list[list[str]]:
    return [
        [
            str(row.rows),
            *map(str, (row.law, row.counted, row.steps, row.seconds, row.sequential)),
            *(one.shown("{:.0%}".format) for one in (row.static_utilization, row.continuous_utilization)),
        ]
        for row in rows
    ]


def limit_cells(limits: Sequence[Predicted]) -> list[list[str]]:
    return [
        [
            one.comparison.name,
            f"{one.law:.2f}",
            str(one.simulated),
            f"{one.simulated.mean / one.law:.0%}",
            one.comparison.why,
        ]
        for one in limits
        if one.law is not None
    ]


def compared_cells(held: Held) -> list[list[str]]:
    """A row for each comparison of a claim."""
    cells = []
    for one in held.predicted:
        measured = held.measurement(one)
        cells.append(
            [
                one.comparison.name,
                "—" if one.law is None else held.claim.shown(one.law),
                one.simulated.shown(held.claim.shown),
                held.claim.verdict(one.simulated.mean),
                "—" if measured is None else measured.shown(held.claim.shown),
            ]
        )
    return cells


def ledger_cells(ledger: Sequence[Held]) -> list[list[str]]:
    """All claims in one table."""
    return [[held.claim.name, held.claim.claimed, *cells] for held in ledger for cells in compared_cells(held)]


def source_cells(claims: Sequence[Claim]) -> list[list[str]]:
    return [
        [claim.name, claim.baseline, claim.workload, claim.hardware, claim.source, claim.checked, claim.needs]
        for claim in claims
    ]


def as_json(
    law: Sequence[LawRow], measured: Sequence[MeasuredRow], limits: Sequence[Predicted], ledger: Sequence[Held]
) -> dict[str, Any]:
    return {
        "law": [_named(asdict(row)) for row in law],
        "measured": [_named(asdict(row)) for row in measured],
        "limits": [_predicted(one) | {"because": one.comparison.why} for one in limits],
        "ledger": [_held(held) for held in ledger],
    }


def _held(held: Held) -> dict[str, Any]:
    claim = {key: value for key, value in vars(held.claim).items() if key != "comparisons"}
    comparisons = []
    for one in held.predicted:
        measured = held.measurement(one)
        record = _predicted(one) | {"verdict": held.claim.verdict(one.simulated.mean)}
        comparisons.append(record | {"measured": measured._asdict() if measured else None})
    return claim | {"comparisons": comparisons}


def _predicted(one: Predicted) -> dict[str, Any]:
    theirs = one.comparison.theirs
    return {
        "name": one.comparison.name,
        "theirs": asdict(theirs) if theirs else None,
        "ours": asdict(one.comparison.ours),
        "law": one.law,
        "simulated": one.simulated._asdict(),
    }


def _named(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value._asdict() if isinstance(value, Spread) else value for name, value in record.items()}


def draw(law: Sequence[LawRow], measured: Sequence[MeasuredRow], ledger: Sequence[Held], path: Path) -> None:
    """The law over the batch size, and the claims next to their simulations."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(14, 7), layout="constrained")
    for number, name in enumerate(dict.fromkeys(row.distribution for row in law)):
        rows = [row for row in law if row.distribution == name]
        sizes = [row.rows for row in rows]
        left.plot(sizes, [row.law for row in rows], color=f"C{number}", label=f"{name}: law")
        _points(left, sizes, [row.counted for row in rows], color=f"C{number}", marker="o", label=f"{name}: counted")
    if measured:
        sizes = [row.rows for row in measured]
        _points(left, sizes, [row.seconds for row in measured], color="black", marker="s", label="log-normal: measured time")
    left.set_xscale("log", base=2)
    left.set_xlabel("rows of the batch")
    left.set_ylabel("static over continuous")
    left.legend()
    _draw_ledger(right, [held for held in ledger if held.claim.figure == "throughput"])
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _points(axes: Any, places: Sequence[int], figures: Sequence[Spread], **style: Any) -> None:
    means = [one.mean for one in figures]
    spread = [[one.mean - one.least for one in figures], [one.most - one.mean for one in figures]]
    axes.errorbar(places, means, spread, linestyle="none", capsize=3, **style)


def _draw_ledger(axes: Any, ledger: Sequence[Held]) -> None:
    names, place = [], 0
    for held in ledger:
        first = place
        for one in held.predicted:
            names.append(f"{held.claim.name}:\n{one.comparison.name}" if place == first else one.comparison.name)
            axes.plot([one.simulated.least, one.simulated.most], [place, place], color="C0", linewidth=2)
            axes.plot(one.simulated.mean, place, "o", color="C0", label=None if place else "simulated")
            if one.law is not None:
                axes.plot(one.law, place, "|", color="C1", markersize=12, label=None if place else "law")
            place += 1
        low, high = held.claim.low * 0.98, held.claim.high * 1.02
        axes.fill_betweenx([first - 0.4, place - 0.6], low, high, color="C2", alpha=0.3, label=None if first else "claimed")
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.invert_yaxis()
    axes.set_xscale("log")
    ticks = [1, 2, 4, 8, 16, 32]
    axes.set_xticks(ticks, list(map(str, ticks)))
    axes.minorticks_off()
    axes.set_xlabel("times the throughput of the baseline")
    axes.legend()
