"""The book's checks, each on a small page with a fault that it must find, and on one without.

The real book is looked at by a step of its own: pdm run check --only book.
"""

import html
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tiny_llm_kit.book import (
    chapters,
    consoles,
    english,
    formulas,
    includes,
    links,
    mdbook,
    options,
    signatures,
    sources,
    spelling,
    units,
)
from tiny_llm_kit.book.pages import Page
from tiny_llm_kit.book.preprocessor import prepare
from tiny_llm_kit.course.course_map import Day, Task, find_root

DAY = Day(1, 2, "Doubling", "book/src/day.md", "tests/day.py", ("numbers.py",), (Task(1, 2, 1, "double"),), (1,))

CHAPTER = """\
# Week 1 Day 2: Doubling

    pdm run test --week 1 --day 2 -k task_1

## Predict before you code

1. What is twice two?

<details>
<summary>Answers</summary>

1. Four.

</details>

## Tasks

### Task 1: double

Write `double`, and `Doubler`.
"""

ANSWERS = '''\
@task(week=1, day=2, number=1)
def double(x: int) -> int:
    """Twice `x`.

    Raises:
        TypeError: if it is no number.
    """
    return 2 * x


class Doubler:
    """Doubles."""

    @task(1, 2, 1)
    def __init__(self) -> None:
        self.factor = 2

    def far(self, first: int, *, second_of_many_arguments: int = 2, third_of_many_arguments: int = 3, last: str) -> int:
        """All of it."""
        raise NotImplementedError
'''

PYPROJECT = """\
[tool.pdm.scripts]
test = { cmd = "python test.py" }
say = { cmd = "python say.py" }
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with a page, answers and a command."""
    for folder in ("book/src", "src/tiny_llm", "src/tiny_llm_ref"):
        (tmp_path / folder).mkdir(parents=True)
    for package in ("tiny_llm", "tiny_llm_ref"):
        (tmp_path / f"src/{package}/numbers.py").write_text(ANSWERS)
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    (tmp_path / "say.py").write_text(
        "import sys\nprint('it took 7.25 s')\nprint(*sys.argv[1:])\nsys.exit(sys.argv[-1] == 'bad')\n"
    )
    return tmp_path


def page(root: Path, text: str, name: str = "day.md") -> Page:
    path = root / "book/src" / name
    path.write_text(text, encoding="utf-8")
    return Page.read(path, root)


def places(faults: list) -> list[int]:
    return [fault.line for fault in faults]


# What is put in


def test_a_signature_stands_on_the_page_as_in_the_skeleton(root: Path) -> None:
    text, faults = prepare(page(root, "# A\n\n{{#signature numbers:double}}\n"), root)
    assert not faults
    for shown in ("```python\ndef double(x: int) -> int:\n", "TypeError: if it is no number."):
        assert shown in text, text
    for hidden in ("return", "@task"):
        assert hidden not in text, f"the answer or its mark got onto the page: {text}"


def test_the_items_of_a_docstring_are_wrapped_one_by_one(root: Path) -> None:
    long = " ".join(["word"] * 20)
    docstring = f"""What it does.

    Args:
        first: {long},
            and more.
        second: short.
    Returns:
        {long}.
    """
    (root / "src/tiny_llm/wide.py").write_text(f'def f(first, second):\n    """{docstring}"""\n')
    lines = signatures.describe(root / "src/tiny_llm", "wide:f").splitlines()
    assert max(map(len, lines)) <= signatures.WIDEST
    assert [line.strip().partition(" ")[0] for line in lines if re.match(" {8}\\S", line)] == [
        "first:",
        "second:",
        "word",
        "word",
    ]
    assert any(line.startswith(" " * 12) and line.endswith("and more.") for line in lines), lines


def test_every_signature_fits_the_page() -> None:
    for path in sorted((find_root() / "book/src").glob("*.md")):
        for symbol in re.findall(r"^\{\{#signature (\S+)\}\}", path.read_text(encoding="utf-8"), re.MULTILINE):
            lines = signatures.describe(find_root() / "src/tiny_llm", symbol).splitlines()
            assert max(map(len, lines)) <= signatures.WIDEST, f"{path.name}: {symbol}"


def test_a_long_signature_is_broken_for_the_page(root: Path) -> None:
    text = signatures.describe(root / "src/tiny_llm", "numbers:Doubler.far")
    assert max(map(len, text.splitlines())) <= signatures.WIDEST, text
    arguments = [line.strip().replace(" ", "") for line in text.splitlines()]
    assert arguments[2:6] == ["first:int,", "*,", "second_of_many_arguments:int=2,", "third_of_many_arguments:int=3,"], text


