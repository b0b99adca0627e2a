"""`bitcell explain`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.options import DatasetOption, SeedOption, check_output, load_settings, split

if TYPE_CHECKING:
    from app.explain.run import Explanation


def explain(
    dataset: DatasetOption,
    laws: Annotated[
        str | None,
        typer.Option(help="Comma-separated laws, by default all; a wrong name lists them."),
    ] = None,
    encoder: Annotated[
        Path | None,
        typer.Option(
            help="The file of an encoder, for instance a net, to compare with random codes. By "
            "default `sdh` is trained, where there are labels."
        ),
    ] = None,
    items: Annotated[int, typer.Option(help="Items of the sample, at most.")] = 10_000,
    seed: SeedOption = 0,
    report: Annotated[
        Path | None, typer.Option(help="Write a report with plots to this .html file.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the result to this .json file.")
    ] = None,
) -> None:
    """Say what theory says about a dataset: dimension, bits, labels, meaning of distances.

    Each law is stated, estimated with intervals, and plotted in the report. Ctrl-C ends it early,
    with the laws measured until then and status 130.
    """
    from app.cli.progress import progress_bar
    from app.datasets.catalog import load_dataset
    from app.explain.data import Encoder
    from app.explain.laws import LAWS, LEAST_ITEMS, check_laws
    from app.explain.run import explain as measure
    from hashing import load_hasher
    from hashing.validation import check_int

    check_int("--items", items, LEAST_ITEMS, 10**9)
    if report is not None:
        check_output(report, ".html")
    if json_file is not None:
        check_output(json_file, ".json")
    chosen = LAWS if laws is None else split(laws)
    check_laws(chosen)
    given = None if encoder is None else Encoder(encoder.stem, load_hasher(encoder))
    loaded = load_dataset(dataset, load_settings().files_dir)
    with progress_bar(len(chosen)) as update:
        found = measure(loaded, update, laws=chosen, encoder=given, n_items=items, seed=seed)
    _write_files(found, report, json_file)
    _print(found)
    if found.interrupted:
        raise typer.Exit(130)


def _write_files(found: Explanation, report: Path | None, json_file: Path | None) -> None:
    import json

    from hashing.atomic_file import atomic_write

    if json_file is not None:
        with atomic_write(json_file) as file:
            file.write((json.dumps(found.as_json(), indent=2) + "\n").encode())
    if report is not None:
        from app.explain.render import render

        with atomic_write(report) as file:
            file.write(render(found).encode())


def _print(found: Explanation) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from app.explain.render import introduction

    # Plain text only: names of datasets may hold brackets, which are not markup.
    console = Console(markup=False, emoji=False, highlight=False)
    console.print(introduction(found), style="dim")
    for each in found.findings:
        console.print()
        console.print(f"{each.law.question} ({each.law.key})", style="bold")
        if each.problem is not None:
            console.print(f"Not measured: {each.problem}.", style="red")
            continue
        console.print(each.answer)
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, show_header=False, padding=(0, 1))
        table.add_column()
        table.add_column(justify="right")
        for figure in each.figures:
            table.add_row(figure.name, figure.text)
        console.print(table)
        console.print(f"The law: {each.law.statement}", style="dim")
        console.print(f"Where it stops: {each.law.limit}", style="dim")
