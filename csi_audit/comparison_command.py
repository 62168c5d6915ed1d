"""What `csi-audit compare` does once its settings are read: it calls the library and prints."""

from dataclasses import replace

from rich.console import Console

from csi_audit.comparing import compare, comparison_folder
from csi_audit.comparison_settings import CompareConfig
from csi_audit.devices import set_threads
from csi_audit.printing import say, show_table
from reports.comparison_page import PAGE_NAME
from reports.comparison_words import answer_sentences, comparison_tables, terminal_table


def compare_compressors(settings: CompareConfig) -> None:
    """Compare compressors and show the tables."""
    set_threads(settings.threads)
    console = Console()
    folder = comparison_folder(settings)
    told: set[str] = set()

    def progress(what: str, made: int, total: int) -> None:
        if what not in told:
            told.add(what)
            say(console, f"Folder {folder}; if interrupted, go on with --out {folder}")
            say(console, f"Drawing {what}: {total:,} denoiser evaluations")

    result = compare(replace(settings, out=str(folder)), progress=progress)
    for warning in result.warnings:
        say(console, f"Note: {warning}")
    for sentence in answer_sentences(result):
        say(console, sentence)
    for table in comparison_tables(result):
        show_table(console, terminal_table(table))
        say(console, table.remark)
    say(console, f"Comparison: {(folder / PAGE_NAME).resolve()}")
