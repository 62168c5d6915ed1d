"""Lines and tables as commands print them."""

from rich.console import Console
from rich.table import Table

from channels.channel_set import ChannelSet


def say(console: Console, line: str) -> None:
    """A line as it stands: names and paths are no markup, and are not folded."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def say_notices(console: Console, channels: ChannelSet) -> None:
    """What was found or assumed in reading the channels."""
    for notice in channels.source.notices:
        say(console, f"Note: {notice}")


def say_both(console: Console, channels: ChannelSet, validation: ChannelSet) -> None:
    """Notices on the training channels and, if they are of another file, on those kept out."""
    say_notices(console, channels)
    if validation.source != channels.source:
        say_notices(console, validation)


def show_table(console: Console, table: Table) -> None:
    """A table; off a terminal at 160 columns, since a log file would fold it to shreds."""
    wide = console if console.is_terminal else Console(width=max(console.width, 160))
    wide.print(table)
