"""Programs that are started as forks: all that `python -m` gives them, and nothing of them is left when they are over."""

import os
import signal
import sys
from pathlib import Path

import pytest

from kit.small_course import is_gone, wait_until, write
from tiny_llm_kit.course import forks


@pytest.fixture(params=["forked", "as on macOS"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "forked" and sys.platform == "darwin":
        pytest.skip("macOS: nothing is forked there")
    monkeypatch.setattr(forks, "POSSIBLE", request.param == "forked")


def run(
    folder: Path, program: str, *arguments: str, timeout: float = 60, own: forks.Own | None = None
) -> tuple[int | None, str]:
    """Runs the text of a program as a module that lies in `folder/lib`, from `folder`."""
    name = f"program_{len(list(folder.glob('lib/*.py')))}"
    write(folder / f"lib/{name}.py", program)
    environment = os.environ | {"PYTHONPATH": str(folder / "lib")}
    environment |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPYCACHEPREFIX": "cache"}
    environment.pop("PATH", None)
    return forks.run([sys.executable, "-m", name, *arguments], folder, environment, timeout, own)


def test_it_is_as_if_python_had_been_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path, "")  # what is set from here on was not there when the process that forks began
    monkeypatch.setenv("SET_LATER", "yes")
    program = """
    import os, sys, threading
    assert __name__ == "__main__" and sys.argv[1:] == ["an argument"]
    assert os.environ["SET_LATER"] == "yes" and "PATH" not in os.environ
    assert sys.dont_write_bytecode and sys.pycache_prefix == "cache"
    assert sys.path[0] == os.getcwd() and sys.path[1].endswith("lib")
    assert threading.active_count() == 1 and not sys.stdin.read() and os.getpgid(0) == os.getpid()
    assert "tiny_llm_kit" not in sys.modules
    print("folder", os.getcwd())
    print("to stderr", file=sys.stderr)
    os.system("echo from a child")
    sys.exit(7)
    """.replace("\n    ", "\n")
    code, output = run(tmp_path, program, "an argument")
    assert (code, sorted(output.splitlines())) == (7, [f"folder {tmp_path}", "from a child", "to stderr"]), output


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="Linux tells how many threads another process has")
@pytest.mark.parametrize("way", ["forked"], indirect=True)
def test_what_suites_import_is_there_at_once_and_has_started_no_thread(tmp_path: Path) -> None:
    own = (Path(forks.__file__).parents[2], "tiny_llm_kit.course.suite_imports")
    program = """
    import os, sys
    assert "tiny_llm_kit.models.load" in sys.modules
    print(len(os.listdir(f"/proc/{os.getppid()}/task")))
    """.replace("\n    ", "\n")
    assert run(tmp_path, program, own=own) == (0, "1\n"), "a fork has no thread of its parent, and would wait for it for ever"
    assert run(tmp_path, "import sys; print('tiny_llm_kit' in sys.modules)") == (0, "False\n"), "another process forks"


def test_what_is_registered_for_the_end_is_run(tmp_path: Path) -> None:
    program = "import atexit; atexit.register(print, 'at the end'); print('before'); raise SystemExit('why')"
    code, output = run(tmp_path, program)
    assert (code, sorted(output.splitlines())) == (1, ["at the end", "before", "why"])


def test_environments_do_not_mix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONCE", "here")
    assert run(tmp_path, "import os; os.environ['LEFT'] = 'behind'; print(os.environ['ONCE'])") == (0, "here\n")
    monkeypatch.delenv("ONCE")
    assert run(tmp_path, "import os; print(os.environ.get('ONCE'), os.environ.get('LEFT'))") == (0, "None None\n")


@pytest.mark.parametrize(
    ("program", "code", "text"),
    [
        ("", 0, ""),
        ("import os; os._exit(3)", 3, ""),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -9, ""),
        ("raise ValueError('seven')", 1, "ValueError: seven"),
        ("import not_there", 1, "No module named 'not_there'"),
        ("print(b'\\xff'.decode('latin-1')); import sys; sys.stdout.buffer.write(b'\\xff')", 0, "\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_however_it_ends_its_code_and_output_come_back_and_the_next_one_runs(
    tmp_path: Path, program: str, code: int, text: str
) -> None:
    ended, output = run(tmp_path, program)
    assert ended == code
    assert text in output
    assert run(tmp_path, "print(1)") == (0, "1\n")


WITH_A_CHILD = """
import os, signal, subprocess, sys, time
nothing = subprocess.DEVNULL
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], stdout=nothing, stderr=nothing)
print(os.getpid(), child.pid, flush=True)
"""


@pytest.mark.parametrize(("end", "code"), [("time.sleep(60)", None), ("", 0), ("os._exit(1)", 1)])
def test_what_it_started_is_stopped_with_it(tmp_path: Path, end: str, code: int | None) -> None:
    ended, output = run(tmp_path, WITH_A_CHILD + end, timeout=60 if code is not None else 4)  # which is enough to begin
    assert ended == code, output
    for pid in output.split():
        wait_until(lambda pid=pid: is_gone(int(pid)))
    assert run(tmp_path, "print(1)") == (0, "1\n")


def test_one_that_ended_before_it_is_asked_for_has_its_code(tmp_path: Path) -> None:
    assert [run(tmp_path, f"import os; os._exit({code})")[0] for code in range(5)] == list(range(5))


@pytest.mark.parametrize("way", ["forked"], indirect=True)
def test_an_end_of_the_process_that_forks_is_an_end_of_the_run(tmp_path: Path) -> None:
    program = "import os, signal, time; time.sleep(0.3); os.kill(os.getppid(), signal.SIGKILL); time.sleep(60)"
    assert run(tmp_path, program)[0] == -signal.SIGKILL
    assert run(tmp_path, "print(1)") == (0, "1\n")
