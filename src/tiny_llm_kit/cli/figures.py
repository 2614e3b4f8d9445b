"""`pdm run figures`: the book's figures, redrawn from recorded measurements and from the course's own objects."""

import sys

import click

from tiny_llm_kit import figures
from tiny_llm_kit.cli.answers import ends_politely
from tiny_llm_kit.cli.outputs import write_text
from tiny_llm_kit.course.course_map import find_root


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--check", is_flag=True, help="Write nothing; say which figures differ from what would be drawn, and exit with 1."
)
@click.option("--list", "listing", is_flag=True, help="List the figures and stop.")
@ends_politely()
def main(names: tuple[str, ...], check: bool, listing: bool) -> None:
    """Draw the figures called NAME, or all, into book/src/images.

    A figure of a measurement comes from book/figures, which holds a command's JSON; the command is named under the figure.
    """
    root = find_root()
    if listing:
        for name in figures.NAMES:
            click.echo(name)
        return
    stale = [name for name in names or figures.NAMES if figures.is_stale(root, name)]
    for name in stale:
        if check:
            click.echo(f"{figures.place(root, name).relative_to(root)} is not what is drawn now: pdm run figures {name}")
        else:
            write_text(figures.place(root, name), figures.draw(root, name))
            click.echo(f"Written: {figures.place(root, name).relative_to(root)}")
    if not stale:
        click.echo("All figures are as they are drawn now.")
    sys.exit(1 if check and stale else 0)
