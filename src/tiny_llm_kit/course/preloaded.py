"""A package that is imported before a process forks, and of which a fork finds another version on its path.

The versions differ in a file or two. A fork imports those, and the modules that import them, and has all the others already.
"""

import ast
import filecmp
import importlib.util
import sys
from collections.abc import Iterator, Sequence, Set
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType


class _RootLoader(SourceFileLoader):
    """Makes modules that are there already attributes of the root of their package, as importing them would have done."""

    def exec_module(self, module: ModuleType) -> None:
        paths = {path: path.rpartition(".") for path in sys.modules}
        vars(module).update({name: sys.modules[path] for path, (root, _, name) in paths.items() if root == self.name})
        super().exec_module(module)


class PreloadedPackage(MetaPathFinder):
    """The package in `folder`, imported as `name`. Raises what its modules raise, and then nothing of it is left."""

    def __init__(self, folder: str, name: str) -> None:
        self.folder, self.name = Path(folder), name
        self._import()
        self.files = [path for path in self.folder.rglob("*") if path.is_file() and path.suffix != ".pyc"]
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
        changed = [path for path in self.files if not _are_equal(path, folder / path.relative_to(self.folder))]
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
