"""Kernels as a table, as records and as bars: from their times on a GPU, or from counts where there is none."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tiny_llm_kit.bench.kernel_counts import Counts
from tiny_llm_kit.bench.kernels import Figures, Peaks
from tiny_llm_kit.tables import markdown


@dataclass(frozen=True)
class Report:
    """What is shown of a run, with a row, a record and a bar of each series for each kernel.

    about: {"figures": "times" or "counts"}, and what else a JSON file should say of the whole. notes: what has to be known to
    read the table. axis: what the length of a bar is; 1 is marked.
    """

    about: dict[str, Any]
    notes: list[str]
    columns: list[str]
    rows: list[list[str]]
    records: list[dict[str, Any]]
    bars: dict[str, list[float]]
    axis: str

    def as_markdown(self) -> str:
        return "\n\n".join([markdown(self.columns, self.rows), *self.notes]) + "\n"


def of_times(rows: Sequence[Figures], peaks: Peaks) -> Report:
    """Of a GPU: times, and the share of what the machine can do."""
    return Report(
        {"figures": "times", "peaks": {"copy_bytes_per_second": peaks.bytes, "operations_per_second": peaks.operations}},
        [
            f"Seen of this machine: a copy moves {peaks.bytes / 1e9:.0f} GB/s, a large product computes "
            f"{peaks.operations / 1e9:.0f} GFLOP/s. A kernel is held against the one that bounds it."
        ],
        ["kernel", "inputs", "ours", "MLX's", "of MLX's time", "speed", "of peak", "MLX's of peak", "difference"],
        [_time_cells(row, peaks) for row in rows],
        [asdict(row) | {"ratio": row.ratio, **_shares(row, peaks)} for row in rows],
        {
            "course": [peaks.least_seconds(row) / row.ours for row in rows],
            "MLX": [peaks.least_seconds(row) / row.mlx for row in rows],
        },
        "share of the measured peak",
    )


def _shares(row: Figures, peaks: Peaks) -> dict[str, float]:
    least = peaks.least_seconds(row)
    return {"share_of_peak": least / row.ours, "share_of_peak_mlx": least / row.mlx}


def _time_cells(row: Figures, peaks: Peaks) -> list[str]:
    amount, unit = (row.bytes, "GB/s") if peaks.bounded_by_memory(row) else (row.operations, "GFLOP/s")
    return [
        row.name,
        row.inputs,
        *(f"{seconds * 1e6:.1f} µs" for seconds in (row.ours, row.mlx)),
        f"{row.ratio:.2f}",
        f"{amount / row.ours / 1e9:.0f} {unit}",
        *(f"{share:.0%}" for share in _shares(row, peaks).values()),
        f"{row.difference:.1e}",
    ]


def of_counts(rows: Sequence[Counts]) -> Report:
    """Of the CPU runner: what kernels do, and nothing of how long it takes them."""
    return Report(
        {"figures": "counts"},
        [
            "These are counts and no speeds: MLX has no GPU here, so each access to memory was counted on the CPU.",
            "`moved` is all bytes read and written, over `at least`: each input read once, the output written once. "
            "What is read again may come from a cache, and a GPU reads once what the lanes of a SIMD group want together.",
        ],
        [
            "kernel",
            "inputs",
            "threads",
            "loads",
            "bytes a load",
            "read",
            "written",
            "at least",
            "moved",
            "barriers",
            "SIMD operations",
            "difference",
        ],
        [_count_cells(row) for row in rows],
        [
            asdict(row)
            | {"bytes_per_load": row.bytes_per_load, "least_bytes": row.least_bytes, "ratio": row.ratio}
            | {"read_ratio": row.read_ratio}
            for row in rows
        ],
        {"course": [row.read_ratio for row in rows]},
        "bytes read, over the bytes of the inputs",
    )


def _count_cells(row: Counts) -> list[str]:
    return [
        row.name,
        row.inputs,
        f"{row.threads}",
        f"{row.loads}",
        f"{row.bytes_per_load:.1f}",
        *(f"{size / 1024:.1f} KiB" for size in (row.bytes_read, row.bytes_written, row.least_bytes)),
        f"{row.ratio:.2f} ×",
        f"{row.barriers}",
        f"{row.simd_operations}",
        f"{row.difference:.1e}",
    ]


def draw(report: Report, path: Path, title: str) -> None:
    """A bar a kernel and series, the first kernel on top."""
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
