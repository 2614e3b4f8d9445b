"""`pdm run course restore`: lists the backups, or brings one back."""

import click

from tiny_llm_kit.cli.course.common import count, tell_backup
from tiny_llm_kit.cli.course.opened import opened_course


@click.command()
@click.argument("name", required=False)
def restore(name: str | None) -> None:
    """Lists the backups that the other commands have made; with a NAME, makes src/tiny_llm what it was then.

    The beginning of a name will do if no other begins so. The present state is copied first, so that you can change your mind.

    Example: pdm run course restore 2026-11-27-093000-start-2-6
    """
    from rich.table import Table

    from tiny_llm_kit.cli.tables import make_console
    from tiny_llm_kit.course import backups
    from tiny_llm_kit.course.restoring import restore_backup

    with opened_course() as (root, _):
        if name is None:
            table = Table("name", "before", "made", "files", title="backups in .course/backups", title_justify="left")
            for backup in backups.list_all(root):
                table.add_row(backup.name, backup.command, backup.time[:19].replace("T", " "), str(len(backup.files)))
            for fault in backups.list_damaged(root):
                click.echo(fault, err=True)
            make_console().print(table if table.row_count else "There is no backup yet: start, reset and update make one each.")
            return
        backup = backups.find(root, name)
        made, changes, messages = restore_backup(root, backup)
        if made is None:
            click.echo(f"nothing to do: all is as it was before `course {backup.command}`")
        else:
            click.echo(f"as it was before `course {backup.command}`, {count(changes)} changed:")
            own = [path for path in changes if path.is_relative_to(backups.PACKAGE)]
            for path in own:
                click.echo(f"  {path}")
            if others := changes.keys() - set(own):
                click.echo(f"  and {count(others)} of the rest of the course")
            tell_backup(root, made)
        for message in messages:
            click.echo(message)
