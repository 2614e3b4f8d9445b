"""Runs the tests of some tasks on a learner's package."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tiny_llm_kit.course.course_map import LEARNER, Course, Task
from tiny_llm_kit.course.suite import SuiteRun, TestResult, run_suites

SECONDS = 600


@dataclass(frozen=True)
class TaskOutcome:
    """How the tests of `task` ended, in a run that may have had others, too."""

    task: Task
    run: SuiteRun

    @property
    def results(self) -> list[TestResult]:
        return [result for result in self.run.results if result.name.startswith(self.task.tests_begin)]

    @property
    def failures(self) -> int:
        return sum(result.outcome in ("failed", "error") for result in self.results)

    @property
    def went_wrong(self) -> bool:
        """Whether a test failed, or the run did not come to its end."""
        return self.failures > 0 or self.run.exit_code not in (0, 1)

    @property
    def all_passed(self) -> bool:
        """Skipped tests say nothing, so there has to be one that passed."""
        return not self.went_wrong and any(result.outcome == "passed" for result in self.results)

    def __str__(self) -> str:
        if self.run.exit_code is None:
            return f"{self.task}: its tests had not ended after {SECONDS} s"
        if self.failures:
            return f"{self.task}: {self.failures} of its {len(self.results)} tests fail"
        if self.run.exit_code in (0, 1):
            return f"{self.task}: no test could be run. {self.run.describe_skipped()}".rstrip()
        return f"{self.task}: its tests could not run to their end\n{self.run.output.strip()[-2000:]}\n"


def run_task_tests(root: Path, course: Course, tasks: Iterable[Task]) -> list[TaskOutcome]:
    """The tests of tasks of one day, in a process of their own, for ten minutes at most."""
    tasks = list(tasks)
    tests = str(course.find_day(tasks[0].week, tasks[0].day).tests)
    chosen = " or ".join(task.tests_begin for task in tasks)
    run = run_suites(root, [tests], LEARNER, "-q", keyword=chosen, timeout=SECONDS)
    return [TaskOutcome(task, run) for task in tasks]
