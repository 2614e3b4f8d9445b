"""`pdm run course`: the guide through the course. Each command is a file of this folder."""

import click


@click.group()
def main() -> None:
    """Guides through the course: where you are, what comes next, hints, and a clean start at any day."""
