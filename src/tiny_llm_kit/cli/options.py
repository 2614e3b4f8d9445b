"""Options that several programs have, in the same words."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from tiny_llm_kit.cli.outputs import OutFile, OutFolder
from tiny_llm_kit.timeline.files import page_beside
from tiny_llm_kit.workloads.paged import PagedSizes


class TraceFile(OutFile):
    """The JSON file of a timeline; a page is written next to it."""

    def convert(self, value: str | Path, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = super().convert(value, param, ctx)
        if path.suffix == ".html":
            self.fail(f"{str(value)!r} will be the page: name its JSON file, {str(path.with_suffix('.json'))!r}", param, ctx)
        if path.exists() and not path.is_file():
            self.fail(f"{str(value)!r} is not an ordinary file, and a page is written next to it: name one", param, ctx)
        return self._checked(path, page_beside(path), param, ctx)


KERNELS = ("arrays", "mlx", "course")
LARGEST_SEED = 2**32 - 1
MOST_REQUESTS = 100_000
"""The most requests that real engines serve: more would take days, and their prompts would fill the memory."""


class Numbers(click.ParamType):
    """A list of positive numbers, with commas between them."""

    name = "N,N,…"

    def __init__(self, most: float = math.inf) -> None:
        self.most = most

    def convert(self, value: str | list[int], param: click.Parameter | None, ctx: click.Context | None) -> list[int]:
        if isinstance(value, list):
            return value
        try:
            numbers = sorted({int(part) for part in value.split(",")})
        except ValueError:
            self.fail(f"{value!r} is not a list of numbers such as 1,2,4", param, ctx)
        if numbers[0] < 1:
            self.fail(f"{numbers[0]} is too few: it must be at least 1", param, ctx)
        if numbers[-1] > self.most:
            self.fail(f"{numbers[-1]} is too many: it must be at most {self.most:,}", param, ctx)
        return numbers


class Real(click.FloatRange):
    """A range of finite numbers. `FloatRange` takes NaN for a number within every range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return number


kernels_option = click.option(
    "--kernels",
    type=click.Choice(KERNELS),
    help="What computes: arrays, MLX's fused kernels, or the course's Metal kernels.  [default: arrays on a CPU, else mlx]",
)
engine_option = click.option(
    "--engine", type=click.Choice(("slots", "paged")), default="slots", show_default=True, help="Week 2's, or week 3's."
)
model_option = click.option(
    "--model", help="A hub name, a folder or a .gguf file.  [default: the embedded SmolLM2-135M-Instruct]"
)
out_option = click.option("--out", type=OutFolder(), default=Path("results"), show_default=True, help="Where results go.")
trace_option = click.option(
    "--trace", type=TraceFile(), help="Write a timeline to this JSON file (for Perfetto), and as a page (.html) next to it."
)
kv_bits_option = click.option(
    "--kv-bits",
    type=click.Choice(("8", "4")),
    callback=lambda context, option, value: value and int(value),
    help="Paged: store keys and values in this many bits.  [default: as they are]",
)
simulate_option = click.option(
    "--simulate",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FIT",
    help="Also in simulation, with the costs that pdm run predict has fitted.",
)
noise_option = click.option("--noise", type=Real(0, 1), default=0.05, show_default=True, help="CPU share others may have.")
seed_type = click.IntRange(0, LARGEST_SEED)

speculate_option = click.option(
    "--speculate",
    type=click.Choice(("ngram",)),
    help="Paged: guess that the text repeats itself, and check the guesses alongside.",
)

_count = click.IntRange(min=1)
_sizes = PagedSizes()
_PAGED = (
    click.option("--block-size", type=_count, help=f"Paged: tokens per block.  [default: {_sizes.block_size}]"),
    click.option("--num-blocks", type=_count, help="Paged: blocks.  [default: as many tokens as the slots would hold]"),
    click.option("--max-num-seqs", type=_count, help=f"Paged: most requests at a time.  [default: {_sizes.max_num_seqs}]"),
    click.option(
        "--max-num-batched-tokens",
        type=_count,
        help=f"Paged: most tokens per step, decodes and prompts.  [default: {_sizes.max_num_batched_tokens}]",
    ),
)


def paged_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of a program that runs the paged engine; `paged_sizes` takes their values."""
    for option in reversed(_PAGED):
        command = option(command)
    return command


def paged_sizes(**given: Any) -> PagedSizes:
    """The sizes that were asked for, and the default ones in place of None."""
    return PagedSizes(**{name: value for name, value in given.items() if value is not None})


def trace_files(trace: Path | None) -> dict[str, Path | None]:
    """What --trace writes, for `check_apart`."""
    return {"--trace": trace, "the page of --trace": page_beside(trace) if trace else None}


def refuse(engine: str, **given: Any) -> None:
    """ValueError for an option that was given but means nothing to the chosen engine."""
    for name, value in given.items():
        if value is not None:
            raise ValueError(f"--{name.replace('_', '-')} means nothing to --engine {engine}: leave it out")
