"""`bitcell train`, `bitcell encode` and `bitcell export`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.options import (
    DatasetOption,
    MirrorOption,
    SeedOption,
    check_data,
    check_output,
    load_settings,
    split,
)

if TYPE_CHECKING:
    from app.service.settings import Settings
    from hashing import Hasher

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
    loaded = load_dataset(dataset, load_settings().files_dir)
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
    encoder: Annotated[
        str,
        typer.Argument(
            help="A file that `bitcell train` wrote, or the name of an encoder of the service."
        ),
    ],
    descriptors: Annotated[
        str,
        typer.Argument(
            help="A parquet, npy, fvecs, bvecs or ivecs file, or a folder of .parquet files."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            help="The file to write: .parquet, of a column `code` and the other columns of the "
            "input; or .npy, of packed codes, uint8."
        ),
    ],
    column: Annotated[
        str | None,
        typer.Option(
            help="The column of descriptors in parquet (default: the only column of lists of "
            "numbers, or `descriptors`, `embedding`, `vector`, `emb`)."
        ),
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option(
            help="The other columns to write, separated by commas (default: all).",
        ),
    ] = None,
    on: Annotated[
        str | None,
        typer.Option(
            help="Encode parquet on a Dask cluster: its scheduler, dask://HOST:PORT, or with TLS "
            "dask+tls://HOST:PORT. Its workers read the files under the same paths."
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a .parquet file that is there.")
    ] = False,
) -> None:
    """Encode a file of descriptors, of any size, into a file of codes."""
    from app.cli.progress import progress_bar
    from app.encoding.cluster import on_cluster
    from app.encoding.encode import encode_file, encode_here
    from app.encoding.sources import check_dimension, open_source
    from bitcodes import code_size

    check_output(out, ".parquet", ".npy")
    if out.suffix == ".parquet" and out.exists() and not overwrite:
        raise ValueError(f"{out} exists already; --overwrite replaces it")
    if not descriptors:
        raise ValueError("expected the path of a file or a folder of descriptors, got ''")
    path = Path(descriptors)
    _check_apart(out, path)
    encoded = encode_here if on is None else on_cluster(on)
    hasher = _hasher(encoder)
    source = open_source(path, column, None if keep is None else split(keep))
    check_dimension(source, path, hasher)
    if not len(source):
        raise ValueError(f"{descriptors}: expected descriptors, got none")
    with progress_bar(len(source), "encoding") as progress:
        n_codes = encode_file(hasher, source, out, progress, encoded)
    typer.echo(f"{out}: {n_codes} codes of {code_size(hasher.n_bits)} bytes")


def _check_apart(out: Path, descriptors: Path) -> None:
    """Raise ValueError if the codes would replace descriptors, or lie among them."""
    files = list(descriptors.iterdir()) if descriptors.is_dir() else [descriptors]
    if out.exists() and any(out.samefile(file) for file in files if file.exists()):
        raise ValueError(f"{out} holds the descriptors: write the codes to another file")
    if descriptors.is_dir() and out.parent.samefile(descriptors):
        raise ValueError(
            f"{out} is in the folder of the descriptors: write the codes to another folder"
        )


def _hasher(encoder: str) -> Hasher:
    """Return the encoder in a file, or of this name in the data directory."""
    from app.service.state.opening import encoder_file
    from hashing.registry import from_bytes, load_hasher
    from index import NotFound

    settings = load_settings()
    is_name = Path(encoder).name == encoder and not encoder.endswith(".safetensors")
    if not encoder:
        raise ValueError("expected the file or the name of an encoder, got ''")
    if Path(encoder).exists() or not is_name:
        return load_hasher(encoder)
    try:
        _check_has_encoders(settings)
        data = encoder_file(settings, encoder)
    except (NotFound, ValueError) as error:
        raise ValueError(f"there is no file {encoder!r}, and {error}") from None
    return from_bytes(data)


def export(
    encoder: Annotated[str, typer.Argument(help="Name of an encoder of the service.")],
    out: Annotated[Path, typer.Argument(help="The .safetensors file to write.")],
) -> None:
    """Write an encoder of the data directory to a file, whether or not a service is running.

    The file is what `bitcell train` writes: upload it to another service, or load it in Python.
    """
    from app.service.state.opening import encoder_file
    from hashing.atomic_file import atomic_write
    from hashing.registry import from_bytes
    from index import NotFound

    settings = load_settings()
    _check_has_encoders(settings)
    check_output(out, ".safetensors")
    try:
        data = encoder_file(settings, encoder)
    except NotFound as error:
        raise ValueError(str(error)) from None
    with atomic_write(out) as file:
        file.write(data)
    typer.echo(f"{out}: {from_bytes(data).fingerprint}")


def _check_has_encoders(settings: Settings) -> None:
    if settings.database_url is None:
        check_data(settings.data_dir)
