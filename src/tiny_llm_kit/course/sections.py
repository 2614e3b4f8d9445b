"""The section of a chapter that explains a task: its page, its heading, and where a link leads."""

import re
from dataclasses import dataclass
from pathlib import Path

from tiny_llm_kit.course.course_map import Day


@dataclass(frozen=True)
class Section:
    """`heading` is "" where the chapter has none for the task."""

    page: str
    line: int
    heading: str

    @property
    def anchor(self) -> str:
        """As mdBook makes it."""
        text = re.sub(r"[`*]", "", self.heading).strip().lower()
        return re.sub(r"\s", "-", "".join(letter for letter in text if letter.isalnum() or letter in "_- "))

    def __str__(self) -> str:
        return f"{self.page}#{self.anchor}" if self.heading else self.page


def find_section(root: Path, day: Day, number: int) -> Section:
    """The section `### Task N: …` of the day's chapter; else the beginning of the chapter."""
    for page in day.pages:
        try:
            lines = (root / page).read_text(encoding="utf-8").splitlines()
        except OSError:
            continue
        for i, line in enumerate(lines, 1):
            if line.startswith(f"### Task {number}: "):
                return Section(page, i, line.removeprefix("### ").strip())
    return Section(day.chapter, 1, "")
