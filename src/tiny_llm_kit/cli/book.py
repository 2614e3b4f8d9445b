"""`pdm run book`: the book in a browser, built again whenever a page changes."""

import subprocess
import sys

import click

from tiny_llm_kit.book import mdbook
from tiny_llm_kit.cli.errors import BadInput
from tiny_llm_kit.course.course_map import find_root


@click.command()
@click.option(
    "--port", type=click.IntRange(1, 65535), default=3000, show_default=True, help="Port of the address that is served."
)
@click.option("--open", "opening", is_flag=True, help="Open it in a browser.")
def main(port: int, opening: bool) -> None:
    """Serve the book on this machine, and build it again whenever a page changes. Ctrl-C stops it."""
    root = find_root()
    try:
        program = mdbook.find_program()
    except ValueError as error:
        raise BadInput(str(error)) from None
    command = [program, "serve", str(root / "book"), "--port", str(port), *["--open"] * opening]
    try:
        sys.exit(subprocess.run(command, env=mdbook.environment(root)).returncode)
    except KeyboardInterrupt:  # mdBook has had it, too, and has ended
        sys.exit(130)


if __name__ == "__main__":
    main(prog_name="pdm run book")