@pytest.mark.parametrize("symbol", ["numbers:triple", "letters:double", "double", "numbers:Doubler.near"])
def test_a_signature_that_is_not_there_is_named_with_its_line(root: Path, symbol: str) -> None:
    _, faults = prepare(page(root, f"# A\n\n{{{{#signature {symbol}}}}}\n"), root)
    assert places(faults) == [3], faults


def test_formulas_become_mathml_and_code_stays() -> None:
    text, faults = formulas.render(
        "So $x_i * y$, `$HOME`, \\$5.\n\n    cost $a and $b\n\n```sh\necho $a $b\n```\n\n$$\n\\frac{1}{2}\n$$\n"
    )
    assert not faults
    assert text.count("<math") == 2, text
    for kept in ('display="block"', "<mfrac>"):
        assert kept in text, text
    for kept in ("`$HOME`", "$5.", "    cost $a and $b", "echo $a $b"):
        assert kept in text, f"{kept!r} is no formula: {text}"
    assert "*" not in text.partition("</math>")[0], "Markdown would read an asterisk between tags as emphasis"


def test_in_a_table_a_number_stays_with_its_unit() -> None:
    text, space = "| a | `3 ms` | 43 ms | 2.6 × | 3 slots | 5 tokens/s |\n\n43 ms", units.NO_BREAK
    assert units.keep_together(text) == text.replace("43 ms |", f"43{space}ms |").replace("2.6 ×", f"2.6{space}×")


def test_in_a_table_a_spread_stays_in_one_piece() -> None:
    kept = units.keep_together("| 1.8 (1.7 … 1.9) | and so on … |\n")
    assert kept.replace(units.NO_BREAK, "~") == "| 1.8 (1.7~…~1.9) | and so on … |\n"


def test_an_option_in_a_line_stays_whole_and_says_what_it_said() -> None:
    text = "Try `pdm run x --max_seq-len 3 *a*`, or `x - y`.\n\n    x --day 1\n\n```sh\nx --day 1\n```\n\n| `--a \\| --b` |\n"
    kept = options.keep_whole(text)
    code = re.search(r"<code>(.*)</code>", kept)
    assert code is not None
    assert html.unescape(re.sub("<[^>]+>", "", code[1])) == "pdm run x --max_seq-len 3 *a*"
    assert [html.unescape(option) for option in re.findall(r'class="option">([^<]*)<', code[1])] == ["--max_seq-len"]
    assert not set("*_-") & set(re.sub("<[^>]+>", "", code[1])), "Markdown would read these"
    assert kept.replace(code[0], "`pdm run x --max_seq-len 3 *a*`") == text, "everything else is left as it was"


def test_prices_are_no_formula() -> None:
    text = "It costs $5 here, and $6 there.\n"
    assert formulas.render(text) == (text, [])


@pytest.mark.parametrize("formula", ["\\nosuchthing x", "x_{1", "\\left( x"])
def test_a_formula_that_cannot_be_read_is_named_with_its_line(root: Path, formula: str) -> None:
    _, faults = prepare(page(root, f"# A\n\nand ${formula}$.\n"), root)
    assert places(faults) == [3], faults


@pytest.mark.parametrize(
    "directive",
    ["{{#include no.py}}", "{{#include part.py:no}}", "{{#include part.py:1:9}}", "{{#incldue part.py}}"],
)
def test_an_include_of_what_is_not_there_is_a_fault(root: Path, directive: str) -> None:
    (root / "book/src/part.py").write_text("# ANCHOR: here\nx = 1\n# ANCHOR_END: here\n")
    good = "{{#include part.py}}\n{{#include part.py:here}}\n{{#include part.py:1:2}}\n\\{{#include no.py}}\n"
    assert places(includes.find_faults(page(root, f"{good}{directive}\n"))) == [5]


# What is checked of the pages


def test_code_wider_than_a_page_is_a_fault(root: Path) -> None:
    fits, wide = "─" * 88, "─" * 89
    assert places(sources.find_wide(page(root, f"{wide}\n\n```text\n{fits}\n{wide}\n```\n\n    {wide}\n"))) == [5, 8]


def test_unknown_commands_and_files_are_faults(root: Path) -> None:
    text = "`pdm run test`, `pdm run python`\n`pdm run tset`\n`src/tiny_llm/numbers.py`\n`src/tiny_llm/letters.py`\n"
    text += "[theirs](https://example.org/project/src/letters.py)\n"
    assert places(sources.find_unknown(page(root, text), root)) == [2, 4]


def test_a_page_that_the_summary_does_not_list_once_is_a_fault(root: Path) -> None:
    pages = [page(root, "# A"), page(root, "# B", "b.md"), page(root, "[A](day.md) [B](b.md)", "SUMMARY.md")]
    assert not sources.find_unlisted(pages)
    assert sources.find_unlisted([*pages[:2], page(root, "[A](day.md) [A](day.md)", "SUMMARY.md")])


