"""Mutants: copies of an answer with one small edit each, as a slip of the pen would make it.

An edit replaces a span of the source text, so everything else stays as it is, including the layout. Only bodies of functions
that are marked `@task` are edited: what is given has tests of its own. It knows nothing about how mutants are run.

It leaves alone what says nothing about the answer: messages, what is in a `raise` (it may be removed as a whole), asserts,
annotations, and `strict=True`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import libcst as cst
from libcst.metadata import ByteSpanPositionProvider, CodeSpan, MetadataWrapper

from tiny_llm_kit.course.altered import overwrite
from tiny_llm_kit.course.course_map import REFERENCE, Course, Day, Task
from tiny_llm_kit.course.marks import find_mark, read_mark

COMPARISONS: dict[type[cst.BaseCompOp], tuple[str, ...]] = {
    cst.LessThan: ("<=", ">="),
    cst.LessThanEqual: ("<", ">"),
    cst.GreaterThan: (">=", "<="),
    cst.GreaterThanEqual: (">", "<"),
    cst.Equal: ("!=",),
    cst.NotEqual: ("==",),
    cst.In: ("not in",),
    cst.NotIn: ("in",),
    cst.Is: ("is not",),
    cst.IsNot: ("is",),
}
"""Each with its neighbour at the boundary, where it has one, and its opposite."""

SIGNS: dict[type[cst.CSTNode], str] = {cst.Add: "-", cst.Subtract: "+", cst.AddAssign: "-=", cst.SubtractAssign: "+="}
OPPOSITES = {"min": "max", "max": "min", "minimum": "maximum", "maximum": "minimum", "any": "all", "all": "any"}
SYMMETRIC = {*OPPOSITES, "swapaxes"}
"""Methods and functions for which the order of arguments does not matter: for `swapaxes`, that of the axes."""

SIMPLE = (cst.Name, cst.Attribute, cst.Call, cst.Subscript)


@dataclass(frozen=True)
class Mutant:
    """One edit of `file`, a path from the root of the package. `before` and `after` are the lines that change, as one line."""

    task: Task
    file: str
    function: str
    line: int
    before: str
    after: str
    text: bytes

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {self.function}: {self.before}  →  {self.after}"

    def apply(self, package: Path) -> None:
        overwrite(package / self.file, self.text)


def find_mutants(root: Path, course: Course, day: Day, task: int | None = None) -> list[Mutant]:
    """All mutants of a day's answers (of one task's only, if `task` is given), in the order of the day's files and of lines."""
    files = [file for file in day.modules if file.endswith(".py")]
    found = [mutant for file in files for mutant in mutate((root / "src" / REFERENCE / file).read_bytes(), file, course)]
    tasks = [other for other in day.tasks if task in (None, other.number)]
    return [mutant for mutant in found if mutant.task in tasks]


def mutate(source: bytes, file: str, course: Course) -> list[Mutant]:
    """All mutants of one file."""
    finder = _Finder(source, file, course)
    MetadataWrapper(cst.parse_module(source)).visit(finder)
    return sorted(finder.found, key=lambda mutant: mutant.line)


