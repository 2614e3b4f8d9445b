"""`pdm run book-build`: the book as a folder of HTML, which a browser opens without a server and without the internet."""

from pathlib import Path

import click

from tiny_llm_kit.book import mdbook
from tiny_llm_kit.cli.errors import BadInput
from tiny_llm_kit.course.course_map import find_root


@click.command()
@click.option(
    "--out", type=click.Path(path_type=Path), help="The folder, book/book by default. Anything else in it is deleted."
)
def main(out: Path | None) -> None:
    """Build the book, and say where it begins."""
    root = find_root()
    folder = root / "book/book" if out is None else out
    try:
        mdbook.build(root, folder)
    except ValueError as error:
        raise BadInput(str(error)) from None
    click.echo(f"open {folder / 'index.html'}")


if __name__ == "__main__":
    main(prog_name="pdm run book-build")
