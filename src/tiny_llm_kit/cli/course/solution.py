"""`pdm run course solution`: the reference's answer to a task next to a learner's."""

import click

from tiny_llm_kit.cli.course.opened import opened_course


@click.command()
@click.argument("week", type=int)
@click.argument("day", type=int)
@click.argument("task", type=int)
@click.option("--give-up", is_flag=True, help="Show it although your tests do not pass.")
def solution(week: int, day: int, task: int, give_up: bool) -> None:
    """Shows the reference's answer to a task as a difference to yours, once your tests of that task pass.

    Lines with - are yours, lines with + are the reference's. It is one good answer among others.

    Example: pdm run course solution 2 6 4
    """
    from rich.console import Console
    from rich.text import Text

    from tiny_llm_kit.cli.progress import working
    from tiny_llm_kit.cli.text import harmless
    from tiny_llm_kit.course.answer_files import compare, find_files
    from tiny_llm_kit.course.processes import stopped_by_signals
    from tiny_llm_kit.course.task_tests import run_task_tests
    from tiny_llm_kit.course.workspace import read_answer

    console = Console()
    with opened_course() as (root, course):
        course.find_ready_day(week, day)
        chosen = course.find_task(week, day, task)
        if not give_up:
            with stopped_by_signals(), working(Console(stderr=True), f"your tests of {chosen}"):
                outcome = run_task_tests(root, course, [chosen])[0]
            if not outcome.all_passed:
                raise click.ClickException(
                    f"{outcome}. To go on: pdm run course hint {week} {day} {task}. To see the answer all the same: --give-up"
                )
        for file in find_files(root, course):
            for part in file.parts:
                if part.task == chosen:
                    lines = compare(file, part, read_answer(file)) or [
                        f"{file.shown}: {part.name} is the reference's, line by line"
                    ]
                    for line in lines:
                        style = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "")
                        console.print(Text(harmless(line), style), soft_wrap=True)
                    console.print()
