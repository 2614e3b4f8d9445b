"""The description stored with every measurement, and the meter that tells a quiet machine from a busy one."""

import getpass
import json
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import mlx.core as mx
import psutil
import pytest

from metal_anywhere.backend import backend
from tiny_llm_kit.machine.description import LoadMeter, describe_machine


def test_the_description_is_json_and_says_what_matters() -> None:
    machine = json.loads(json.dumps(describe_machine()))
    assert machine["backend"] == backend()
    assert machine["cores"]["logical"] == psutil.cpu_count()
    assert 0 < machine["memory_gib"] == pytest.approx(psutil.virtual_memory().total / 2**30, rel=0.1)
    assert machine["python"] == platform.python_version()
    assert machine["versions"]["mlx"] == metadata.version("mlx")
    assert all(machine[key] for key in ("date", "os", "cpu", "blas"))
    assert (machine["gpu"] is None) == (backend() == "cpu")


def test_the_description_does_not_tell_who_or_where() -> None:
    text = json.dumps(describe_machine())
    assert str(Path.home()) not in text
    assert str(Path(__file__).parents[2]) not in text
    host = platform.node()
    # A word as common as "vm" or "root" can be part of another; a name of some length cannot by accident.
    for name in (host, getpass.getuser()):
        assert len(name) < 5 or name not in text


def test_the_commit_is_the_repository_s() -> None:
    described = describe_machine()["git"]
    git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True)
    if git.returncode:
        assert described is None, "there is no commit to name"
    else:
        assert described["commit"] == git.stdout.strip()
        assert isinstance(described["dirty"], bool)


def test_the_backend_follows_the_default_device() -> None:
    before = mx.default_device()
    try:
        mx.set_default_device(mx.cpu)
        assert backend() == "cpu"
    finally:
        mx.set_default_device(before)


def spin(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


@contextmanager
def spinning_process() -> Iterator[psutil.Process]:
    """Another process that keeps one core busy; the block begins when it does."""
    code = "print(flush=True)\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        try:
            yield psutil.Process(process.pid)
        finally:
            process.kill()


def test_another_process_counts_as_others() -> None:
    """Compared with the same block without it, since this machine may have other work of its own."""
    with LoadMeter() as without:
        time.sleep(1)
    with spinning_process(), LoadMeter() as busy:
        time.sleep(1)
    # One core of all; the scheduler gives it at least a third of a core even when the others are taken.
    share = 1 / (psutil.cpu_count() or 1)
    assert busy.other_cpu > share / 3
    if without.other_cpu < 0.1 * share:
        assert busy.other_cpu > without.other_cpu
        assert busy.noisy(limit=share / 3)
    assert busy.own_cpu < 0.2 * share, "this process slept"


def test_a_helper_is_none_of_the_others() -> None:
    """With others alongside, who may come and go, the sum says what the helper was not counted as."""
    share = 1 / (psutil.cpu_count() or 1)
    for _ in range(3):
        with LoadMeter() as without:
            time.sleep(0.5)
        with spinning_process() as helper, LoadMeter([helper]) as helped:
            time.sleep(0.5)
        assert helped.helper_cpu > 0.02 * share, "a process that spins uses some of a core, whoever else wants it"
        if helped.other_cpu < without.other_cpu + share / 3:
            return
    raise AssertionError("what a helper does is counted as somebody else's work")


def test_own_work_does_not_count_as_others() -> None:
    """Others may come and go while this runs, so one good try of three is enough; a wrong count fails them all."""
    share = 1 / (psutil.cpu_count() or 1)
    for _ in range(3):
        with LoadMeter() as asleep:
            time.sleep(1)
        with LoadMeter() as working:
            spin(1)
        assert working.own_cpu > share / 5, "a process that spins uses its core"
        if working.other_cpu < asleep.other_cpu + share / 3:
            return
    pytest.fail(f"own work was counted as that of others: {asleep.other_cpu:.2f}, then {working.other_cpu:.2f}")


def test_shares_add_up_to_no_more_than_the_machine() -> None:
    with LoadMeter() as meter:
        spin(1)
    assert meter.wall >= 1
    assert min(meter.own_cpu, meter.other_cpu, meter.steal) >= 0
    # 10 ms ticks on each core, and the clocks are not read at the same moment.
    assert meter.own_cpu + meter.other_cpu + meter.steal <= 1.1


def test_noisy_is_a_matter_of_the_limit() -> None:
    meter = LoadMeter()
    meter.other_cpu, meter.steal = 0.04, 0.02
    assert meter.noisy(), "time stolen by a hypervisor is as much a disturbance as another process"
    assert not meter.noisy(limit=0.1)


def test_the_meter_has_no_answer_before_the_block_ends() -> None:
    with LoadMeter() as meter, pytest.raises(AttributeError):
        meter.noisy()
