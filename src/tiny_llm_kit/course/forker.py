"""Starts `python -m MODULE …` many times over, as forks of this process, which has imported what tests import.

A script that `forks` runs. Each line it reads is a job, and is answered with two lines: the number of the process, which leads
a group of its own, and its exit code. The script imports nothing of this project: each job does, from its own paths.
"""

import contextlib
import gc
import importlib
import json
import os
import runpy
import sys

import _pytest.config

PRELOADED = (
    *("pytest", "_hypothesis_pytestplugin", "anyio.pytest_plugin", "pytest_timeout", "pdb"),
    *(f"_pytest.{name}" for name in _pytest.config.default_plugins),
    *("asyncio", "hypothesis", "jinja2", "mlx.core", "mlx.nn", "numpy", "numpy.random", "psutil", "statistics", "tomllib"),
    *("elftools.elf.elffile", "platformdirs", "scipy_openblas32", "tokenizers", "transformers"),
    *("anyio._backends._asyncio", "fastapi", "fastapi.responses", "llguidance", "prometheus_client", "pydantic"),
)
"""None of them starts a thread, which a fork would lose."""


def main() -> None:
    for name in PRELOADED:
        with contextlib.suppress(ImportError):  # the tests will say what is missing
            importlib.import_module(name)
    gc.freeze()  # or each child would look through all of it, and so copy it
    for line in sys.stdin:
        child = os.fork()
        if not child:
            _become(**json.loads(line))
            return
        os.setpgid(child, child)  # so does the child, in case it is first
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _become(arguments: list[str], folder: str, environment: dict[str, str], output: str) -> None:
    """Do what `python -m` does with these arguments, whatever the process was before."""
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
    sys.argv[1:] = arguments[1:]
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
