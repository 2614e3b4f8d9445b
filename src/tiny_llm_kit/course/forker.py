"""Starts `python -m MODULE …` many times over, as forks of this process, which has imported what tests import.

A script that `forks` runs: `forker.py [FOLDER MODULE [PACKAGE NAME]]`. It imports MODULE from FOLDER, which every job will have
on its path, and the package in the folder PACKAGE as NAME, but nothing else of this project. Each line it reads is a job, which
is answered with two lines: the number of the process, which leads a group of its own, and its exit code.
"""

import ast
import atexit
import contextlib
import filecmp
import gc
import importlib.util
import json
import os
import runpy
import sys
import traceback
from collections.abc import Iterator, Sequence, Set
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import _pytest.config

PRELOADED = (
    *("pytest", "_hypothesis_pytestplugin", "anyio.pytest_plugin", "pytest_timeout", "pdb"),
    *(f"_pytest.{name}" for name in _pytest.config.default_plugins),
    *("asyncio", "hypothesis", "jinja2", "mlx.core", "mlx.nn", "numpy", "numpy.random", "psutil", "statistics", "tomllib"),
    *("elftools.elf.elffile", "platformdirs", "scipy_openblas32", "tokenizers", "transformers"),
    *("anyio._backends._asyncio", "fastapi", "fastapi.responses", "llguidance", "prometheus_client", "pydantic"),
)
"""None of them starts a thread, which a fork would lose."""


class _RootLoader(SourceFileLoader):
    """Makes modules that are there already attributes of the root of their package, as importing them would have done."""

    def exec_module(self, module: ModuleType) -> None:
        paths = {path: path.rpartition(".") for path in sys.modules}
        vars(module).update({name: sys.modules[path] for path, (root, _, name) in paths.items() if root == self.name})
        super().exec_module(module)


class _Package(MetaPathFinder):
    """A package that is imported here, all of it, and of which a job will find another version on its path."""

    def __init__(self, folder: str, name: str) -> None:
        self.folder, self.name = Path(folder), name
        self._import()
        self.modules = self._find_modules()
        self.importers: dict[str, set[str]] = {name: set() for name in self.modules}
        for importer, module in self.modules.items():
            for imported in _imports(module, self.modules.keys()):
                self.importers[imported].add(importer)
            package = importer.rpartition(".")[0]  # is imported before it
            if package not in ("", name):
                self.importers[package].add(importer)

    def _import(self) -> None:
        spec = importlib.util.spec_from_file_location(self.name, self.folder / "__init__.py")
        assert spec
        assert spec.loader
        sys.modules[self.name] = root = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(root)
        except BaseException:
            for name in self._find_modules():
                del sys.modules[name]
            raise

    def _find_modules(self) -> dict[str, ModuleType]:
        return {name: module for name, module in sys.modules.items() if f"{name}.".startswith(f"{self.name}.")}

    def follow_path(self) -> None:
        """Keep what the version on this process's path has, too; the rest is as if it had never been imported."""
        spec = PathFinder.find_spec(self.name)
        folder = Path(spec.origin).parent if spec and spec.origin else Path()
        for name in self._outdated_by(folder):
            del sys.modules[name]
            parent, _, attribute = name.rpartition(".")
            if parent:
                vars(self.modules[parent]).pop(attribute, None)  # which `from parent import attribute` would take
        for module in self.modules.values():
            if hasattr(module, "__path__"):
                module.__path__ = [str(folder / _file_of(module).parent.relative_to(self.folder))]
        sys.meta_path.insert(0, self)

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """How to import the root anew."""
        spec = PathFinder.find_spec(name, path) if name == self.name else None
        if spec and spec.origin:
            spec.loader = _RootLoader(name, spec.origin)
        return spec

    def _outdated_by(self, folder: Path) -> set[str]:
        """The root, the modules in whose place something else is, and whatever imports any of them."""
        files = [path for path in self.folder.rglob("*") if path.is_file() and path.suffix != ".pyc"]
        changed = [path for path in files if not _are_equal(path, folder / path.relative_to(self.folder))]
        beside = {path.parent for path in changed if path.suffix != ".py"}  # a module reads what lies beside it
        paths = {name: _file_of(module) for name, module in self.modules.items()}
        found = {name for name, path in paths.items() if path in changed or path.parent in beside} | {self.name}
        outdated = set[str]()
        while found:
            outdated |= found
            found = {importer for name in found for importer in self.importers[name]} - outdated
        return outdated


def _file_of(module: ModuleType) -> Path:
    return Path(str(module.__file__))


def _are_equal(path: Path, other: Path) -> bool:
    return other.is_file() and filecmp.cmp(path, other)


def _imports(module: ModuleType, modules: Set[str]) -> Iterator[str]:
    """Those of `modules` that a module imports, or imports from, anywhere in its text."""
    for node in ast.walk(ast.parse(_file_of(module).read_bytes())):
        if isinstance(node, ast.Import):
            yield from modules & {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            source = importlib.util.resolve_name("." * node.level + (node.module or ""), module.__package__)
            for name in (f"{source}.{alias.name}" for alias in node.names):
                yield from modules & {name if name in modules else source}


def main() -> None:
    folder, own, package = sys.argv[1:2], sys.argv[2:3], sys.argv[3:]
    sys.path[:0] = folder
    for name in (*PRELOADED, *own):
        with contextlib.suppress(ImportError):  # the tests will say what is missing
            importlib.import_module(name)
    packages = []
    if package:
        with contextlib.suppress(Exception):  # the tests will say what is wrong with it
            packages.append(_Package(*package))
    del sys.path[: len(folder)]
    gc.freeze()  # or each child would look through all of it, and so copy it
    for line in sys.stdin:
        child = os.fork()
        if not child:
            _end(_run(packages, **json.loads(line)))
        os.setpgid(child, child)  # so does the child, in case it is first
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _run(packages: list[_Package], arguments: list[str], folder: str, environment: dict[str, str], output: str) -> int:
    """The exit code of `python -m` with these arguments, which this process does from here on."""
    try:
        _become(folder, environment, output)
        for package in packages:
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
