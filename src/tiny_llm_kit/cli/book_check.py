"""`pdm run book-check`: whether the book keeps its promises. It is a step of `pdm run check`."""

import sys

import click

from tiny_llm_kit.book.checks import find_faults
from tiny_llm_kit.cli.errors import BadInput
from tiny_llm_kit.course.course_map import find_root, load_course


@click.command()
@click.option("--run-commands", is_flag=True, help="Run the commands of blocks marked `console,slow`, too.")
def main(run_commands: bool) -> None:
    """Check the pages: includes, links, width, names, commands with their output, spelling and turns of phrase.

    Each fault is a line, page:line: what is wrong. To find them, the book is built in a temporary folder.
    """
    root = find_root()
    try:
        faults = find_faults(root, load_course(root), run_commands)
    except ValueError as error:
        raise BadInput(str(error)) from None
    for fault in faults:
        click.echo(fault)
    click.echo(f"{len(faults)} faults" if len(faults) != 1 else "1 fault")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main(prog_name="pdm run book-check")
