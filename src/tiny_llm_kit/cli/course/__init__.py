"""`pdm run course`: the guide through the course. Each command is a file of this folder."""

import click

from tiny_llm_kit.cli.course.grade import grade as grade_command
from tiny_llm_kit.cli.course.reset import reset
from tiny_llm_kit.cli.course.restore import restore
from tiny_llm_kit.cli.course.solution import solution
from tiny_llm_kit.cli.course.start import start
from tiny_llm_kit.cli.course.update import update


@click.group()
def main() -> None:
    """Guides through the course: where you are, what comes next, hints, and a clean start at any day."""


main.add_command(start)
main.add_command(reset)
main.add_command(restore)
main.add_command(solution)
main.add_command(update)
main.add_command(grade_command)