def test_links_of_the_readme_lead_somewhere(root: Path) -> None:
    page(root, "# Far Away!\n", "other.md")
    text = "[a](other.md#far-away) [b](https://example.org)\n[c](other.md#near)\n[d](gone.md)\n"
    assert places(sources.find_broken_links(page(root, text))) == [2, 3]


@pytest.mark.parametrize("version", ["v0.33.0", "b10964", "release-1.2", "0f" * 20])
def test_a_link_to_a_file_elsewhere_names_a_version(root: Path, version: str) -> None:
    moving = "[a](https://github.com/a/b/blob/main/c.py)\n[b](https://github.com/a/b/tree/master)\n"
    fixed = f"[c](https://github.com/a/b/blob/{version}/c.py) [d](https://github.com/a/b) [e](https://github.com/a/b/pull/1)\n"
    assert places(sources.find_moving_links(page(root, fixed + moving))) == [2, 3]


def test_a_good_chapter_has_no_fault(root: Path) -> None:
    assert not chapters.find_faults([page(root, CHAPTER)], DAY, root)
    assert not chapters.find_faults([page(root, CHAPTER.replace("`double`", "**double**(x)"))], DAY, root), "bold will do, too"


def test_the_pages_of_a_chapter_are_taken_together(root: Path) -> None:
    why, _, tasks = CHAPTER.partition("### Task 1: ")
    first, begins = page(root, why), "# Week 1 Day 2: the tasks\n\n### Task 1: "
    assert not chapters.find_faults([first, page(root, begins + tasks, "tasks.md")], DAY, root)
    assert chapters.find_faults([first], DAY, root), "its tasks are missing"
    (fault,) = chapters.find_faults([first, page(root, begins.replace("Day 2", "Day 3") + tasks, "tasks.md")], DAY, root)
    assert "tasks.md" in fault.page


def test_predictions_go_on_from_page_to_page(root: Path) -> None:
    more = CHAPTER[: CHAPTER.index("## Tasks")].replace("Doubling", "more").replace("1. ", "2. ")
    first, second = page(root, CHAPTER), page(root, more, "more.md")
    assert not chapters.find_faults([first, second], DAY, root)
    assert chapters.find_faults([second, first], DAY, root), "2 comes before 1"
    unanswered = page(root, more.replace("2. Four.", "Four."), "unanswered.md")
    assert chapters.find_faults([first, unanswered], DAY, root), "the second page's prediction has no answer"


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("# Week 1 Day 2: ", "# Week 1 Day 3: "),
        ("--week 1 --day 2", "--week 1 --day 1"),
        ("task_1", "task_7"),
        (" -k task_1", ""),
        ("### Task 1: ", "### Task 2: "),
        ("1. Four.", "Four."),
        ("<summary>Answers</summary>\n\n", "<summary>Answers</summary>\n"),
        ("Write `double`", "Write the double"),
        ("`Doubler`", "Doubler"),
    ],
)
def test_what_a_chapter_owes_the_map(root: Path, good: str, bad: str) -> None:
    assert good in CHAPTER
    assert chapters.find_faults([page(root, CHAPTER.replace(good, bad))], DAY, root), f"{bad!r} in place of {good!r} passed"


def test_misspelled_and_repeated_words_are_faults(root: Path) -> None:
    text = "The the cache recieves it.\nIt is in in\nthe cache. It had had that `teh`\n\n    the the teh\n\nof\nof\n"
    found = page(root, text)
    assert places(spelling.find_misspelled([found], root)) == [1], "in prose, not in code"
    assert places(spelling.find_repeated(found)) == [2, 7]


@pytest.mark.parametrize(
    "said",
    [
        "It has one slab a layer.",
        "It makes 60 tokens a second.",
        "It takes 4 bytes\na weight.",
        "It stands beside the engine.",
        "It is written behind the last token.",
        "It is the sum. Of all rows at once.",
        "It waits for so many seconds.",
        "It takes so many\nmore tokens.",
        "It reads the blocks where they lie.",
        "It dies in mid-stream.",
        "It is computed anyhow.",
        "Whoever runs out of blocks waits.",
        "Nobody waits for long.",
        "It runs on, while somebody\nelse is preempted.",
        "A router must not rank\nnobody.",
        "No room is lost, and nobody's block is evicted.",
    ],
)
def test_turns_of_phrase_that_the_style_does_without(root: Path, said: str) -> None:
    assert english.find_faults(page(root, f"# A\n\n{said}\n"), [])
    assert not english.find_faults(page(root, f"# A\n\n{said}\n"), [said.replace("\n", " ")]), (
        "it is on the list of what is allowed"
    )


