"""`bitcell benchmark`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.options import (
    DatasetOption,
    MirrorOption,
    SeedOption,
    check_output,
    integers,
    load_settings,
    split,
)

if TYPE_CHECKING:
    from app.datasets.dataset import Dataset


def benchmark(
    dataset: DatasetOption,
    methods: Annotated[
        str,
        typer.Option(
            help="Comma-separated methods. `raw` and `raw-cosine` compare descriptors without "
            "codes; `classifier` has a bit for each class that a classifier predicts."
        ),
    ],
    bits: Annotated[str, typer.Option(help="Comma-separated code lengths.")] = "12,24,48",
    seed: SeedOption = 0,
    seeds: Annotated[
        str | None,
        typer.Option(help="Comma-separated seeds, in place of --seed: gives mean and spread."),
    ] = None,
    protocol: Annotated[
        str, typer.Option(help="`retrieval-59k`, `unseen-classes` or `unseen-only`.")
    ] = "retrieval-59k",
    queries: Annotated[int, typer.Option(help="Queries per class.")] = 100,
    labels: Annotated[int, typer.Option(help="Labelled items per class in the database.")] = 200,
    reference: Annotated[
        str | None,
        typer.Option(
            help="The method that the others are compared with, in place of the best of each "
            "code length."
        ),
    ] = None,
    tune: Annotated[
        bool,
        typer.Option(
            help="Choose parameters of each method on a quarter of the labels that it learns from."
        ),
    ] = False,
    mirror: MirrorOption = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the result to this .json file.")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="Write a report with plots and pictures to this .html file."),
    ] = None,
) -> None:
    """Measure methods at several code lengths: precision, recall, times.

    Ctrl-C ends it early, with the rows measured until then and status 130.
    """
    from app.benchmark.rows import check_reference, rows
    from app.benchmark.run import run
    from app.benchmark.splits import Protocol
    from app.cli.benchmark_output import print_result
    from app.cli.progress import progress_bar
    from app.datasets.catalog import load_dataset

    table = rows(split(methods), integers("--bits", bits))
    check_reference(reference, table)
    checked_protocol = Protocol(protocol, queries, labels)
    all_seeds = [seed] if seeds is None else integers("--seeds", seeds)
    if json_file is not None:
        check_output(json_file, ".json")
    if report is not None:
        check_output(report, ".html")
    loaded = load_dataset(dataset, load_settings().data_dir, images=report is not None)
    if mirror is not None:
        loaded = loaded.with_mirror(mirror)
    with progress_bar(len(table) * len(all_seeds)) as update:
        result = run(
            loaded, table, checked_protocol, all_seeds, update, reference=reference, tune=tune
        )
    # Before printing: a closed pipe, such as `| head`, ends the command while it prints.
    _write_files(result, loaded, json_file, report)
    print_result(result)
    if "interrupted" in result:
        raise typer.Exit(130)


def _write_files(
    result: dict[str, Any], dataset: Dataset, json_file: Path | None, report: Path | None
) -> None:
    import json

    from hashing.atomic_file import atomic_write

    if json_file is not None:
        with atomic_write(json_file) as file:
            file.write((json.dumps(result, indent=2) + "\n").encode())
    if report is not None:
        from app.benchmark.report.render import render

        with atomic_write(report) as file:
            file.write(render(result, dataset).encode())
