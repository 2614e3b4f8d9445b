"""What calls cost in a simulation: a fit to this machine, or the roofline of another; the options and what they mean."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import click

from tiny_llm_kit.bench.fits import load_fit
from tiny_llm_kit.bench.simulation import BYTES, roofline
from tiny_llm_kit.cli.options import Real
from tiny_llm_kit.machine.published import published_machines
from tiny_llm_kit.models.shapes import SHAPES, read_shape, shape

MACHINE = "h100"


def cost_options(model: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The options of a program that simulates; `choose_cost` takes their values. `model` is the default one."""
    options = (
        click.option(
            "--fit", "fit_file", type=click.Path(path_type=Path), help="What calls cost: a fit.json of pdm run predict."
        ),
        click.option(
            "--preset", type=click.Choice(list(published_machines())), help=f"Or: a machine's roofline.  [default: {MACHINE}]"
        ),
        click.option("--model", type=click.Choice(SHAPES), help=f"With --preset: the model's sizes.  [default: {model}]"),
        click.option(
            "--config", "config_file", type=click.Path(path_type=Path), help="Or: those of a Hugging Face config.json."
        ),
        click.option("--bytes-per-weight", type=Real(1e-9, 1e9), help="With --preset; 4 bits are about 0.56.  [default: 2]"),
    )

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def choose_cost(
    answer: ModuleType,
    default_model: str,
    fit_file: Path | None,
    preset: str | None,
    model: str | None,
    config_file: Path | None,
    bytes_per_weight: float | None,
) -> tuple[Any, dict[str, Any]]:
    """The cost model, and what a file says of it.

    Raises:
        ValueError: for options that exclude each other, or files that hold no costs.
    """
    if fit_file is not None:
        for name, value in {
            "preset": preset,
            "model": model,
            "config": config_file,
            "bytes-per-weight": bytes_per_weight,
        }.items():
            if value is not None:
                raise ValueError(f"--{name} means nothing to --fit, which knows what calls cost: leave one of them out")
        return load_fit(answer, fit_file), {"words": f"fitted: {fit_file}", "fit": str(fit_file)}
    if model is not None and config_file is not None:
        raise ValueError("--model and --config both name sizes of a model: give one of them")
    name = str(config_file) if config_file else model or default_model
    sizes = read_shape(config_file) if config_file else shape(name)
    machine = published_machines()[preset or MACHINE]
    cost = roofline(answer, machine, sizes, bytes_per_weight or BYTES)
    about = {"words": f"{name} on {machine.title}", "preset": preset or MACHINE, "source": machine.source, "model": name}
    return cost, {**about, "bytes_per_weight": bytes_per_weight or BYTES, "knee": cost.knee}
