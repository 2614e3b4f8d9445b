"""Programs that run on an answer package: importing it, and ending politely at a task that is still to be done."""

import contextlib
import importlib
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import click

from metal_anywhere.backend import backend
from metal_anywhere.compiler import find_compiler
from metal_anywhere.errors import NoCompiler
from tiny_llm_kit.cli.errors import BadInput
from tiny_llm_kit.cli.text import harmless
from tiny_llm_kit.course.course_map import solution_package
from tiny_llm_kit.workloads.items import WorkItem


def choose_operators(answer: ModuleType, kernels: str | None) -> Any:
    """The `Operators` of an answer package that `--kernels` names; without it, those that are fastest on this machine.

    NoCompiler if they could not run: here it is said once, and not by each request that fails.
    """
    if kernels == "course" and backend() == "cpu":
        find_compiler(kernels)
    return answer.OPERATORS[kernels or ("arrays" if backend() == "cpu" else "mlx")]


def import_answer(solution: str) -> ModuleType:
    """The package that `--solution` names; ValueError if there is none."""
    return importlib.import_module(solution_package(solution))


@contextlib.contextmanager
def ends_politely() -> Iterator[None]:
    """One clear message and no traceback, as a decorator of a command or around a block.

    A stub that is still a stub, bad input, a missing compiler: exit code 2. Ctrl-C: 130.
    """
    try:
        yield
    except NotImplementedError as stub:
        raise BadInput(
            harmless(f"{stub}\nThis program needs that task. To watch the reference instead: --solution ref")
        ) from None
    except (ValueError, NoCompiler) as error:
        raise BadInput(harmless(str(error))) from None
    except KeyboardInterrupt:
        click.echo("\nInterrupted.", err=True)
        raise SystemExit(130) from None


def first_failure(requests: Sequence[Any], items: Sequence[WorkItem]) -> str | None:
    """What to say if requests failed: how many, and the first error with the line that raised it; None if none did."""
    failed = [(number, request) for number, request in enumerate(requests, start=1) if request.finish_reason == "error"]
    if not failed:
        return None
    number, request = failed[0]
    label = f" ({items[number - 1].label})" if items[number - 1].label else ""
    frames = traceback.extract_tb(request.error.__traceback__) if request.error else []
    where = f", raised at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return harmless(
        f"{len(failed)} of {len(requests)} requests failed. The first is request {number}{label}: "
        f"{type(request.error).__name__}: {request.error}{where}"
    )
