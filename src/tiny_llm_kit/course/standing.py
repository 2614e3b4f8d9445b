"""Where a learner stands: the state of each task, by what is written and by the last results, and what comes next.

Nothing is run for it.
"""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from tiny_llm_kit.course.answers import Answer, Answers
from tiny_llm_kit.course.course_map import Course, Day, Task
from tiny_llm_kit.course.results import Results


class State(Enum):
    NOT_BEGUN = "not begun"
    BEGUN = "begun"
    UNTESTED = "not tested yet"
    GIVEN = "the reference's"
    CHANGED = "changed since"
    FAILS = "fails"
    SKIPPED = "skipped here"
    PASSES = "passes"

    @property
    def is_done(self) -> bool:
        return self in (State.PASSES, State.SKIPPED, State.GIVEN)


@dataclass(frozen=True)
class TaskStanding:
    """`failed` of `total` tests, in the last run; `answers` are the functions that are to be written."""

    task: Task
    state: State
    answers: tuple[Answer, ...]
    failed: int = 0
    total: int = 0

    @property
    def describe(self) -> str:
        written = sum(not answer.stub for answer in self.answers)
        match self.state:
            case State.FAILS:
                return f"{self.failed} of {self.total} tests fail"
            case State.BEGUN:
                return f"{written} of {len(self.answers)} functions written"
            case State.CHANGED:
                return "changed since the last test"
            case State.GIVEN:
                return "the reference's, not tested"
        return self.state.value


@dataclass(frozen=True)
class DayStanding:
    """The tasks are in their working order."""

    day: Day
    tasks: tuple[TaskStanding, ...]

    @property
    def done(self) -> int:
        return sum(task.state.is_done for task in self.tasks)

    @property
    def is_done(self) -> bool:
        return self.done == len(self.tasks)

    @property
    def is_begun(self) -> bool:
        return any(task.state is not State.NOT_BEGUN for task in self.tasks)

    @property
    def next_task(self) -> TaskStanding | None:
        return next((task for task in self.tasks if not task.state.is_done), None)


@dataclass(frozen=True)
class Standing:
    days: tuple[DayStanding, ...]
    broken: dict[Path, str]

    @property
    def next_day(self) -> DayStanding | None:
        """The first day that is not done."""
        return next((day for day in self.days if not day.is_done), None)


def find_standing(course: Course, answers: Answers, results: Results) -> Standing:
    days = tuple(
        DayStanding(day, tuple(_stand(day, day.tasks[number - 1], answers, results) for number in day.order))
        for day in course.ready_days
    )
    return Standing(days, answers.broken)


def _stand(day: Day, task: Task, answers: Answers, results: Results) -> TaskStanding:
    places = {Path(module): place for place, module in enumerate(day.modules)}
    own = tuple(sorted(answers.of(task), key=lambda answer: places.get(answer.path, len(places))))
    tests, current = results.outcomes(day, task.number)
    failed = sum(outcome not in ("passed", "skipped") for outcome in tests.values())
    stubs = sum(answer.stub for answer in own)
    if answers.are_stubs(task):
        state = State.NOT_BEGUN
    elif current and failed:
        state = State.FAILS
    elif stubs and (not current or "skipped" in tests.values()):  # tests that pass say more than a stub that none needs
        state = State.BEGUN
    elif current:
        state = State.PASSES if "passed" in tests.values() else State.SKIPPED
    elif tests:
        state = State.CHANGED
    elif own and all(answer.given for answer in own):
        state = State.GIVEN
    else:
        state = State.UNTESTED
    return TaskStanding(task, state, own, failed, len(tests))
