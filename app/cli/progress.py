"""A progress bar in the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Update = Callable[[int, int, str], None]


@contextmanager
def progress_bar(total: int | None, now: str = "starting") -> Iterator[Update]:
    """Show a bar on stderr, which disappears at the end; yield the function that updates it.

    The function takes the steps done, the steps in all, and a description of the current step. The
    bar moves back and forth while `total` is None.
    """
    columns = (
        # Names of datasets and methods may hold brackets, which are not Rich's markup.
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(now, total=total)

        def update(done: int, total: int, description: str) -> None:
            progress.update(task, completed=done, total=total, description=description)

        yield update
