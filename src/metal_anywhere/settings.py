"""How the CPU runner is to run, for the length of a `with` block."""

import contextlib
import contextvars
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from metal_anywhere.launch import Launch

Order = Literal["ascending", "descending", "shuffled"]

_ORDERS: dict[str, int] = {"ascending": 0, "descending": 1, "shuffled": 2}


@dataclass
class Settings:
    """`order`: 0, 1 or 2, as in runtime/launch.h."""

    order: int = 0
    seed: int = 0
    partial_simd_groups: bool = False
    launches: list[Launch] = field(default_factory=list)


_forced: contextvars.ContextVar[Settings | None] = contextvars.ContextVar("cpu_runner", default=None)


@contextlib.contextmanager
def cpu_runner(order: Order = "ascending", seed: int = 0, partial_simd_groups: bool = False) -> Iterator[list[Launch]]:
    """Runs all kernels in the block on the CPU, whatever the machine, and collects what each launch did.

    order: in which order threads run between two barriers, SIMD groups and threadgroups too. A right kernel does not depend
    on it. seed: of the shuffled order. partial_simd_groups: let SIMD functions work on those lanes that reach them, as Metal
    does. Otherwise that is a mistake: NVIDIA has no answer to it, and it is seldom what was meant.
    """
    if order not in _ORDERS:
        raise ValueError(f"there is no order {order!r}: choose one of {', '.join(_ORDERS)}")
    settings = Settings(_ORDERS[order], seed, partial_simd_groups)
    token = _forced.set(settings)
    try:
        yield settings.launches
    finally:
        _forced.reset(token)


def is_forced() -> bool:
    """Whether this is inside a `cpu_runner()` block."""
    return _forced.get() is not None


def current_settings() -> Settings:
    """Those of the innermost `cpu_runner()` block, or the usual ones."""
    return _forced.get() or Settings()
