"""Groups of near-duplicates in the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

_FIGURES = ("items", "pairs", "farthest")


def print_groups(result: dict[str, Any], n_shown: int) -> None:
    """Print a summary and the largest groups on stdout; the table fits the terminal."""
    # Ids may hold brackets or colons, which are not markup.
    console = Console(markup=False, emoji=False, highlight=False)
    console.print(
        f"{result['collection']}: {result['grouped']:,} of {result['items']:,} items are within "
        f"{_count(result['radius'], 'bit')} of another; they are in "
        f"{_count(result['groups'], 'group')}, with "
        f"{'more than ' if result['truncated'] else ''}{_count(result['pairs'], 'pair')}."
    )
    shown = result["largest"][:n_shown]
    if not shown:
        return
    # A table of Rich would give the room of the figures to long ids.
    rows = [(*_FIGURES, "ids"), *map(_row, shown)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_FIGURES))]
    for row in rows:
        figures = (text.rjust(width) for text, width in zip(row, widths, strict=False))
        line = Text("  ".join([*figures, row[-1]]))
        line.truncate(console.width, overflow="ellipsis")
        console.print(line)
    if left := result["groups"] - len(shown):
        console.print(f"Not shown: {_count(left, 'group')}.")


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'s' * (n != 1)}"


def _row(group: dict[str, Any]) -> tuple[str, str, str, str]:
    figures = (group[name] for name in _FIGURES)
    items, pairs, farthest = ("" if figure is None else f"{figure:,}" for figure in figures)
    ids = ", ".join(group["ids"]) + (", …" if group["items"] > len(group["ids"]) else "")
    return items, pairs, farthest, ids
