"""Which cores this process may use on Linux, and how busy they are.

Two things bound it: the processors that it may run on (`sched_getaffinity`), and the processor time that a container
pays for (control groups: https://docs.kernel.org/admin-guide/cgroup-v2.html, `cpu.max`). Both are shared with others.
"""

import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

ROOT = Path("/")
KINDS = 8  # of time in a line of /proc/stat: user nice system idle iowait irq softirq steal; guests are counted in user
IDLE_KINDS = (3, 4)


@dataclass(frozen=True)
class Budget:
    """This many `cores` at a time, perhaps a fraction. `used()`: seconds of processor time that all their users have had so
    far."""

    cores: float
    used: Callable[[], float]


def find_budgets(root: Path = ROOT) -> list[Budget]:
    """The processors first, then the limits of the container if it has any.

    `root` is where /proc and /sys are. OSError or ValueError if there is no way to tell how busy the processors are.
    """
    processors = os.sched_getaffinity(0)
    stat = root / "proc/stat"
    seconds_used(stat, processors)
    return [Budget(len(processors), lambda: seconds_used(stat, processors)), *_container_budgets(root)]


def seconds_used(stat: Path, processors: Collection[int]) -> float:
    """Seconds that `processors` were busy since the machine started, or were taken away by a hypervisor ("steal").

    OSError if the file `stat` cannot be read, ValueError if it does not list each of the processors.
    """
    names = {f"cpu{number}" for number in processors}
    lines = [line.split() for line in stat.read_text().splitlines() if line.startswith("cpu")]
    times = [[int(ticks) for ticks in ticks[:KINDS]] for name, *ticks in lines if name in names]
    if len(times) < len(names):
        raise ValueError(f"{stat} speaks of {len(times)} of the {len(names)} processors {sorted(processors)}")
    return sum(sum(kinds) - sum(kinds[kind] for kind in IDLE_KINDS) for kinds in times) / os.sysconf("SC_CLK_TCK")


def _container_budgets(root: Path) -> Iterator[Budget]:
    """One for each group above this process that has a limit. A line of /proc/self/cgroup is `number:controllers:path`."""
    try:
        groups = [line.split(":", 2)[1:] for line in (root / "proc/self/cgroup").read_text().splitlines()]
    except OSError:
        return
    mounts = root / "sys/fs/cgroup"
    for controllers, path in groups:
        group = PurePosixPath(path.lstrip("/"))
        for place in (group, *group.parents):  # in a container the path may be the host's: then only its end, ".", is there
            try:
                if controllers == "":
                    yield _version_2(mounts / place)
                elif "cpu" in controllers.split(","):
                    yield _version_1(mounts / "cpu" / place, mounts / "cpuacct" / place)
            except (OSError, ValueError):  # no such group, or "max": no limit
                continue


def _version_2(group: Path) -> Budget:
    quota, period = map(int, (group / "cpu.max").read_text().split())
    return Budget(quota / period, lambda: int((group / "cpu.stat").read_text().split()[1]) / 1e6)  # usage_usec <number>


def _version_1(group: Path, accounting: Path) -> Budget:
    quota, period = (int((group / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
    if quota <= 0:
        raise ValueError("no limit")
    return Budget(quota / period, lambda: int((accounting / "cpuacct.usage").read_text()) / 1e9)
