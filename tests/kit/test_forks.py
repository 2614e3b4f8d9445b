"""Programs that are started as forks: all that `python -m` gives them, and nothing of them is left when they are over."""

import os
import signal
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

import pytest

from kit.small_course import is_gone, wait_until, write
from tiny_llm_kit.course import forks, session
from tiny_llm_kit.course.begun import Choice

KIT = Path(forks.__file__).parents[2]


@pytest.fixture(params=["forked", "as on macOS"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "forked" and sys.platform == "darwin":
        pytest.skip("macOS: nothing is forked there")
    monkeypatch.setattr(forks, "POSSIBLE", request.param == "forked")


def run(
    folder: Path, program: str, *arguments: str, timeout: float = 60, own: forks.Own = forks.NOTHING
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
    own = forks.Own(KIT, "tiny_llm_kit.course.suite_imports")
    program = """
    import os, sys
    assert "tiny_llm_kit.models.load" in sys.modules
    print(len(os.listdir(f"/proc/{os.getppid()}/task")))
    """.replace("\n    ", "\n")
    assert run(tmp_path, program, own=own) == (0, "1\n"), "a fork has no thread of its parent, and would wait for it for ever"
    assert run(tmp_path, "import sys; print('tiny_llm_kit' in sys.modules)") == (0, "False\n"), "another process forks"


VERSION = {
    "__init__.py": "from .uses import of_uses\nfrom .sub.late import of_late\nimport version.data.reads, version.sub.deep\n",
    "alone.py": "import os\nhere = os.getpid()\nvalue = 'alone'\n",
    "uses.py": "import os\nfrom . import alone\nhere = os.getpid()\ndef of_uses(): return alone.value\n",
    "sub/__init__.py": "",
    "sub/late.py": "import os\nhere = os.getpid()\ndef of_late():\n    from ..sub.deep import value\n    return value\n",
    "sub/deep.py": "import os\nhere = os.getpid()\nvalue = 'deep'\n",
    "data/__init__.py": "",
    "data/reads.py": "import os\nfrom pathlib import Path\nhere = os.getpid()\n"
    "value = Path(__file__).with_suffix('.txt').read_text()\n",
    "data/reads.txt": "text",
}
LOOK = """
import importlib, os, sys
import version
modules = [importlib.import_module(f"version.{name}") for name in ("alone", "uses", "sub.late", "sub.deep", "data.reads")]
print("new:", *(module.__name__ for module in modules if module.here == os.getpid()))
print(version.of_uses(), version.of_late(), version.data.reads.value)
assert [version.alone, version.uses, version.sub.late, version.sub.deep, version.data.reads] == modules
print(*(sys.modules[name].__path__[0] for name in ("version", "version.data", "version.sub")))
"""


@pytest.fixture(scope="module")
def first_version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for all tests: each other one would need another process that forks."""
    return write_version(tmp_path_factory.mktemp("first"))


def write_version(folder: Path) -> Path:
    for name, text in VERSION.items():
        write(folder / "version" / name, text)
    return folder / "version"


@pytest.mark.parametrize(
    ("file", "text", "new", "says"),
    [
        ("", "", "", "alone deep text"),
        ("sub/__init__.py", "'other'", "sub.late sub.deep", "alone deep text"),
        ("__init__.py", VERSION["__init__.py"] + "of_uses = lambda: 'root'\n", "", "root deep text"),
        ("alone.py", "import os\nhere = os.getpid()\nvalue = 'other'\n", "alone uses", "other deep text"),
        ("uses.py", "import os\nhere = os.getpid()\ndef of_uses(): return 'other'\n", "uses", "other deep text"),
        ("sub/deep.py", "import os\nhere = os.getpid()\nvalue = 'other'\n", "sub.late sub.deep", "alone other text"),
        ("data/reads.txt", "other", "data.reads", "alone deep other"),
    ],
)
def test_of_another_version_of_a_package_only_what_differs_and_what_imports_it_is_imported(
    tmp_path: Path, first_version: Path, file: str, text: str, new: str, says: str
) -> None:
    version = write_version(tmp_path / "lib")
    if file:
        write(version / file, text)
    own = forks.Own(KIT, "tiny_llm_kit.course.suite_imports", first_version, "version")
    code, output = run(tmp_path, LOOK, own=own)
    lines = output.splitlines()
    assert code == 0, output
    if forks.POSSIBLE:
        assert lines[0].split()[1:] == [f"version.{name}" for name in new.split()]
    assert lines[1] == says, "every module that can see what changed has the new version"
    assert lines[2].split() == [str(version / name) for name in ("", "data", "sub")], "later imports look there"


def test_a_package_that_cannot_be_imported_is_as_if_it_had_not_been_asked_for(tmp_path: Path) -> None:
    write(tmp_path / "before/version/__init__.py", "from . import good\nfrom . import bad\n")
    write(tmp_path / "before/version/good.py", "")
    write(tmp_path / "before/version/bad.py", "raise ValueError('bad')")
    write(tmp_path / "lib/version/__init__.py", "")
    own = forks.Own(KIT, "tiny_llm_kit.course.suite_imports", tmp_path / "before/version", "version")
    program = "import sys, version; print(*(name for name in sys.modules if name.startswith('version')))"
    assert run(tmp_path, program, own=own) == (0, "version\n"), "a fork says itself what is wrong with the version on its path"


@dataclass
class Project:
    """A folder with tests, of which sessions that begin alike can be run. `own` is told when a session begins in it."""

    root: Path

    def __post_init__(self) -> None:
        write(self.root / "pyproject.toml", "[tool.pytest.ini_options]\n")
        write(self.root / "tests/conftest.py", "from pathlib import Path\nPath('begun').open('a').write('x')\n")
        write(
            self.root / "tests/test_it.py", "import version\ndef test_a(): pass\ndef test_b(): assert version.of_uses() == 0\n"
        )

    def run(self, own: forks.Own, *tests: str, keyword: str = "") -> tuple[int | None, str]:
        (self.root / "report.xml").unlink(missing_ok=True)
        choice = Choice(list(tests), keyword, str(self.root / "note"), str(self.root / "report.xml"))
        command = [*session.command(self.root / "note"), *choice.arguments, *own.session]
        path = os.pathsep.join([str(self.root / "lib"), str(KIT)])
        code, output = forks.run(command, self.root, os.environ | {"PYTHONPATH": path}, 60, own, choice)
        if code in (0, 1):
            assert session.read_ending(self.root / "note").exit_code == code, "the note says how it ended"
        return code, output

    @property
    def results(self) -> dict[str | None, bool]:
        """Whether each test that was run has passed."""
        return {case.get("name"): len(case) == 0 for case in ElementTree.parse(self.root / "report.xml").iter("testcase")}


def test_sessions_that_begin_alike_begin_once_and_run_what_each_is_asked_for(tmp_path: Path, first_version: Path) -> None:
    project = Project(tmp_path)
    write_version(tmp_path / "lib")
    own = forks.Own(KIT, "", first_version, "version", tmp_path, ("-q", "-p", "no:cacheprovider"))
    assert project.run(own, "tests/test_it.py", keyword="test_a")[0] == 0
    assert project.results == {"test_a": True}
    assert project.run(own, "tests")[0] == 1
    assert project.results == {"test_a": True, "test_b": False}, "all of them, where no keyword is given"
    write(tmp_path / "lib/version/alone.py", "here, value = 0, 0\n")
    code, output = project.run(own, "tests/test_it.py::test_b")
    assert (code, project.results) == (0, {"test_b": True}), f"the version that is on its path now: {output}"
    assert project.run(own, "tests/test_it.py::test_c")[0] == 4, "pytest's code for tests that are not there"
    assert (tmp_path / "begun").read_text() == ("x" if forks.POSSIBLE else 4 * "x")


def test_a_session_that_cannot_begin_says_why_each_time(tmp_path: Path, first_version: Path) -> None:
    project = Project(tmp_path)
    write_version(tmp_path / "lib")
    write(tmp_path / "tests/conftest.py", "raise ValueError('no session begins')")
    own = forks.Own(KIT, "", first_version, "version", tmp_path, ("-q", "-p", "no:cacheprovider"))
    for _ in range(2):
        code, output = project.run(own, "tests")
        assert code == 4, "pytest's code for what it cannot use"
        assert "no session begins" in output


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
