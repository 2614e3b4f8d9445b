"""Commands on the book's pages: how they are read, and what counts as the output that the page shows."""

from pathlib import Path

from tiny_llm_kit.book.consoles import find_commands, find_faults
from tiny_llm_kit.book.pages import Page
from tiny_llm_kit.course.course_map import find_root

ROOT = find_root(Path(__file__))


def page(*lines: str) -> Page:
    return Page(ROOT / "page.md", "page.md", "\n".join(["```console", *lines, "```", ""]))


def test_a_command_goes_on_while_a_quotation_mark_is_open() -> None:
    (command,) = find_commands(page('$ pdm run python -c "', "for word in 'ab':", '    print(word)"', "a", "b"))
    assert command.output == ["a", "b"]
    assert find_faults(page('$ pdm run python -c "', "for word in 'ab':", '    print(word)"', "a", "b"), ROOT) == []


def test_a_command_goes_on_after_a_backslash() -> None:
    (command,) = find_commands(page("$ pdm run python \\", "    -c 'print(1)'", "1"))
    assert command.output == ["1"]
    assert find_faults(page("$ pdm run python \\", "    -c 'print(1)'", "1"), ROOT) == []


def test_the_next_command_of_a_block_is_a_command() -> None:
    commands = list(find_commands(page('$ pdm run python -c "print(', '1)"', "1", "$ pdm run python -c 'print(2)'", "2")))
    assert [command.output for command in commands] == [["1"], ["2"]]


def test_a_quotation_mark_that_is_never_closed_is_a_fault() -> None:
    (fault,) = find_faults(page('$ pdm run python -c "print(1)', "1"), ROOT)
    assert "No closing quotation" in fault.text


def test_the_reference_takes_the_place_of_the_readers_answers() -> None:
    command = "$ pdm run python -c 'import tiny_llm; print(tiny_llm.softmax.__module__)'"
    assert find_faults(page(command, "tiny_llm_ref.attention"), ROOT) == []


def test_another_output_is_a_fault_and_another_number_is_none() -> None:
    command = "$ pdm run python -c 'print(\"took 3 s\")'"
    assert find_faults(page(command, "took 17 s"), ROOT) == []
    (fault,) = find_faults(page(command, "took 17 ms"), ROOT)
    assert "took 3 s" in fault.text
