"""Tables in the terminal, as wide as it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

# Columns that are as wide as this may be folded.
_WIDTH = 40


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]], right: str = "") -> None:
    """Print a table on stdout.

    Long texts continue on the next line, but those of a last column `payload` are cut.

    Parameters
    ----------
    headings : sequence of str
    rows : iterable of sequences of str
    right : str
        The headings of columns of figures, separated by spaces.
    """
    console = Console(markup=False, emoji=False, highlight=False)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    rows = list(rows)
    left = console.width
    for column, heading in enumerate(headings):
        figures, cut = heading in right.split(), heading == "payload"
        widest = max(cell_len(row[column]) for row in (headings, *rows))
        # Rich would take the room of the other columns for a long payload.
        width = max(len(heading), left - 2) if cut else min(_WIDTH, widest)
        left -= width + 2
        table.add_column(
            heading,
            justify="right" if figures else "left",
            no_wrap=figures or cut,
            overflow="ellipsis" if cut else "fold",
            max_width=width if cut else None,
        )
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # Brackets in it are not Rich's markup.
    console.print(table)
