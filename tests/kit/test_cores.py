"""Which cores a process may use and how busy they are, read from made-up /proc and /sys folders."""

import os
import sys
from pathlib import Path

import pytest

from kit.small_course import write
from tiny_llm_kit.machine.cores import find_budgets, seconds_used

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has these files")

TICKS = os.sysconf("SC_CLK_TCK")


def stat(*cores: tuple[int, ...]) -> str:
    """/proc/stat of a machine whose cores had this many seconds of: user nice system idle iowait irq softirq steal guest."""
    lines = [f"cpu{number} " + " ".join(str(kind * TICKS) for kind in kinds) for number, kinds in enumerate(cores)]
    return "\n".join(["cpu  9 9 9 9 9 9 9 9 9 9", *lines, "intr 5 1 1", "procs_running 3\n"])


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with four idle cores and no container."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2, 3})
    write(tmp_path / "proc/stat", stat(*[(0,) * 10] * 4))
    return tmp_path


def test_every_kind_of_work_counts_and_waiting_does_not(tmp_path: Path) -> None:
    write(tmp_path / "stat", stat((1, 2, 4, 1000, 2000, 8, 16, 32, 1)))
    assert seconds_used(tmp_path / "stat", [0]) == 1 + 2 + 4 + 8 + 16 + 32, "idle and iowait are free; guests are in user"


def test_only_the_cores_of_the_process_count(tmp_path: Path) -> None:
    write(tmp_path / "stat", stat(*[(number, *[0] * 9) for number in range(1, 13)]))
    assert seconds_used(tmp_path / "stat", {1}) == 2, "cpu1 is not cpu10, nor the sum of all"
    assert seconds_used(tmp_path / "stat", {0, 10}) == 1 + 11


@pytest.mark.parametrize("text", ["", "cpu 1 2 3\n", "cpu0 1 2 x 4 5 6 7 8\n", stat((1,) * 10)])
def test_a_file_that_does_not_tell_is_an_error(tmp_path: Path, text: str) -> None:
    write(tmp_path / "stat", text)
    with pytest.raises(ValueError):
        seconds_used(tmp_path / "stat", {0, 1})


def test_without_a_container_the_cores_are_all_there_is(root: Path) -> None:
    assert [budget.cores for budget in find_budgets(root)] == [4]
    write(root / "proc/self/cgroup", "0::/user.slice\n")
    write(root / "sys/fs/cgroup/user.slice/cpu.max", "max 100000\n")
    assert [budget.cores for budget in find_budgets(root)] == [4], "`max` is no limit"


def test_an_affinity_to_one_of_many_cores(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {2})
    write(root / "proc/stat", stat(*[(number, *[0] * 9) for number in range(64)]))
    (budget,) = find_budgets(root)
    assert (budget.cores, budget.used()) == (1, 2)


def test_a_busy_machine_is_read_anew_each_time(root: Path) -> None:
    (budget,) = find_budgets(root)
    assert budget.used() == 0
    write(root / "proc/stat", stat(*[(1,) + (0,) * 9] * 4))
    assert budget.used() == 4


@pytest.mark.parametrize("path", ["/", "/docker/abc"])
def test_version_2_of_control_groups_seen_from_inside_a_container(root: Path, path: str) -> None:
    """Where the path is the host's, the container's own group lies at the top."""
    write(root / "proc/self/cgroup", f"0::{path}\n")
    write(root / "sys/fs/cgroup/cpu.max", "150000 100000\n")
    write(root / "sys/fs/cgroup/cpu.stat", "usage_usec 2500000\nuser_usec 1\n")
    _, container = find_budgets(root)
    assert (container.cores, container.used()) == (1.5, 2.5)


def test_every_group_above_the_process_limits_it(root: Path) -> None:
    write(root / "proc/self/cgroup", "0::/a.slice/b.scope\n")
    for group, limit in {"a.slice": 100_000, "a.slice/b.scope": 300_000, "other": 1}.items():
        write(root / f"sys/fs/cgroup/{group}/cpu.max", f"{limit} 100000\n")
        write(root / f"sys/fs/cgroup/{group}/cpu.stat", f"usage_usec {limit}\n")
    assert sorted(budget.cores for budget in find_budgets(root)) == [1, 3, 4]


@pytest.mark.parametrize("controllers", ["cpu", "cpu,cpuacct"])
def test_version_1_of_control_groups(root: Path, controllers: str) -> None:
    write(root / "proc/self/cgroup", f"9:memory:/m\n4:{controllers}:/docker/abc\n3:cpuset:/docker\n0::/\n")
    write(root / "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_quota_us", "50000\n")
    write(root / "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_period_us", "100000\n")
    write(root / "sys/fs/cgroup/cpuacct/docker/abc/cpuacct.usage", "1500000000\n")
    write(root / "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n")
    write(root / "sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n")
    _, container = find_budgets(root)
    assert (container.cores, container.used()) == (0.5, 1.5)


def test_nonsense_in_a_group_is_no_limit(root: Path) -> None:
    write(root / "proc/self/cgroup", "0::/\n")
    write(root / "sys/fs/cgroup/cpu.max", "much\n")
    assert [budget.cores for budget in find_budgets(root)] == [4]
