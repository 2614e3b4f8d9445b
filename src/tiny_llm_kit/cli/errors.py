"""How a command ends when it cannot do what was asked: one message, exit code 2."""

import click


class BadInput(click.ClickException):
    """Says what is wrong and the remedy. click.UsageError would add the usage, which was not the problem."""

    exit_code = 2
