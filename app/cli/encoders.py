"""`bitcell train`, `bitcell encode` and `bitcell export`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.options import (
    DatasetOption,
    MirrorOption,
    SeedOption,
    check_data,
    check_output,
    load_settings,
)

_BATCH = 10_000
_OPTIONS = {"n_bits": "--bits", "random_state": "--seed"}
"""Parameters that have an option of their own."""


def train(
    dataset: DatasetOption,
    method: Annotated[str, typer.Option(help="Hashing method, such as `lsh`.")],
    bits: Annotated[int, typer.Option(help="Code length in bits.")],
    out: Annotated[Path, typer.Option(help="The .safetensors file to write.")],
    seed: SeedOption = 0,
    mirror: MirrorOption = None,
    param: Annotated[
        list[str] | None,
        typer.Option(
            help="A further parameter of the method, NAME=VALUE, such as `steps=1000`; repeat the "
            "option for several."
        ),
    ] = None,
    privileged: Annotated[
        bool, typer.Option(help="Nets also learn from the dataset's privileged features, if any.")
    ] = True,
) -> None:
    """Fit an encoder on a dataset and write it to a file."""
    from app.cli.progress import progress_bar
    from app.datasets.catalog import load_dataset
    from hashing import make_hasher
    from hashing.progress import followed

    check_output(out, ".safetensors")
    chosen = _read_params(param or []) | {"n_bits": bits, "random_state": seed}
    make_hasher(method, **chosen).check_parameters()
    loaded = load_dataset(dataset, load_settings().data_dir)
    if mirror is not None:
        loaded = loaded.with_mirror(mirror)
    if not privileged:
        loaded = loaded.without_privileged()
    hasher = make_hasher(method, **loaded.parameters(method) | chosen)
    with progress_bar(1) as progress, followed(progress):
        progress(0, 1, f"{method} learns from {len(loaded):,} descriptors")
        hasher.fit(loaded.descriptors, loaded.targets, loaded.privileged)
    hasher.save(out)
    typer.echo(f"{out}: {hasher.fingerprint}")


def _read_params(given: list[str]) -> dict[str, Any]:
    """Return the parameters in NAME=VALUE; a value that is not JSON is text."""
    params: dict[str, Any] = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not (name and equals):
            raise ValueError(f"--param is NAME=VALUE, such as steps=1000; got {one!r}")
        if name in _OPTIONS:
            raise ValueError(f"--param {name}: use {_OPTIONS[name]}")
        if name in params:
            raise ValueError(f"--param {name} is given twice")
        try:
            params[name] = json.loads(value)
        except ValueError:
            params[name] = value
    return params


def encode(
    encoder: Annotated[Path, typer.Argument(help="An encoder that `bitcell train` wrote.")],
    descriptors: Annotated[Path, typer.Argument(help="An .npy file of shape (n, d).")],
    out: Annotated[Path, typer.Option(help="The .npy file to write: packed codes, uint8.")],
) -> None:
    """Encode descriptors into packed codes."""
    import numpy as np

    from app.cli.progress import progress_bar
    from app.http import npy
    from hashing import load_hasher
    from hashing.atomic_file import atomic_write

    check_output(out, ".npy")
    hasher = load_hasher(encoder)
    try:
        (matrix,) = npy.read_arrays(descriptors.read_bytes(), npy.DESCRIPTORS)
        npy.not_empty(matrix, "descriptors")
        with progress_bar(len(matrix), "encoding") as progress:
            parts = []
            for start in range(0, len(matrix), _BATCH):
                parts.append(hasher.encode(matrix[start : start + _BATCH]))
                progress(start + len(parts[-1]), len(matrix), "encoding")
        codes = np.concatenate(parts)
    except ValueError as error:
        raise ValueError(f"{descriptors}: {error}") from None
    with atomic_write(out) as file:
        np.save(file, codes)
    typer.echo(f"{out}: {len(codes)} codes of {codes.shape[1]} bytes")


def export(
    encoder: Annotated[str, typer.Argument(help="Name of an encoder of the service.")],
    out: Annotated[Path, typer.Argument(help="The .safetensors file to write.")],
) -> None:
    """Write an encoder of the data directory to a file, whether or not a service is running.

    The file is what `bitcell train` writes: upload it to another service, or load it in Python.
    """
    from app.service.encoder_store import file_in
    from hashing.atomic_file import atomic_write
    from hashing.registry import from_bytes
    from index import NotFound

    data_dir = load_settings().data_dir
    check_data(data_dir)
    check_output(out, ".safetensors")
    try:
        data = file_in(data_dir, encoder)
    except NotFound as error:
        raise ValueError(str(error)) from None
    with atomic_write(out) as file:
        file.write(data)
    typer.echo(f"{out}: {from_bytes(data).fingerprint}")
