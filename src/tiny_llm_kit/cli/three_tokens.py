"""`pdm run three-tokens`: the worked example of week 1, with the numbers of one day."""

import click

from tiny_llm_kit.cli.answers import ends_politely, import_answer
from tiny_llm_kit.course.course_map import LEARNER
from tiny_llm_kit.course.three_tokens import DAYS, tell


@click.command()
@click.option("--day", type=click.IntRange(1, DAYS), required=True, help="The day of week 1.")
@click.option("--solution", default=LEARNER, show_default=True, help="Whose functions compute it; `ref` is the reference.")
@ends_politely()
def main(day: int, solution: str) -> None:
    """Takes "the cat sat", a vector of four numbers per token, through what one day of week 1 builds.

    The numbers are those of the chapter, if your functions are right.
    """
    click.echo("\n\n".join(tell(import_answer(solution), day)))


if __name__ == "__main__":
    main(prog_name="pdm run three-tokens")
