"""Programs that run on an answer package: importing it, and ending politely at a task that is still to be done."""

import contextlib
import importlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import click

from metal_anywhere.backend import backend
from metal_anywhere.compiler import find_compiler
from metal_anywhere.errors import NoCompiler
from tiny_llm_kit.cli.errors import BadInput
from tiny_llm_kit.course.course_map import solution_package

KERNELS = ("arrays", "mlx", "course")

kernels_option = click.option(
    "--kernels",
    type=click.Choice(KERNELS),
    help="What computes: arrays, MLX's fused kernels, or the course's Metal kernels.  [default: arrays on a CPU, else mlx]",
)


def choose_operators(answer: ModuleType, kernels: str | None) -> Any:
    """The `Operators` of an answer package that `--kernels` names; without it, those that are fastest on this machine.

    NoCompiler if they could not run: said here, it is said once, and not by each request that fails.
    """
    if kernels == "course" and backend() == "cpu":
        find_compiler(kernels)
    return answer.OPERATORS[kernels or ("arrays" if backend() == "cpu" else "mlx")]


def import_answer(solution: str) -> ModuleType:
    """The package that `--solution` names; ValueError if there is none."""
    return importlib.import_module(solution_package(solution))


@contextlib.contextmanager
def unfinished_tasks_end_the_program() -> Iterator[None]:
    """A stub that is still a stub, bad input, or a compiler that is lacking: exit code 2 and one clear message."""
    try:
        yield
    except NotImplementedError as stub:
        raise BadInput(f"{stub}\nThis program needs that task. To watch the reference instead: --solution ref") from None
    except (ValueError, NoCompiler) as error:
        raise BadInput(str(error)) from None
    except KeyboardInterrupt:
        raise click.Abort from None
