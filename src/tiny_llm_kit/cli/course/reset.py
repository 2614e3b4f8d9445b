"""`pdm run course reset`: back to the stubs of a day or a task."""

import click

from tiny_llm_kit.cli.course.common import tell_backup, tell_parts, tell_rebound
from tiny_llm_kit.cli.course.opened import opened_course
from tiny_llm_kit.course.course_map import LEARNER


@click.command()
@click.argument("week", type=int)
@click.argument("day", type=int)
@click.argument("task", type=int, required=False)
def reset(week: int, day: int, task: int | None) -> None:
    """Puts the stubs of a day, or of one task, back in the place of what you wrote.

    Helpers of your own stay where they are. src/tiny_llm is copied first, see `restore`.

    Example: pdm run course reset 1 1 2
    """
    from tiny_llm_kit.course.workspace import carry_out, plan_reset

    with opened_course() as (root, course):
        found = course.find_ready_day(week, day)
        chosen = None if task is None else course.find_task(week, day, task)
        plan = plan_reset(root, course, found, chosen)
        if not plan.changes:
            click.echo(f"nothing to do: {chosen or found} has its stubs")
            tell_rebound(plan.rebound)
            return
        backup = carry_out(root, plan.changes, f"reset {week} {day}" + (f" {task}" if task else ""))
        click.echo(f"src/{LEARNER} has stubs again in the place of:")
        tell_parts(plan.placed)
        for path in plan.whole:
            click.echo(f"made again, with all that was in it: {path}")
        tell_rebound(plan.rebound)
        tell_backup(root, backup)
