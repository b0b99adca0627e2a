"""`bitcell load`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.options import KeyFileOption, KeyOption, UrlOption, load_settings, split

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from app.cli.running_service import RunningService
    from app.encoding.items import ItemFiles

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
            help="A dataset, by name or .npz file; an .npy file of descriptors, or of packed "
            "codes for a collection without an encoder, with the ids 0, 1, …; or a parquet file "
            "of codes, or a folder of them, as `bitcell encode` and clusters write it."
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
    payload: Annotated[
        str | None,
        typer.Option(
            help="With a parquet file of codes: the columns that become fields of the payloads, "
            "separated by commas."
        ),
    ] = None,
    fingerprint: Annotated[
        str | None,
        typer.Option(
            help="With a parquet file of codes that does not say it: the fingerprint of the "
            "encoder that made them."
        ),
    ] = None,
    url: UrlOption = None,
    key: KeyOption = None,
    key_file: KeyFileOption = None,
) -> None:
    """Insert or replace items in a collection of the running service.

    If it stops early, run it again, without the options that create the collection: what is there
    is replaced by the same. A collection that it created is dropped if it ends before the first
    items are stored.
    """
    from app.cli.running_service import connected
    from app.datasets.catalog import known_datasets
    from app.encoding.items import open_items

    if not source:
        raise ValueError(
            "expected the name of a dataset, or the path of a file or a folder, got ''"
        )
    data_dir = load_settings().files_dir
    given = {
        "encoder": encoder,
        "n_bits": bits,
        "ranking": ranking,
        "metric": metric,
        "keep_descriptors": keep_descriptors or None,
    }
    new = {name: value for name, value in given.items() if value is not None}
    is_dataset = source in known_datasets(data_dir)
    items = None if is_dataset else open_items(Path(source), split(payload or ""))
    if items is None:
        for option, value in (("--payload", payload), ("--fingerprint", fingerprint)):
            if value is not None:
                raise ValueError(f"{option} is for parquet files of codes, and {source} is none")
        arrays, names = _read(source, data_dir)
        with connected(url, key, key_file) as service:
            held = _load_arrays(service, collection, source, new, arrays)
        loaded = len(arrays[0])
    else:
        with connected(url, key, key_file) as service:
            held = _load_codes(service, collection, source, new, items, fingerprint)
        loaded, names = len(items), _in_words(items.class_names)
    typer.echo(f"{collection}: {loaded:,} items loaded, {held:,} in all")
    if names is not None:
        typer.echo(f"labels: {names}")
    if items is not None and items.unused:
        unused = ",".join(items.unused)
        typer.echo(f"columns that were not loaded: {unused} (--payload {unused})", err=True)


def _load_arrays(
    service: RunningService,
    collection: str,
    source: str,
    new: dict[str, Any],
    arrays: tuple[NDArray[Any], ...],
) -> int:
    from app.cli.collections.calls import show_encoder

    if encoder := new.get("encoder"):
        # Before the collection is created, which would otherwise be left empty.
        expected, dimension = show_encoder(service, encoder).dimension, arrays[0].shape[1]
        if dimension != expected:
            raise ValueError(
                f"{source} has descriptors of dimension {dimension}, and encoder {encoder!r} "
                f"takes those of dimension {expected}"
            )
    size = sum(array[:1].nbytes for array in arrays)
    batch = max(1, min(_ITEMS, _BYTES // max(1, size)))
    parts = (
        {"arrays": [array[start : start + batch] for array in arrays]}
        for start in range(0, len(arrays[0]), batch)
    )
    return _fill(service, collection, new, parts, len(arrays[0]))


def _load_codes(
    service: RunningService,
    collection: str,
    source: str,
    new: dict[str, Any],
    items: ItemFiles,
    fingerprint: str | None,
) -> int:
    from app.cli.collections import codes

    made_by = items.about.fingerprint if fingerprint is None else fingerprint
    if items.about.fingerprint not in (None, made_by):
        raise ValueError(
            f"{source} has codes of the encoder with fingerprint {items.about.fingerprint}, got "
            f"--fingerprint {fingerprint}"
        )
    if new:
        codes.check_new(service, source, items, new, made_by)
        sent = made_by if "encoder" in new else None
    else:
        sent = codes.check_codes(service, collection, source, items, made_by)
    parts = (
        {
            "arrays": [part.codes, part.ids, *([] if part.labels is None else [part.labels])],
            "payloads": part.payloads,
            "fingerprint": sent,
        }
        for part in codes.requests(items, _ITEMS, _BYTES)
    )
    return _fill(service, collection, new, parts, len(items))


def _fill(
    service: RunningService,
    collection: str,
    new: dict[str, Any],
    parts: Iterator[dict[str, Any]],
    total: int,
) -> int:
    """Create the collection if asked, and send the parts; return how many items it then has."""
    from app.cli.collections.calls import create_collection, show_collection

    if new:
        create_collection(service, {"name": collection} | new)
    held = show_collection(service, collection).items  # Before the progress bar appears.
    try:
        return _send(service, collection, parts, total, held)
    except BaseException as error:  # Ctrl-C and a broken connection too.
        if new and (note := _drop_if_empty(service, collection)):
            error.args = (f"{error}{note}",)
        raise


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


def _send(
    service: RunningService,
    collection: str,
    parts: Iterator[dict[str, Any]],
    total: int,
    held: int,
) -> int:
    from app.cli.collections.calls import upsert
    from app.cli.progress import progress_bar

    start = 0
    try:
        with progress_bar(total) as progress:
            for part in parts:
                progress(start, total, f"loading {collection}")
                arrays = part.pop("arrays")
                end = start + len(arrays[0])
                try:
                    held = upsert(service, collection, *arrays, **part)
                except ValueError as error:
                    place = f"items {start:,} to {end - 1:,} of the source"
                    raise ValueError(f"{place}: {error}") from None
                start = end
    except ValueError as error:
        stored = "all before them are stored, and none from them on"
        raise ValueError(f"{error}; {stored if start else 'nothing is stored'}") from None
    return held