class _Finder(cst.CSTVisitor):
    METADATA_DEPENDENCIES = (ByteSpanPositionProvider,)

    def __init__(self, source: bytes, file: str, course: Course) -> None:
        super().__init__()
        self.source, self.file, self.course = source, file, course
        self.names: list[str] = []
        self.task: Task | None = None
        self.found: list[Mutant] = []

    # Where mutants may be.

    def visit_ClassDef(self, node: cst.ClassDef) -> None:
        self.names.append(node.name.value)

    def leave_ClassDef(self, original_node: cst.ClassDef) -> None:
        self.names.pop()

    def visit_FunctionDef(self, node: cst.FunctionDef) -> bool:
        mark = find_mark(node)
        if self.task is not None:
            node.body.visit(self)  # within an answer; its own name would say less than the answer's
        elif mark is not None:
            self.task = read_mark(mark, self.course)
            self.names.append(node.name.value)
            node.body.visit(self)
            self.names.pop()
            self.task = None
        return False

    def visit_Raise(self, node: cst.CSTNode) -> bool:
        return False

    visit_Assert = visit_FormattedString = visit_Annotation = visit_Raise

    def visit_Arg(self, node: cst.Arg) -> bool:
        return node.keyword is None or node.keyword.value != "strict"

    # What they are.

    def visit_Comparison(self, node: cst.Comparison) -> None:
        for target in node.comparisons:
            for other in COMPARISONS.get(type(target.operator), ()):
                self._replace(target.operator, other)

    def visit_BinaryOperation(self, node: cst.BinaryOperation) -> None:
        self._flip_sign(node.operator)

    def visit_AugAssign(self, node: cst.AugAssign) -> None:
        self._flip_sign(node.operator)

    def visit_BooleanOperation(self, node: cst.BooleanOperation) -> None:
        self._replace(node.operator, "or" if isinstance(node.operator, cst.And) else "and")

    def visit_UnaryOperation(self, node: cst.UnaryOperation) -> None:
        if isinstance(node.operator, cst.Not) or not isinstance(node.expression, cst.Integer | cst.Float):
            self._replace(node.operator, "")

    def visit_Integer(self, node: cst.Integer) -> None:
        self._replace(node, str(node.evaluated_value + 1))
        self._replace(node, str(node.evaluated_value - 1))

    def visit_Float(self, node: cst.Float) -> None:
        self._replace(node, str(node.evaluated_value + 1))

    def visit_Name(self, node: cst.Name) -> None:
        if node.value in ("True", "False"):
            self._replace(node, str(node.value == "False"))

    def visit_Call(self, node: cst.Call) -> None:
        name = node.func.attr if isinstance(node.func, cst.Attribute) else node.func
        if isinstance(name, cst.Name) and name.value in OPPOSITES:
            self._replace(name, OPPOSITES[name.value])
        if isinstance(name, cst.Name) and name.value in SYMMETRIC:
            return
        positional = [arg for arg in node.args if arg.keyword is None and not arg.star]
        for first, second in pairwise(positional):
            self._swap(first, second)

    def visit_Slice(self, node: cst.Slice) -> None:
        for bound, other in ((node.lower, "{} + 1"), (node.upper, "{} - 1")):
            if bound is not None and not isinstance(bound, cst.Integer):
                self._replace(bound, other.format(self._as_operand(bound)))
        colon, whole = self._span(node.first_colon), self._span(node)
        if node.lower is not None:
            self._splice(whole.start, colon.start, "")
        if node.upper is not None and node.step is None:
            self._splice(colon.start + 1, whole.start + whole.length, "")

    def visit_Break(self, node: cst.Break) -> None:
        self._replace(node, "continue")

    def visit_Continue(self, node: cst.Continue) -> None:
        self._replace(node, "break")

    def visit_SimpleStatementLine(self, node: cst.SimpleStatementLine) -> None:
        self._remove_each(node.body)

    def visit_SimpleStatementSuite(self, node: cst.SimpleStatementSuite) -> None:
        self._remove_each(node.body)

    def visit_If(self, node: cst.If | cst.While | cst.IfExp | cst.CompIf) -> None:
        self._negate(node.test)

    visit_While = visit_IfExp = visit_CompIf = visit_If

    # How.

    def _remove_each(self, statements: Sequence[cst.BaseSmallStatement]) -> None:
        for statement in statements:
            match statement:
                case cst.Return(value=None) | cst.Assign() | cst.AugAssign() | cst.Raise() | cst.Del():
                    self._replace(statement, "pass")
                case cst.Expr(value=cst.Call() | cst.Yield()):
                    self._replace(statement, "pass")
                case cst.AnnAssign() if statement.value is not None:
                    self._replace(statement, "pass")
                case cst.Return(value=value) if value is not None and self._text(value) != "None":
                    self._replace(value, "None")

    def _negate(self, test: cst.BaseExpression) -> None:
        """Mutants of a condition whose operator no other rule turns around."""
        match test:
            case cst.BooleanOperation():
                self._negate(test.left)
                self._negate(test.right)
            case cst.Comparison() | cst.UnaryOperation(operator=cst.Not()):
                pass
            case _:
                self._replace(test, f"not ({self._text(test)})")

    def _flip_sign(self, operator: cst.CSTNode) -> None:
        if type(operator) in SIGNS:
            self._replace(operator, SIGNS[type(operator)])

    def _swap(self, first: cst.Arg, second: cst.Arg) -> None:
        if self._text(first) != self._text(second):
            start, end = self._span(first).start, self._span(second).start + self._span(second).length
            self._splice(start, end, f"{self._text(second)}, {self._text(first)}")

    def _as_operand(self, node: cst.BaseExpression) -> str:
        return self._text(node) if isinstance(node, SIMPLE) or node.lpar else f"({self._text(node)})"

    def _span(self, node: cst.CSTNode) -> CodeSpan:
        return self.get_metadata(ByteSpanPositionProvider, node)

    def _text(self, node: cst.CSTNode) -> str:
        span = self._span(node)
        return self.source[span.start : span.start + span.length].decode()

    def _replace(self, node: cst.CSTNode, text: str) -> None:
        span = self._span(node)
        self._splice(span.start, span.start + span.length, text)

    def _splice(self, start: int, end: int, text: str) -> None:
        if self.task is None:
            return
        source, new = self.source, text.encode()
        mutated = source[:start] + new + source[end:]
        line_start = source.rfind(b"\n", 0, start) + 1
        line_end = source.find(b"\n", end)
        before, after = source[line_start:line_end], source[line_start:start] + new + source[end:line_end]
        line, function = source.count(b"\n", 0, start) + 1, ".".join(self.names)
        self.found.append(Mutant(self.task, self.file, function, line, _one_line(before), _one_line(after), mutated))


def _one_line(text: bytes) -> str:
    return " ".join(line.strip() for line in text.decode().splitlines())
