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
            "codes; `classifier` has a bit for each class that a classifier predicts. "
            "`net-2+privileged` also learns from the dataset's privileged features. For "
            "`neighbours` also `faiss-rabitq`, `faiss-sq` and `faiss-pq`, indexes of Faiss."
        ),
    ],
    bits: Annotated[str, typer.Option(help="Comma-separated code lengths.")] = "12,24,48",
    seed: SeedOption = 0,
    seeds: Annotated[
        str | None,
        typer.Option(help="Comma-separated seeds, in place of --seed: gives mean and spread."),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            help="`retrieval-59k`, `unseen-classes` or `unseen-only`; or `neighbours`, which needs "
            "no labels. By default `neighbours` for a dataset without labels or with queries of "
            "its own, and `retrieval-59k` for others."
        ),
    ] = None,
    queries: Annotated[
        int | None,
        typer.Option(help="Queries per class, by default 100; for `neighbours` in all, 1000."),
    ] = None,
    labels: Annotated[
        int | None, typer.Option(help="Labelled items per class in the database, by default 200.")
    ] = None,
    k: Annotated[
        int | None,
        typer.Option("--k", help="For `neighbours`: how many are to be found, by default 10."),
    ] = None,
    distance: Annotated[
        str | None,
        typer.Option(
            help="For `neighbours`: `euclidean` (the default, if the dataset has no other) or "
            "`cosine`."
        ),
    ] = None,
    rerank: Annotated[
        str | None,
        typer.Option(
            help="For `neighbours`: comma-separated, how many items, the first by code, are ranked "
            "again by their descriptors, by default 100,1000."
        ),
    ] = None,
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

    Without labels it measures how many of the true neighbours are found.

    Ctrl-C ends it early, with the rows measured until then and status 130.
    """
    from app.benchmark.neighbours.protocol import RERANK, NeighbourProtocol
    from app.benchmark.neighbours.run import run_neighbours
    from app.benchmark.rows import NEIGHBOURS, check_reference, rows
    from app.benchmark.run import run, to_the_end
    from app.benchmark.splits import PROTOCOLS, RETRIEVAL, Protocol
    from app.cli.benchmark_output import print_result
    from app.cli.progress import progress_bar
    from app.datasets.catalog import load_dataset
    from hashing.labels import is_labelled

    names, lengths = split(methods), integers("--bits", bits)
    table = rows(names, lengths, neighbours=protocol in (None, NEIGHBOURS))
    check_reference(reference, table)
    if protocol not in (None, NEIGHBOURS, *PROTOCOLS):
        known = ", ".join((*PROTOCOLS, NEIGHBOURS))
        raise ValueError(f"there is no protocol {protocol!r}; there are {known}")
    of_neighbours = NeighbourProtocol(
        1000 if queries is None else queries,
        10 if k is None else k,
        distance,
        RERANK if rerank is None else tuple(integers("--rerank", rerank)),
    )
    of_labels = Protocol(
        RETRIEVAL if protocol in (None, NEIGHBOURS) else protocol,
        100 if queries is None else queries,
        200 if labels is None else labels,
    )
    all_seeds = [seed] if seeds is None else integers("--seeds", seeds)
    if json_file is not None:
        check_output(json_file, ".json")
    if report is not None:
        check_output(report, ".html")
    loaded = load_dataset(dataset, load_settings().files_dir, images=report is not None)
    if mirror is not None:
        loaded = loaded.with_mirror(mirror)
    unlabelled = loaded.given is not None or not is_labelled(loaded.targets).any()
    of_descriptors = protocol == NEIGHBOURS or (protocol is None and unlabelled)
    if of_descriptors:
        _refuse("a protocol with labels", labels=labels, reference=reference, tune=tune or None)
    else:
        _refuse("--protocol neighbours", k=k, distance=distance, rerank=rerank)
    table = rows(names, lengths, neighbours=bool(of_descriptors))
    with progress_bar(len(table) * len(all_seeds)) as update:
        if of_descriptors:
            result = run_neighbours(loaded, table, of_neighbours, all_seeds, update)
        else:
            result = run(
                loaded, table, of_labels, all_seeds, update, reference=reference, tune=tune
            )
    # Before printing: a closed pipe, such as `| head`, ends the command while it prints.
    to_the_end(lambda: _write_files(result, loaded, json_file, report))
    print_result(result)
    if "interrupted" in result:
        raise typer.Exit(130)


def _refuse(needed: str, **options: object) -> None:
    """Raise ValueError if an option is given that another protocol has."""
    if given := [f"--{name}" for name, value in options.items() if value is not None]:
        raise ValueError(f"{' and '.join(given)} {'need' if given[1:] else 'needs'} {needed}")


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
