"""What a grade is: points by task, and why they are not more."""

from dataclasses import dataclass, field

from tiny_llm_kit.course.course_map import Day, Task

POINTS = 10
"""What each task is worth."""


@dataclass(frozen=True)
class Failure:
    """A test that did not pass, by its name, and why in one line."""

    test: str
    why: str


@dataclass
class TaskGrade:
    """`tests` is how many the task has, `unfair` what costs all its points, `not_graded` why it is not graded, or ""."""

    task: Task
    tests: int
    passed: int = 0
    failures: list[Failure] = field(default_factory=list)
    unfair: list[str] = field(default_factory=list)
    not_graded: str = ""

    @property
    def key(self) -> str:
        return f"{self.task.week}.{self.task.day}.{self.task.number}"

    @property
    def points(self) -> float | None:
        """The share of its tests that passed, times what it is worth; None if it is not graded."""
        if self.unfair:
            return 0.0
        return None if self.not_graded else round(POINTS * self.passed / self.tests, 2) if self.tests else 0.0


@dataclass
class DayGrade:
    day: Day
    tasks: list[TaskGrade]

    @property
    def points(self) -> float:
        return round(sum(task.points or 0.0 for task in self.tasks), 2)

    @property
    def max_points(self) -> int:
        return POINTS * sum(task.points is not None for task in self.tasks)


@dataclass
class Grade:
    """`remarks` are about the whole: where the tests came from, what was left out; `notices` are for a person to look at."""

    days: list[DayGrade]
    remarks: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    @property
    def tasks(self) -> list[TaskGrade]:
        return [task for day in self.days for task in day.tasks]

    @property
    def points(self) -> float:
        return round(sum(day.points for day in self.days), 2)

    @property
    def max_points(self) -> int:
        return sum(day.max_points for day in self.days)
