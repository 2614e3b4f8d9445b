"""Runs the tests of one task on a learner's package."""

from dataclasses import dataclass
from pathlib import Path

from tiny_llm_kit.course.course_map import LEARNER, Course, Task
from tiny_llm_kit.course.suite import SuiteRun, run_suites

SECONDS = 600


@dataclass(frozen=True)
class TaskOutcome:
    """How the tests of `task` ended. Skipped ones say nothing; there has to be one that passed."""

    task: Task
    run: SuiteRun

    @property
    def all_passed(self) -> bool:
        return self.run.exit_code == 0 and self.run.count("passed") > 0

    def __str__(self) -> str:
        passed, failed = self.run.count("passed"), len(self.run.failures)
        if self.run.exit_code is None:
            return f"{self.task}: its tests had not ended after {SECONDS} s"
        if failed:
            return f"{self.task}: {failed} of its {passed + failed} tests fail"
        if self.run.exit_code == 0:
            return f"{self.task}: no test could be run. {self.run.describe_skipped()}".rstrip()
        return f"{self.task}: its tests could not run to their end\n{self.run.output.strip()[-2000:]}\n"


def run_task_tests(root: Path, course: Course, task: Task) -> TaskOutcome:
    """Runs them in a process of their own, for ten minutes at most."""
    tests = str(course.find_day(task.week, task.day).tests)
    return TaskOutcome(task, run_suites(root, [tests], LEARNER, "-q", "-k", task.tests_begin, timeout=SECONDS))
