"""Lines that commands print as they stand."""

from rich.console import Console

from channels.channel_set import ChannelSet


def say(console: Console, line: str) -> None:
    """A line as it stands: names and paths are no markup, and are not folded."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def say_notices(console: Console, channels: ChannelSet) -> None:
    """What was found or assumed in reading the channels."""
    for notice in channels.source.notices:
        say(console, f"Note: {notice}")
