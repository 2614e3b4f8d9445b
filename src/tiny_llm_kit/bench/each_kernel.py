"""One kernel after the other: what was seen of each, or why nothing was."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from rich.console import Console

from metal_anywhere import NoCompiler
from tiny_llm_kit.bench.kernel_cases import Comparison
from tiny_llm_kit.cli.progress import progress_bar

Row = TypeVar("Row")


def look_at_each(
    console: Console, makers: Mapping[str, Callable[[], Comparison]], look_at: Callable[[Comparison], Row]
) -> tuple[list[Row], dict[str, str]]:
    """The rows, and by name why there is none of the other kernels: one broken kernel does not hide the rest.

    Raises:
        NotImplementedError: if a kernel is a stub.
        NoCompiler: if no kernel can run here.
    """
    rows: list[Row] = []
    failures = {}
    with progress_bar(console, "kernels", len(makers)) as bar:
        for name, make in makers.items():
            bar.describe(name)
            try:
                rows.append(look_at(make()))
            except (NotImplementedError, NoCompiler):  # RuntimeErrors too, but not this kernel's alone
                raise
            except RuntimeError as error:  # a kernel that the GPU's compiler refuses, for one
                failures[name] = str(error)
            bar.advance()
    return rows, failures
