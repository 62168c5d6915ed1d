"""The summary of a network's audit as the command prints it."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from csi_audit.printing import say, show_table
from reports.mode_words import mode_line
from reports.network_tables import outage_cells
from reports.network_words import mode_failure, network_answer, network_nouns
from reports.schema import Result
from reports.tables import plain_title


def show_network(console: Console, result: Result) -> None:
    """Notices, the answer, a table with a row a loss and threshold, the first modes."""
    for notice in (*result.data.notices, *result.warnings):
        say(console, f"Note: {notice}")
    if result.network is not None:
        say(console, result.network.description)
    for sentence in network_answer(result):
        console.print(sentence, markup=False, highlight=False)
    show_table(console, outage_table(result))
    for row in result.outages:
        if line := mode_line(row, network_nouns(result), mode_failure(row)):
            say(console, line)


def outage_table(result: Result) -> Table:
    """The report's main table for a terminal."""
    columns, rows = outage_cells(result)
    table = Table(title=Text("failure probabilities of the network"), title_justify="left")
    for column in columns:
        table.add_column(Text(plain_title(column)), overflow="fold")
    for cells in rows:
        table.add_row(*(Text(f"{cell.text} {cell.detail}".strip()) for cell in cells))
    return table
