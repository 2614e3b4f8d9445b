"""`pdm run skeleton`: generates src/tiny_llm from src/tiny_llm_ref."""

import click

from tiny_llm_kit.cli.errors import BadInput
from tiny_llm_kit.course.course_map import LEARNER, find_root, load_course
from tiny_llm_kit.course.skeleton import DRIFT, back_up, find_drift, find_work, generate, write


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; exit with 1 if a file is not as it would be written.")
@click.option("--force", is_flag=True, help="Overwrite your work, too, after copying it to src/tiny_llm.bak-<n>.")
def main(check: bool, force: bool) -> None:
    """Generates src/tiny_llm from src/tiny_llm_ref, without the answers to the tasks.

    It stops before overwriting work that is not committed.
    """
    root = find_root()
    try:
        skeleton = generate(root, load_course(root))
    except ValueError as error:
        raise BadInput(str(error)) from None
    drift = find_drift(root, skeleton)
    if check:
        for path, how in drift.items():
            click.echo(f"{how}: src/{LEARNER}/{path}")
        if drift:
            raise click.ClickException(DRIFT)
    elif work := find_work(root, skeleton):
        listing = "\n".join(f"  src/{LEARNER}/{path}" for path in work)
        if not force:
            raise BadInput(
                f"these files hold work that is not committed:\n{listing}\n"
                "Commit them, or give --force to overwrite them after copying them aside. Nothing was written."
            )
        click.echo(f"copied your work to {back_up(root).relative_to(root)}:\n{listing}")
        write(root, skeleton)
    else:
        write(root, skeleton)
    click.echo(f"src/{LEARNER}: {len(skeleton.files)} files, {0 if check else len(drift)} of them changed")


if __name__ == "__main__":
    main(prog_name="pdm run skeleton")
