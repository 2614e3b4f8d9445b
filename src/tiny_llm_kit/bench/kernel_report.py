"""Kernels as a table, as records and as bars: from their times on a GPU, or from counts where there is none."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tiny_llm_kit.bench.kernel_counts import Counts
from tiny_llm_kit.bench.kernels import Figures, Peaks
from tiny_llm_kit.bench.report import Table
from tiny_llm_kit.cli.tables import markdown


@dataclass(frozen=True)
class Report:
    """What is shown of a run, with a row in each table, a record and a bar of each series for each kernel.

    about: {"figures": "times" or "counts"}, and what else a JSON file should say of the whole. notes: what has to be known to
    read the tables. axis: what the length of a bar is; 1 is marked.
    """

    about: dict[str, Any]
    tables: list[Table]
    notes: list[str]
    records: list[dict[str, Any]]
    bars: dict[str, list[float]]
    axis: str

    def as_markdown(self) -> str:
        return "\n\n".join([*(markdown(table.columns, table.rows) for table in self.tables), *self.notes])


def of_times(rows: Sequence[Figures], peaks: Peaks, repeats: int) -> Report:
    """For a GPU: times, medians of `repeats`, and the share of what the machine can do."""
    records = [asdict(row) | {"ratio": row.ratio, **_shares(row, peaks)} for row in rows]
    columns = ["kernel", "time", "MLX's", "of MLX's time", "speed", "of peak", "MLX's of peak"]
    note = (
        f"Seen of this machine: a copy moves {peaks.bytes / 1e9:.0f} GB/s, a large product computes "
        f"{peaks.operations / 1e9:.0f} GFLOP/s. A kernel is held against the one that bounds it."
    )
    return Report(
        {
            "figures": "times",
            "repeats": repeats,
            "peaks": {"copy_bytes_per_second": peaks.bytes, "operations_per_second": peaks.operations},
        },
        [
            Table("work", ["kernel", "inputs", "bytes", "operations", "difference"], [_work_cells(row) for row in rows]),
            Table("times", columns, [_time_cells(row, peaks) for row in rows]),
        ],
        [note],
        records,
        {"course": [r["share_of_peak"] for r in records], "MLX": [r["share_of_peak_mlx"] for r in records]},
        "share of the measured peak",
    )


def _shares(row: Figures, peaks: Peaks) -> dict[str, float]:
    least = peaks.least_seconds(row)
    return {"share_of_peak": least / row.ours, "share_of_peak_mlx": least / row.mlx}


def _work_cells(row: Figures) -> list[str]:
    operations = f"{row.operations / 1e6:.0f} M" if row.operations else "—"
    return [row.name, row.inputs, f"{row.bytes / 1e6:.1f} MB", operations, f"{row.difference:.1e}"]


def _time_cells(row: Figures, peaks: Peaks) -> list[str]:
    amount, unit = (row.bytes, "GB/s") if peaks.bounded_by_memory(row) else (row.operations, "GFLOP/s")
    times = [f"{seconds * 1e6:.1f} µs" for seconds in (row.ours, row.mlx)]
    shares = [f"{share:.0%}" for share in _shares(row, peaks).values()]
    return [row.name, *times, f"{row.ratio:.2f}", f"{amount / row.ours / 1e9:.0f} {unit}", *shares]


def of_counts(rows: Sequence[Counts]) -> Report:
    """For the CPU runner: what kernels do, and nothing about how long they take."""
    derived = ("bytes_per_load", "least_bytes", "ratio", "read_ratio")
    columns = ["kernel", "inputs", "threads", "barriers", "SIMD operations", "difference"]
    traffic = ["kernel", "loads", "bytes per load", "read", "written", "must move", "moved / must"]
    return Report(
        {"figures": "counts"},
        [
            Table("work", columns, [_count_cells(row) for row in rows]),
            Table("memory", traffic, [_traffic_cells(row) for row in rows]),
        ],
        [
            "These are counts and no speeds: MLX has no GPU here, so each access to memory was counted on the CPU.",
            "Each input has to be read once, the output written once. What a kernel reads again may come from a cache, and a "
            "GPU reads once what the lanes of a SIMD group want together.",
        ],
        [asdict(row) | {name: getattr(row, name) for name in derived} for row in rows],
        {"course": [row.read_ratio for row in rows]},
        "bytes read, over the bytes of the inputs",
    )


def _count_cells(row: Counts) -> list[str]:
    return [row.name, row.inputs, *map(str, (row.threads, row.barriers, row.simd_operations)), f"{row.difference:.1e}"]


def _traffic_cells(row: Counts) -> list[str]:
    sizes = [f"{size / 1024:.1f} KiB" for size in (row.bytes_read, row.bytes_written, row.least_bytes)]
    return [row.name, str(row.loads), f"{row.bytes_per_load:.1f}", *sizes, f"{row.ratio:.2f}"]


def draw(report: Report, path: Path, title: str) -> None:
    """A bar per kernel and series, the first kernel on top."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    height = 0.8 / len(report.bars)
    for number, (label, values) in enumerate(report.bars.items()):
        places = [row + number * height for row in range(len(values))]
        axes.bar_label(axes.barh(places, values, height, label=label), fmt="%.2f", padding=3)
    axes.set_yticks(
        [row + height * (len(report.bars) - 1) / 2 for row in range(len(report.records))],
        [record["name"] for record in report.records],
    )
    axes.invert_yaxis()
    axes.margins(x=0.1)
    axes.axvline(1, linestyle=":", color="gray")
    axes.set_xlabel(report.axis)
    axes.set_title(title)
    if len(report.bars) > 1:
        axes.legend()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
