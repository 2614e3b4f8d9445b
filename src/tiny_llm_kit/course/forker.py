"""Starts `python -m MODULE …` many times over, as forks of this process, which has imported what pytest imports.

A script that `forks` runs: `forker.py [FOLDER MODULE [PACKAGE NAME]]`. It imports MODULE from FOLDER, which every job will have
on its path, and the package in the folder PACKAGE as NAME, see `preloaded`. It imports nothing else of this project. Each line
it reads is a job, which is answered with two lines: the number of the process, which leads a group of its own, and its exit
code.
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
from typing import TYPE_CHECKING, NoReturn

import _pytest.config

if TYPE_CHECKING:
    from tiny_llm_kit.course.preloaded import PreloadedPackage

PRELOADED = (
    *("pytest", "_hypothesis_pytestplugin", "anyio.pytest_plugin", "pytest_timeout", "pdb"),
    *(f"_pytest.{name}" for name in _pytest.config.default_plugins),
)
"""None of them starts a thread, which a fork would lose."""


def main() -> None:
    folder, own, place_and_name = sys.argv[1:2], sys.argv[2:3], sys.argv[3:]
    sys.path[:0] = folder
    for name in (*PRELOADED, *own):
        with contextlib.suppress(ImportError):  # the tests will say what is missing
            importlib.import_module(name)
    package = None
    if place_and_name:
        from tiny_llm_kit.course.preloaded import PreloadedPackage  # in FOLDER

        with contextlib.suppress(Exception):  # the tests will say what is wrong with it
            package = PreloadedPackage(*place_and_name)
    del sys.path[: len(folder)]
    gc.freeze()  # or each child would look through all of it, and so copy it
    for line in sys.stdin:
        child = os.fork()
        if not child:
            _end(_run(package, **json.loads(line)))
        os.setpgid(child, child)  # so does the child, in case it is first
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _run(
    package: "PreloadedPackage | None", arguments: list[str], folder: str, environment: dict[str, str], output: str
) -> int:
    """The exit code of `python -m` with these arguments, which this process does from here on."""
    try:
        _become(folder, environment, output)
        if package:
            package.follow_path()
        sys.argv[1:] = arguments[1:]
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    except SystemExit as exit:
        if exit.code is None or isinstance(exit.code, int):
            return exit.code or 0
        print(exit.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _become(folder: str, environment: dict[str, str], output: str) -> None:
    """Be as if just started, whatever this process was before."""
    os.setpgid(0, 0)
    with open(os.devnull) as nothing, open(output, "w") as file:
        for number, source in enumerate((nothing, file, file)):
            os.dup2(source.fileno(), number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.dont_write_bytecode = bool(environment.get("PYTHONDONTWRITEBYTECODE"))
    sys.pycache_prefix = environment.get("PYTHONPYCACHEPREFIX")
    sys.path[:0] = [folder, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]


def _end(code: int) -> NoReturn:
    """As Python ends, but for freeing thousands of objects, all in memory that is shared until then: it takes half a second."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code & 0xFF)


if __name__ == "__main__":
    main()