@pytest.mark.parametrize(
    "said",
    [
        "It has one slab per layer.",
        "It gives each row a token.",
        "Besides, a server stands behind a proxy.",
        "Of the two, the second is faster.",
        "It costs `2 bytes a token`.",
        "It is looked at four times a second.",
        "So many requests come that the queue grows.",
        "It takes this many seconds.",
        "Nobody has timed a class yet.",
        "Ask everybody to try it.",
        "Let somebody else read your page.",
    ],
)
def test_what_is_well_said_passes(root: Path, said: str) -> None:
    assert not english.find_faults(page(root, f"# A\n\n{said}\n"), [])


# Commands and what they print


def console(command: str, *output: str, kind: str = "console") -> str:
    return "\n".join([f"# A\n\n```{kind}", f"$ {command}", *output, "```\n"])


@pytest.mark.parametrize("output", [["it took 912 s", "a b"], ["…", "a b"], ["it took 0.5 s", "…"], ["…"]])
def test_a_command_prints_what_the_page_says_numbers_aside(root: Path, output: list[str]) -> None:
    faults = consoles.find_faults(page(root, console("pdm run say a 'b'", *output)), root)
    assert not faults, faults


def test_rules_are_as_long_as_the_numbers_let_them() -> None:
    assert consoles.matches(["=== 3 passed ===", "┏━━┓"], ["", "===== 1234 passed =====", "┏━━━━┓"])


@pytest.mark.parametrize(
    ("command", "output"),
    [
        ("pdm run say a", ["it took 1 s", "b"]),
        ("pdm run say a", ["it took 1 s"]),
        ("pdm run say a", ["it took 1 s", "a", "b"]),
        ("pdm run say bad", ["it took 1 s", "bad"]),
        ("pdm run nothing", []),
        ("rm file", []),
    ],
)
def test_a_command_that_fails_or_prints_something_else_is_a_fault(root: Path, command: str, output: list[str]) -> None:
    assert places(consoles.find_faults(page(root, console(command, *output)), root)) == [4]


def test_slow_commands_are_run_on_demand(root: Path) -> None:
    text = console("pdm run say a", "wrong", kind="console,slow")
    assert not consoles.find_faults(page(root, text), root)
    assert consoles.find_faults(page(root, text), root, slow=True)


# The built book


def test_links_of_the_built_book(tmp_path: Path) -> None:
    (tmp_path / "b.html").write_text('<h1 id="top">B</h1>')
    lines = [
        '<a href="b.html#top">good</a> <a href="https://example.org">good</a> <a href="#here" id="here">good</a>',
        '<a href="c.html">gone</a>',
        '<a href="b.html#bottom">no such heading</a>',
        '<script src="https://example.org/x.js"></script>',
        '<a href="http://example.org">not safe</a>',
        '<img src="//example.org/x.png">',
    ]
    (tmp_path / "a.html").write_text("\n".join(lines))
    assert places(links.find_faults(tmp_path)) == [2, 3, 4, 5, 6]


def test_a_style_sheet_that_loads_a_font_from_outside_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "a.css").write_text("@font-face { src: url('https://example.org/a.woff2') }\nb { background: url(b.png) }\n")
    assert len(links.find_faults(tmp_path)) == 1


def small_book(folder: Path, text: str) -> Path:
    (folder / "book/src").mkdir(parents=True)
    (folder / "src").symlink_to(find_root() / "src")
    book = (find_root() / "book/book.toml").read_text(encoding="utf-8")
    (folder / "book/book.toml").write_text(book)
    (folder / "book/theme").symlink_to(find_root() / "book/theme")
    (folder / "book/figures").mkdir()
    (folder / "book/src/SUMMARY.md").write_text("# Summary\n\n- [A](a.md)\n")
    (folder / "book/src/a.md").write_text(text)
    return folder


def test_mdbook_builds_with_signatures_and_formulas(tmp_path: Path) -> None:
    root = small_book(tmp_path / "course", "# A\n\n{{#signature attention:softmax}}\n\nwith $x^2$.\n")
    mdbook.build(root, tmp_path / "out")
    html = (tmp_path / "out/a.html").read_text(encoding="utf-8")
    for shown in ("softmax", "<msup>"):
        assert shown in html, html
    assert not links.find_faults(tmp_path / "out"), "the built book needs nothing from outside"


def test_a_build_says_the_page_and_the_line_of_a_fault(tmp_path: Path) -> None:
    root = small_book(tmp_path / "course", "# A\n\n{{#include no.py}}\n\n{{#signature attention:hardmax}}\n")
    with pytest.raises(ValueError, match=r"book/src/a\.md:3: (.|\n)*book/src/a\.md:5: ") as error:
        mdbook.build(root, tmp_path / "out")
    assert "Traceback" not in str(error.value)


def test_the_program_says_where_the_book_begins(tmp_path: Path) -> None:
    command = [sys.executable, "scripts/book_build.py", "--out", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=find_root(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.removeprefix("open ").strip()).is_file(), done.stdout
