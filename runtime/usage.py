"""A wrong use of the command, told as other faults are."""

from __future__ import annotations

import click

from nnc.runtime.errors import UserError, nearest
from nnc.runtime.report import print_user_error


def wrong_use(fault: click.UsageError, commands: click.Group, *, as_json: bool) -> None:
    """Print what is wrong with a command line, how the command is used, and what was meant."""
    context = fault.ctx
    usage = context.get_usage().replace("Usage:", "usage:") if context is not None else ""
    message = fault.format_message().rstrip(".")
    message = message[:1].lower() + message[1:]
    meant: str | None = None
    if isinstance(fault, click.NoSuchOption):
        known = [o for p in context.command.params for o in p.opts] if context is not None else []
        meant = nearest(fault.option_name, known)
        message = f"there is no option '{fault.option_name}'"
    elif context is not None and context.command is commands and "command" in message:
        word = fault.message.partition("'")[2].rpartition("'")[0]
        names = list(commands.commands)
        meant = nearest(word, names)
        message = f"there is no command '{word}'" if word else message
        usage = f"the commands are {', '.join(sorted(names))}"
    hint = f"did you mean '{meant}'?" if meant else None
    shown = UserError("E0002", message, (usage,) if usage else (), hint)
    print_user_error(shown, as_json=as_json)
