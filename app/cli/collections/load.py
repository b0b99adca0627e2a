"""`bitcell load`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.options import KeyFileOption, KeyOption, UrlOption, load_settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from app.cli.running_service import RunningService

# Limits of the body of one request: its bytes, and its items.
_BYTES = 8 << 20
_ITEMS = 10_000
# Names of classes that are shown.
_CLASSES = 20


def load(
    collection: Annotated[str, typer.Argument(help="The collection to fill.")],
    source: Annotated[
        str,
        typer.Argument(
            help="A dataset, by name or .npz file; or an .npy file of descriptors, or of packed "
            "codes for a collection without an encoder. The ids of its rows are 0, 1, …"
        ),
    ],
    encoder: Annotated[
        str | None, typer.Option(help="Create the collection first, with this encoder.")
    ] = None,
    bits: Annotated[
        int | None, typer.Option(help="Create it first, for given codes of this length.", min=1)
    ] = None,
    ranking: Annotated[
        str | None, typer.Option(help="Create it first, to rank by `hamming` or `estimate`.")
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(help="With --ranking estimate: `euclidean`, `cosine` or `dot`."),
    ] = None,
    keep_descriptors: Annotated[
        bool,
        typer.Option("--keep-descriptors", help="Create it first, to keep descriptors too."),
    ] = False,
    url: UrlOption = None,
    key: KeyOption = None,
    key_file: KeyFileOption = None,
) -> None:
    """Insert or replace items in a collection of the running service.

    If it stops early, run it again, without the options that create the collection: what is there
    is replaced by the same. A collection that it created is dropped if it ends before the first
    items are stored.
    """
    from app.cli.collections.calls import create_collection, show_collection, show_encoder
    from app.cli.running_service import connected

    arrays, names = _read(source, load_settings().data_dir)
    with connected(url, key, key_file) as service:
        if encoder is not None:
            # Before the collection is created, which would otherwise be left empty.
            expected, dimension = show_encoder(service, encoder).dimension, arrays[0].shape[1]
            if dimension != expected:
                raise ValueError(
                    f"{source} has descriptors of dimension {dimension}, and encoder {encoder!r} "
                    f"takes those of dimension {expected}"
                )
        given = {
            "encoder": encoder,
            "n_bits": bits,
            "ranking": ranking,
            "metric": metric,
            "keep_descriptors": keep_descriptors or None,
        }
        if new := {name: value for name, value in given.items() if value is not None}:
            create_collection(service, {"name": collection} | new)
        show_collection(service, collection)  # Before the progress bar appears.
        try:
            held = _send(service, collection, arrays)
        except BaseException as error:  # Ctrl-C and a broken connection too.
            if new and (note := _drop_if_empty(service, collection)):
                error.args = (f"{error}{note}",)
            raise
    typer.echo(f"{collection}: {len(arrays[0]):,} items loaded, {held:,} in all")
    if names is not None:
        typer.echo(f"labels: {names}")


def _drop_if_empty(service: RunningService, collection: str) -> str:
    """Drop a collection that this command created if nothing is in it; say in half a sentence."""
    import httpx2

    from app.cli.collections.calls import drop_collection, show_collection

    try:
        if show_collection(service, collection).items:
            return ""
        drop_collection(service, collection)
    except (ValueError, httpx2.RequestError):
        left = f"; the collection {collection}, which this command created, may be left empty"
        typer.secho(f"bitcell: {left[2:]}", fg="red", err=True)
        return left
    return ", and no collection is created"


def _read(source: str, data_dir: Path) -> tuple[tuple[NDArray[Any], ...], str | None]:
    """Return the descriptors or codes, the ids and any labels; and what the labels stand for."""
    import numpy as np

    from app.datasets.catalog import load_dataset
    from app.datasets.vectors import map_npy

    if not source.endswith(".npy"):
        dataset = load_dataset(source, data_dir)
        if dataset.label_sets is not None:
            raise ValueError(
                f"{source}: its items have several labels each, but an item of a collection has "
                "one: put the labels as a list into the payload, with the Python client, and "
                "search with the filter `contains`; or load the descriptors from an .npy file"
            )
        return (dataset.descriptors, dataset.ids, dataset.labels), _in_words(dataset.class_names)
    matrix = map_npy(Path(source))
    if matrix.ndim != 2:
        raise ValueError(f"{source}: expected a matrix, (n, d), got the shape {matrix.shape}")
    return (matrix, np.arange(len(matrix)).astype(np.str_)), None


def _in_words(class_names: NDArray[np.str_] | None) -> str | None:
    """Return what the labels stand for, since a collection keeps numbers; None without names."""
    names = [] if class_names is None else class_names.tolist()
    if names == [str(label) for label in range(len(names))]:
        return None
    shown = [f"{label} {name}" for label, name in enumerate(names[:_CLASSES])]
    return ", ".join(shown) + (", …" if names[_CLASSES:] else "")


def _send(service: RunningService, collection: str, arrays: tuple[NDArray[Any], ...]) -> int:
    from app.cli.collections.calls import upsert
    from app.cli.progress import progress_bar

    total, held = len(arrays[0]), 0
    size = sum(array[:1].nbytes for array in arrays)
    batch = max(1, min(_ITEMS, _BYTES // max(1, size)))
    with progress_bar(total) as progress:
        for start in range(0, total, batch):
            progress(start, total, f"loading {collection}")
            end = min(total, start + batch)
            try:
                held = upsert(service, collection, *(array[start:end] for array in arrays))
            except ValueError as error:
                stored = "all before them are stored, and none from them on"
                raise ValueError(
                    f"items {start:,} to {end - 1:,} of the source: {error}; "
                    f"{stored if start else 'nothing is stored'}"
                ) from None
    return held
