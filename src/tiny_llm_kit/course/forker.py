"""Starts `python -m MODULE …` many times over, as forks of this process, which has imported what pytest imports.

A script that `forks` runs, with the fields of an `Own` as a JSON object: what this process imports, and whether it begins a
session of pytest, see `begun`. It imports nothing else of this project. Each line it reads is a job, which is answered with two
lines: the number of the process, which leads a group of its own, and its exit code.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import sys
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

import _pytest.config

if TYPE_CHECKING:
    from tiny_llm_kit.course.preloaded import PreloadedPackage

PRELOADED = (
    *("pytest", "_hypothesis_pytestplugin", "anyio.pytest_plugin", "pytest_timeout", "pdb"),
    *(f"_pytest.{name}" for name in _pytest.config.default_plugins),
)
"""None of them starts a thread, which a fork would lose."""


@dataclass(frozen=True)
class _Job:
    """`arguments` of `python -m`, to be run in `folder`. `choice` says the same to a session that has begun, see `begun`."""

    arguments: list[str]
    folder: str
    environment: dict[str, str]
    output: str
    choice: dict[str, Any] | None


def main() -> None:
    own = json.loads(sys.argv[1])
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what pytest says while it begins is no answer
    folder = [own["folder"]] if own["folder"] else []
    sys.path[:0] = folder
    for name in (*PRELOADED, *filter(None, [own["module"]])):
        with contextlib.suppress(ImportError):  # the tests will say what is missing
            importlib.import_module(name)
    package = _preload(own["package"], own["name"]) if own["package"] else None
    if package and own["root"]:
        _end(_run_session(package, own["session"], answers))
    del sys.path[: len(folder)]
    _end(_run_module(package, _fork_for_each_job(answers)))


def _preload(folder: str, name: str) -> "PreloadedPackage | None":
    from tiny_llm_kit.course.preloaded import PreloadedPackage

    try:
        return PreloadedPackage(folder, name)
    except Exception:  # the tests will say what is wrong with it
        return None


def _run_session(package: "PreloadedPackage", arguments: list[str], answers: TextIO) -> int:
    """The exit code of a session that begins here, and goes on in each fork."""
    from tiny_llm_kit.course import begun

    def choose() -> begun.Choice:
        job = _fork_for_each_job(answers)
        _become(job)
        package.follow_path()
        return begun.Choice(**job.choice or {})

    return begun.run(arguments, choose)


def _fork_for_each_job(answers: TextIO) -> _Job:
    """Returns in forks only, with the job of each. This process ends when there are no more."""
    gc.freeze()  # or each child would look through all of it, and so copy it
    with open(0, closefd=False) as jobs:
        for line in jobs:
            child = os.fork()
            if not child:
                answers.close()  # or nobody would notice that the parent has ended
                return _Job(**json.loads(line))
            os.setpgid(child, child)  # so does the child, in case it is first
            print(child, file=answers, flush=True)
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=answers, flush=True)
    os._exit(0)


def _run_module(package: "PreloadedPackage | None", job: _Job) -> int:
    """The exit code of `python -m` with the arguments of a job, which this process does from here on."""
    try:
        _become(job)
        if package:
            package.follow_path()
        sys.argv[1:] = job.arguments[1:]
        runpy.run_module(job.arguments[0], run_name="__main__", alter_sys=True)
    except SystemExit as exit:
        if exit.code is None or isinstance(exit.code, int):
            return exit.code or 0
        print(exit.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _become(job: _Job) -> None:
    """Be as if just started, whatever this process was before."""
    os.setpgid(0, 0)
    with open(os.devnull) as nothing, open(job.output, "w") as file:
        for number, source in enumerate((nothing, file, file)):
            os.dup2(source.fileno(), number)
    os.chdir(job.folder)
    os.environ.clear()
    os.environ.update(job.environment)
    sys.dont_write_bytecode = bool(job.environment.get("PYTHONDONTWRITEBYTECODE"))
    sys.pycache_prefix = job.environment.get("PYTHONPYCACHEPREFIX")
    sys.path[:0] = [job.folder, *filter(None, job.environment.get("PYTHONPATH", "").split(os.pathsep))]


def _end(code: int) -> NoReturn:
    """As Python ends, but for freeing thousands of objects, all in memory that is shared until then: it takes half a second."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code & 0xFF)


if __name__ == "__main__":
    main()
