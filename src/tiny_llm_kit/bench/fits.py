"""Fitted costs: the better of two ways to read a run, and the file in which `pdm run predict` leaves one for simulations."""

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

FIT_COLUMNS = ["per", "µs"]
_MOST = 1e6
"""Seconds. No machine takes longer for a call."""


def fit_best(answer: ModuleType, works: Sequence[Any]) -> Any:
    """The `FittedCost` with the least error among those of `StepWork`s that have read one run, with `launch_waits` and without.

    Whether launching waits is the backend's business, and the log does not tell: but iterations whose times go to the wrong
    calls fit badly.
    """
    fits = [answer.fit_cost(work.iterations, launch_waits=work.launch_waits) for work in works]
    return min(fits, key=lambda fit: fit.error)


def weight_names(bends: Sequence[int]) -> list[str]:
    """What each weight of a `FittedCost` is for, in words."""
    edges = [0, *bends]
    pieces = [f"token {first + 1} to {last}" for first, last in zip(edges, bends, strict=False)]
    return ["call", *pieces, f"token from {edges[-1] + 1} on" if bends else "token", "output", "key", "pair"]


def fit_rows(fit: Any) -> list[list[str]]:
    """A table of the weights."""
    return [[name, f"{1e6 * weight:,.2f}"] for name, weight in zip(weight_names(fit.bends), fit.weights, strict=True)]


def fit_as_json(fit: Any) -> dict[str, Any]:
    """What a file says of a fit."""
    return {
        "seconds_per": dict(zip(weight_names(fit.bends), fit.weights, strict=True)),
        "bends": list(fit.bends),
        "error": fit.error,
        "launch_waits": fit.launch_waits,
    }


def load_fit(answer: ModuleType, path: Path) -> Any:
    """The `FittedCost` in a file that `pdm run predict` has written.

    Raises:
        ValueError: if the file cannot be read or holds no fit; it names the file.
    """
    try:
        fit = json.loads(path.read_text(encoding="utf-8"))["fit"]
        bends = tuple(int(bend) for bend in fit["bends"])
        weights = tuple(float(fit["seconds_per"][name]) for name in weight_names(bends))
        error = float(fit["error"])
        if len(fit["seconds_per"]) != len(weights) or not all(0 <= number <= _MOST for number in (*weights, error)):
            raise ValueError("weights")
        if any(after <= before for before, after in pairwise((0, *bends))) or not any(weights):
            raise ValueError("bends, or a cost of nothing")
        return answer.FittedCost(weights, bends, error, bool(fit["launch_waits"]))
    except OSError as error:
        raise ValueError(
            f"cannot read {str(path)!r} ({error.strerror}): name a file that pdm run predict has written"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise ValueError(f"{str(path)!r} holds no fitted cost: name a fit.json that pdm run predict has written") from None
