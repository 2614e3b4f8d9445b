"""`pdm run course`: the guide through the course. Each command is a file of this folder."""

import click

from tiny_llm_kit.cli.course.grade import grade as grade_command
from tiny_llm_kit.cli.course.hint import hint_command
from tiny_llm_kit.cli.course.next import next_command
from tiny_llm_kit.cli.course.reset import reset
from tiny_llm_kit.cli.course.restore import restore
from tiny_llm_kit.cli.course.solution import solution
from tiny_llm_kit.cli.course.start import start
from tiny_llm_kit.cli.course.status import status_command
from tiny_llm_kit.cli.course.test import test_command
from tiny_llm_kit.cli.course.update import update
from tiny_llm_kit.cli.course.watch import watch_command


@click.group()
def main() -> None:
    """Guides through the course: where you are, what comes next, hints, and a clean start at any day."""


main.add_command(start)
main.add_command(reset)
main.add_command(restore)
main.add_command(solution)
main.add_command(update)
main.add_command(status_command)
main.add_command(next_command)
main.add_command(test_command)
main.add_command(watch_command)
main.add_command(hint_command)
main.add_command(grade_command)
