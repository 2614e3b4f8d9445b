"""`pdm run course update`: to a newer version of the course, with what a learner wrote."""

from pathlib import Path

import click

from tiny_llm_kit.cli.course.common import count, tell_backup
from tiny_llm_kit.cli.course.opened import opened_course


@click.command()
@click.option("--from", "ref", metavar="REF", help="A branch, tag or commit that is here already; nothing is fetched.")
def update(ref: str | None) -> None:
    """Brings a newer version of the course, and keeps what you wrote.

    New docstrings, signatures and given code come into the files of src/tiny_llm around your answers; all other files of the
    course are taken as they are. Where you and the new version have changed the same lines, yours stay, and the new file is
    put next to yours, with .new at the end of its name. All files that change are copied first, see `restore`.

    Without --from, the new version is fetched from the upstream of your branch, or else from the main branch of the remote.
    What you have committed stays committed (a merge), and what you have not stays so.

    Example: pdm run course update
    """
    from rich.console import Console

    from tiny_llm_kit.cli.progress import working
    from tiny_llm_kit.course.git import Git
    from tiny_llm_kit.course.task_changes import READ, Version, describe, find_task_changes
    from tiny_llm_kit.course.update import plan_update
    from tiny_llm_kit.course.workspace import carry_out

    # All that is needed afterwards is imported by now: the files of this very program may change.
    with opened_course() as (root, _):
        git = Git(root)
        with working(Console(stderr=True), "looking for a new version"):
            plan = plan_update(root, ref)
        if plan.is_over:
            click.echo(f"up to date: you have all that is in {plan.ref} (--from names another place)")
            if ref is None and git.has_more(main := git.main_branch()):
                click.echo(f"{main} has more, but is not what your branch follows: pdm run course update --from {main}")
            return

        def version(commit: str) -> Version:
            tree = git.tree(commit)
            texts = git.read_all(blob for path, (_, blob) in tree.items() if path.suffix in READ)
            return Version(list(tree), lambda path: texts[tree[path][1]].decode())

        try:
            told = list(describe(find_task_changes(version(plan.base), version(plan.wanted)))) or ["none"]
        except (ValueError, LookupError, TypeError, AttributeError):  # a map that is written in another way
            told = ["this version cannot tell: see the new one's course.toml"]
        backup = carry_out(root, plan.changes, "update", (plan.old, plan.new))
        try:
            git.move_to(plan.new, plan.old)
        except OSError as error:
            raise OSError(
                f"{error}\nThe files are the new ones, and git does not know it: give `course update` again"
            ) from None
        click.echo(f"updated from {plan.base[:10]} to {plan.wanted[:10]} ({plan.ref}), {count(plan.changes)} changed")
        click.echo("tasks that are new or have changed:")
        for line in told:
            click.echo(f"  {line}")
        _tell_clashes(plan.clashes, root)
        if Path("pdm.lock") in plan.changes:
            click.echo("packages have changed, so now: pdm run setup")
        tell_backup(root, backup)


def _tell_clashes(clashes: list[Path], root: Path) -> None:
    if clashes:
        click.echo("you and the new version have changed the same lines; yours stay:")
    for path in clashes:
        beside = path.with_name(f"{path.name}.new")
        click.echo(
            f"  {path}: " + (f"compare with {beside}" if (root / beside).exists() else "the course no longer has this file")
        )
