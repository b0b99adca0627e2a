"""`bitcell recommend`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from app.cli.options import (
    KeyFileOption,
    KeyOption,
    SeedOption,
    UrlOption,
    check_output,
    load_settings,
    split,
)

if TYPE_CHECKING:
    from app.cli.running_service import RunningService
    from app.recommend.goal import Goal
    from app.recommend.run import Recommendation

# The exit status if no candidate reaches the goal.
_NOT_REACHED = 1


def recommend(
    dataset: Annotated[
        str | None,
        typer.Option(
            help="`digits`, a fetched dataset such as `cifar10`, or the path of a file: npz, npy, "
            "fvecs, bvecs, ivecs, HDF5 or parquet."
        ),
    ] = None,
    collection: Annotated[
        str | None,
        typer.Option(
            help="In place of --dataset: a collection of a running service that keeps "
            "its descriptors."
        ),
    ] = None,
    within: Annotated[
        float | None,
        typer.Option(
            help="Goal: the smallest code whose mAP is at most this many points below "
            "that of the descriptors. It needs labels."
        ),
    ] = None,
    recall: Annotated[
        float | None,
        typer.Option(help="Goal: the smallest code that finds this share of the true neighbours."),
    ] = None,
    bytes_: Annotated[
        int | None,
        typer.Option("--bytes", help="Goal: the best code of at most this many bytes per item."),
    ] = None,
    k: Annotated[int, typer.Option("--k", help="For recall: how many are to be found.")] = 10,
    rerank: Annotated[
        int,
        typer.Option(
            help="For recall: how many items, the first by code, are ranked again by "
            "their descriptors; 0 for none."
        ),
    ] = 200,
    distance: Annotated[
        str | None,
        typer.Option(help="`euclidean` (the default, if the dataset has no other) or `cosine`."),
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated methods, by default those that learn in seconds; name "
            "nets to let them take part."
        ),
    ] = None,
    max_bits: Annotated[int, typer.Option(help="The longest code to try.")] = 512,
    seconds: Annotated[
        float | None,
        typer.Option(
            help="Try no further candidate after this many seconds; by default 90, or no "
            "limit if a net takes part."
        ),
    ] = None,
    items: Annotated[
        int | None,
        typer.Option(
            help="Items of the sample that is measured, at most; by default 10,000 with labels, "
            "and 100,000 without."
        ),
    ] = None,
    seed: SeedOption = 0,
    make: Annotated[
        str | None,
        typer.Option(
            help="Create the recommended encoder, and an empty collection for it, under "
            "this name in a running service."
        ),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Write a report with curves to this .html file.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the result to this .json file.")
    ] = None,
    url: UrlOption = None,
    key: KeyOption = None,
    key_file: KeyFileOption = None,
) -> None:
    """Recommend a method and a code length for your data and one goal.

    The exit status is 1 if no candidate reaches the goal.
    """
    from contextlib import ExitStack

    from app.cli.running_service import connected
    from app.recommend.goal import Goal

    goal = Goal(within, recall, bytes_, k, rerank, _distance(distance))
    limits = {
        "methods": None if methods is None else split(methods),
        "max_bits": max_bits,
        "seconds": seconds,
        "items": items,
        "seed": seed,
    }
    if make is not None:
        from index import check_name

        check_name(make)
    if (dataset is None) == (collection is None):
        raise ValueError("give one of --dataset and --collection")
    if json_file is not None:
        check_output(json_file, ".json")
    if report is not None:
        check_output(report, ".html")
    with ExitStack() as stack:
        # Found before anything is measured.
        needs_service = collection is not None or make is not None
        service = stack.enter_context(connected(url, key, key_file)) if needs_service else None
        if service is not None and make is not None:
            _check_free(service, make)
        job, found = "", None
        if service is not None and collection is not None:
            job, result = _of_collection(service, collection, goal, limits)
        else:
            found = _of_dataset(dataset or "", goal, limits)
            result = found.result
        # Written and printed before anything is made: the answer is not lost if that fails.
        _write_files(result, report, json_file)
        _print(result)
        if service is not None and make is not None and result["reached"]:
            made = _make(service, job, make) if found is None else _create(service, make, found)
            typer.echo(made)
    if not result["reached"]:
        raise typer.Exit(_NOT_REACHED)


def _distance(given: str | None) -> Literal["euclidean", "cosine"] | None:
    if given not in (None, "euclidean", "cosine"):
        raise ValueError(f"--distance must be euclidean or cosine, got {given!r}")
    return given  # type: ignore[return-value]


def _of_dataset(name: str, goal: Goal, limits: dict[str, Any]) -> Recommendation:
    from app.cli.progress import progress_bar
    from app.datasets.catalog import load_dataset
    from app.recommend.run import recommend as find

    loaded = load_dataset(name, load_settings().files_dir)
    limits = {"n_items" if name == "items" else name: value for name, value in limits.items()}
    with progress_bar(1) as update:
        return find(loaded, goal, update, **limits)


def _of_collection(
    service: RunningService, collection: str, goal: Goal, limits: dict[str, Any]
) -> tuple[str, dict[str, Any]]:
    """Return the id of the job and its result."""
    from app.cli.progress import progress_bar

    given = goal.as_json() | limits
    body = {"collection": collection} | {k: v for k, v in given.items() if v is not None}
    job: str = service.send("POST", "recommendations", json=body).json()["id"]
    try:
        with progress_bar(1) as update:
            return job, service.wait(job, update).result or {}
    except KeyboardInterrupt:  # Nobody waits for the job any more.
        service.remove_job(job)
        raise


def _check_free(service: RunningService, name: str) -> None:
    """Raise ValueError, before any work, if an encoder or a collection has the name."""
    for kind in ("encoders", "collections"):
        if name in [one["name"] for one in service.send("GET", kind).json()]:
            raise ValueError(f"{name!r} is already the name of one of the {kind} of the service")


def _make(service: RunningService, job: str, name: str) -> str:
    service.send("POST", "recommendations", job, "make", json={"name": name})
    return f"Made the encoder and the empty collection {name}: fill it with `bitcell load {name}`."


def _create(service: RunningService, name: str, found: Recommendation) -> str:
    """Create the encoder and the collection; nothing is left if the second fails."""
    service.send("PUT", "encoders", name, content=found.hasher.to_bytes())
    settings = found.result["recommended"]["collection"]
    new = {"name": name, "encoder": name} | {k: v for k, v in settings.items() if v is not None}
    try:
        service.send("POST", "collections", json=new)
    except BaseException:
        service.send("DELETE", "encoders", name)
        raise
    return f"Made the encoder and the empty collection {name}: fill it with `bitcell load {name}`."


def _write_files(result: dict[str, Any], report: Path | None, json_file: Path | None) -> None:
    import json

    from hashing.atomic_file import atomic_write

    if json_file is not None:
        with atomic_write(json_file) as file:
            file.write((json.dumps(result, indent=2) + "\n").encode())
    if report is not None:
        from app.recommend.render import render

        with atomic_write(report) as file:
            file.write(render(result).encode())


def _print(result: dict[str, Any]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from app.recommend.table import COLUMNS_NOTE, columns, row_of

    # Plain text only: names of datasets may hold brackets, which are not markup.
    console = Console(markup=False, emoji=False, highlight=False)
    console.print(result["answer"], style="bold" if result["reached"] else "bold red")
    for note in result["notes"]:
        console.print(note)
    if result["runner_up"] is not None:
        console.print(f"Runner-up: {result['runner_up']['why']}")
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    for heading in columns(result):
        table.add_column(heading, justify="left" if heading in ("method", "goal") else "right")
    for each in result["candidates"]:
        if "error" not in each:
            table.add_row(*row_of(result, each))
    console.print()
    console.print(table)
    for each in result["candidates"]:
        if "error" in each:
            console.print(f"{each['method']}, {each['n_bits']} bits: {each['error']}", style="dim")
    console.print(COLUMNS_NOTE, style="dim")
