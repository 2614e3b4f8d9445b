"""The answers within `.metal` files: finds them in a learner's file, which has no marks, by the given lines around them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tiny_llm_kit.course.functions import split_lines
from tiny_llm_kit.course.metal_regions import BEGIN, END

STUB = re.compile(r'[ \t]*#[ \t]*error "Week (\d+) Day (\d+), task (\d+)\b.*\s*')

Lines = list[str]


@dataclass
class Marked:
    """A file with marks: its regions with their tasks, and the given lines before, between and after these."""

    given: list[Lines]
    answers: list[Lines]
    tasks: list[tuple[int, int, int]]

    def blocks(self) -> Iterator[Lines]:
        """Given lines and answers in turn: the file without its marks."""
        for given, answer in zip(self.given, [*self.answers, []], strict=True):
            yield given
            yield answer


def split_marked(source: str) -> Marked:
    """Its marks are those that `remove_regions` knows, and right."""
    found = Marked([[]], [], [])
    inside = False
    for line in split_lines(source):
        if begin := BEGIN.fullmatch(line):
            week, day, number = map(int, begin.groups()[1:])
            found.tasks.append((week, day, number))
            found.answers.append([])
            inside = True
        elif END.fullmatch(line):
            found.given.append([])
            inside = False
        else:
            (found.answers if inside else found.given)[-1].append(line)
    return found


def find_answers(text: str, given: list[Lines]) -> list[Lines] | None:
    """The lines between the given ones; None if these are not there as they were given."""
    lines = split_lines(text)
    plain = [line.rstrip() for line in lines]
    wanted = [[line.rstrip() for line in part] for part in given]
    first, last = wanted[0], wanted[-1]
    end = len(plain) - len(last)
    if end < len(first) or plain[: len(first)] != first or plain[end:] != last:
        return None
    answers: list[Lines] = []
    place = len(first)
    for part in wanted[1:-1]:
        found = next((i for i in range(place, end - len(part) + 1) if plain[i : i + len(part)] == part), None)
        if found is None:
            return None
        answers.append(lines[place:found])
        place = found + len(part)
    return [*answers, lines[place:end]]


def is_stub(lines: Lines, task: tuple[int, int, int]) -> bool:
    """Whether the line is still there that says that the task is not done."""
    return any((found := STUB.fullmatch(line)) and tuple(map(int, found.groups())) == task for line in lines)


def replace_regions(text: str, marked: Marked, new: dict[int, Lines], path: Path) -> str:
    """`text` with other lines in the regions of those numbers (from 0); `marked` is the course's file.

    ValueError if the given lines around a region that is written have changed: then it is not clear what is the answer.
    """
    newline = "\r\n" if "\r\n" in text else "\n"
    fresh = {number: [line.rstrip("\r\n") + newline for line in lines] for number, lines in new.items()}
    lines = split_lines(text)
    answers = find_answers(text, marked.given)
    if answers is None:
        for number, block in fresh.items():
            place = next((i for i, line in enumerate(lines) if is_stub([line], marked.tasks[number])), None)
            if place is None:
                raise ValueError(f"{path}: the given lines around the answer have changed, so its lines can't be told apart")
            lines[place : place + 1] = block
        return "".join(lines)
    place = len(marked.given[0])
    for number, answer in enumerate(answers):
        block = fresh.get(number, answer)
        lines[place : place + len(answer)] = block
        place += len(block) + len(marked.given[number + 1])
    return "".join(lines)
