"""What a measurement ran on, and whether the machine was quiet meanwhile.

A number without its machine means little, and a number taken while other programs ran means less: benchmarks store
`describe_machine()` with every result and repeat a run that `LoadMeter` calls noisy. Nothing here reveals who ran it or
where: no host name, user name or path.
"""

import platform
import subprocess
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Self

import mlx.core as mx
import psutil

from metal_anywhere.backend import backend
from tiny_llm_kit.machine import fast_blas

PACKAGES = ("mlx", "mlx-lm", "numpy", "scipy-openblas32")

TELLING = 1.0
"""Seconds of a block from which a share of the CPU is more than a few ticks."""


def describe_machine() -> dict[str, Any]:
    """A description of this machine and its software that json.dumps takes; None where something is not known."""
    blas = fast_blas.status()
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "git": _git_state(),
        "os": platform.platform(),
        "cpu": mx.device_info(mx.cpu)["device_name"],
        "cores": {"logical": psutil.cpu_count(), "physical": psutil.cpu_count(logical=False)},
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "backend": backend(),
        "gpu": None if backend() == "cpu" else mx.device_info()["device_name"],
        "blas": {"name": blas.name, "threads": blas.threads, "follows_load": blas.follows_load, "core": blas.core},
        "python": platform.python_version(),
        "versions": {package: _version(package) for package in PACKAGES},
    }


class LoadMeter:
    """Measures, as a context manager, how busy the machine was with other programs during a block.

    After the block, `wall` is its length in seconds. The rest are fractions of what the machine's cores could have done in that
    time: `own_cpu` this process alone, all its threads; `helper_cpu` the helpers; `other_cpu` every other process, children of
    this one included; `steal` what a hypervisor took away, if the system says. The system counts in ticks of about 10 ms: give
    it blocks of a second or longer.

    Args:
        helpers: processes that are part of what is measured. They must outlive the block.
    """

    wall: float
    own_cpu: float
    helper_cpu: float
    other_cpu: float
    steal: float

    def __init__(self, helpers: Sequence[psutil.Process] = ()) -> None:
        self._helpers = helpers

    def __enter__(self) -> Self:
        self._start = _Clocks(self._helpers)
        return self

    def __exit__(self, *error: object) -> None:
        start, end = self._start, _Clocks(self._helpers)
        self.wall = end.wall - start.wall
        capacity = self.wall * (psutil.cpu_count() or 1)
        own, helped = end.own - start.own, end.helped - start.helped
        self.own_cpu = own / capacity
        self.helper_cpu = helped / capacity
        self.other_cpu = max(0.0, end.busy - start.busy - own - helped) / capacity
        self.steal = (end.steal - start.steal) / capacity

    @property
    def others(self) -> float:
        """What this process could not use: the share of other processes, and what a hypervisor took away."""
        return self.other_cpu + self.steal

    def noisy(self, limit: float = 0.05) -> bool:
        """Whether others had more than `limit` of the machine: too much to trust a time measured in the block."""
        return self.others > limit

    @property
    def disturbed(self) -> bool:
        """The same as a message to a person; never for a block so short that a tick or two would make it noisy."""
        return self.wall >= TELLING and self.noisy()


class _Clocks:
    """Seconds so far: of the wall clock, of CPU by this process, by its helpers, and by all, idle and stolen time apart."""

    def __init__(self, helpers: Sequence[psutil.Process]) -> None:
        system = psutil.cpu_times()
        self.wall = time.perf_counter()
        self.own = time.process_time()
        self.helped = sum(times.user + times.system for times in (helper.cpu_times() for helper in helpers))
        self.steal: float = getattr(system, "steal", 0.0)
        # On Linux, `user` already holds the time of guests, and waiting for a disk leaves the core free.
        self.busy = sum(getattr(system, kind, 0.0) for kind in ("user", "nice", "system", "irq", "softirq"))


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git_state() -> dict[str, Any] | None:
    """The commit this file belongs to, and whether any file was changed or added since; None outside a repository."""
    git = ("git", "-C", str(Path(__file__).parent))
    commit = _output(*git, "rev-parse", "HEAD")
    if commit is None:
        return None
    return {"commit": commit, "dirty": bool(_output(*git, "status", "--porcelain"))}


def _output(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
