"""`{{#signature module:Name}}` on a page: the skeleton's own signature and docstring, never a copy that could age."""

import ast
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

from tiny_llm_kit.book.pages import Fault, Page
from tiny_llm_kit.course.course_map import LEARNER

WIDEST = 88
"""Columns of a code block that mdBook shows in a window of 1400 pixels without cutting it off."""

_SIGNATURE = re.compile(r"(?<!\\)\{\{#signature\s+([^}\s]*)\s*\}\}")

INDENT = 10
"""Columns that a docstring needs in addition to its text: four before it, and its quotes."""

_ITEM = re.compile(r"(Args|Returns|Raises|Yields|Attributes):| +[\w*, `]+: | *(?:[-*]|\d+\.) ")
"""What begins an item of a docstring: a section, an argument, or a point of a list."""

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def expand(page: Page, root: Path) -> tuple[str, list[Fault]]:
    """The page's text with each signature in its place, as a block of Python, and what cannot be found."""
    faults = []

    def replace(found: re.Match[str]) -> str:
        try:
            return f"```python\n{describe(root / 'src' / LEARNER, found[1])}\n```"
        except ValueError as error:
            faults.append(page.fault(page.line_of(found.start()), str(error)))
            return found[0]

    return _SIGNATURE.sub(replace, page.text), faults


def describe(package: Path, symbol: str) -> str:
    """Signature and docstring of `module:Name`, or `package.module:Class.method`; ValueError if there is none."""
    module, _, name = symbol.partition(":")
    file = package.joinpath(*module.split(".")).with_suffix(".py")
    if not name or not file.is_file():
        raise ValueError(f"no signature of {symbol!r}: write module:Name, with a module of src/{package.name}")
    source = file.read_text(encoding="utf-8")
    scope: ast.Module | Definition = ast.parse(source)
    for part in name.split("."):
        scope = _find(scope, part, f"src/{package.name}/{module.replace('.', '/')}.py has no {name}")
    assert not isinstance(scope, ast.Module)
    return _head(scope, source)


def _find(scope: ast.AST, name: str, missing: str) -> Definition:
    for node in ast.iter_child_nodes(scope):
        if isinstance(node, Definition) and node.name == name:
            return node
    raise ValueError(f"{missing}: is it named otherwise, or given?")


def _head(node: Definition, source: str) -> str:
    """Source up to the docstring, whose paragraphs are wrapped again for the width of a page."""
    documented = ast.get_docstring(node) is not None
    first = node.body[0]
    lines = source.splitlines()[node.lineno - 1 : first.lineno - 1]
    if len(lines) == 0:  # a body on the line of its def
        lines = [source.splitlines()[node.lineno - 1].rpartition(":")[0] + ":"]
    head = textwrap.dedent("\n".join(lines)).rstrip().splitlines()
    signature = "\n".join(head) if max(map(len, head)) <= WIDEST else _broken(node)
    if not documented:
        return signature
    text = _wrapped(ast.get_docstring(node) or "")
    return signature + "\n" + textwrap.indent(f'"""{text}"""' if "\n" not in text else f'"""{text}\n"""', "    ")


def _broken(node: Definition) -> str:
    """A signature with an argument per line."""
    if isinstance(node, ast.ClassDef):
        return f"class {node.name}({', '.join(map(ast.unparse, node.bases))}):"
    empty = ast.parse("def f(): ...").body[0]
    assert isinstance(empty, ast.FunctionDef)
    arguments = []
    for name, default in _arguments(node.args):
        arguments.append(f"    {name}{default},")
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    keyword = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    return "\n".join([f"{keyword} {node.name}(", *arguments, f"){returns}:"])


def _arguments(given: ast.arguments) -> list[tuple[str, str]]:
    """Each argument with its annotation, and its default."""
    positional = [*given.posonlyargs, *given.args]
    defaults: list[ast.expr | None] = [*[None] * (len(positional) - len(given.defaults)), *given.defaults]
    found = [(ast.unparse(arg), _default(default)) for arg, default in zip(positional, defaults, strict=True)]
    if given.vararg:
        found.append((f"*{ast.unparse(given.vararg)}", ""))
    elif given.kwonlyargs:
        found.append(("*", ""))
    found += [(ast.unparse(arg), _default(default)) for arg, default in zip(given.kwonlyargs, given.kw_defaults, strict=True)]
    return found + ([(f"**{ast.unparse(given.kwarg)}", "")] if given.kwarg else [])


def _default(value: ast.expr | None) -> str:
    return f" = {ast.unparse(value)}" if value else ""


def _wrapped(docstring: str) -> str:
    """Each paragraph that is too wide wrapped to the page: a plain one as a whole, `Args:` and lists item by item."""
    return "\n\n".join(part if _fits(part) else "\n".join(_rewrapped(part)) for part in docstring.split("\n\n"))


def _fits(paragraph: str) -> bool:
    return all(len(line) <= WIDEST - INDENT for line in paragraph.splitlines())


def _rewrapped(paragraph: str) -> Iterator[str]:
    items: list[str] = []
    for line in paragraph.splitlines():
        if not items or _ITEM.match(line) or _ITEM.fullmatch(items[-1]):
            items.append(line)
        else:  # it continues the line before
            items[-1] += f" {line.strip()}"
    for item in items:
        indent = item[: len(item) - len(item.lstrip())]
        hanging = indent + "    " * bool(_ITEM.match(item) and indent)
        yield from textwrap.wrap(item.strip(), WIDEST - INDENT, initial_indent=indent, subsequent_indent=hanging)
