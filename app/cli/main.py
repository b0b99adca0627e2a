"""The command `bitcell`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from app.service.keys import Keys
    from app.service.settings import Settings

cli = typer.Typer(
    help="Descriptors in, short binary codes out, exact neighbours by Hamming distance.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
data = typer.Typer(help="Fetch datasets.", no_args_is_help=True)
cli.add_typer(data, name="data")
keys = typer.Typer(help="API keys.", no_args_is_help=True)
cli.add_typer(keys, name="keys")

DatasetOption = Annotated[
    str, typer.Option(help="`digits`, a dataset that was fetched, or a path to an .npz.")
]
MirrorOption = Annotated[
    str | None,
    typer.Option(help="`gist`: the descriptors are GIST, so nets learn from mirror images too."),
]
BitsOption = Annotated[int, typer.Option(help="Code length.")]
UrlOption = Annotated[
    str | None,
    typer.Option(help="Of the service, where it holds the data; by default as BITCELL_PORT has."),
]
SeedOption = Annotated[int, typer.Option(help="Seed of all that is random.")]


@cli.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 for any that is free.")] = None,
) -> None:
    """Start the service. Settings come from BITCELL_* environment variables."""
    from app.http.server import serve as run_server

    run_server(_settings(host=host, port=port))


@data.command()
def cifar10(
    archive: Annotated[
        Path | None, typer.Option(help="CIFAR-10 in its binary layout, already downloaded.")
    ] = None,
) -> None:
    """Make the dataset `cifar10`: fetch the images, describe them with GIST. Resumes."""
    from app.datasets.cifar10 import fetch

    path = fetch(_settings().data_dir, archive)
    typer.echo(f"{path}: bitcell benchmark --dataset cifar10 --methods raw,lsh")


@cli.command()
def gist(
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    out: Annotated[Path, typer.Option(help="The .npz to write.")],
) -> None:
    """Describe images with GIST: an .npz with descriptors, ids (the paths), and labels of -1."""
    from app.service.images import describe_files

    describe_files(images, _to_write(out, ".npz"))


@cli.command()
def snapshot(
    collection: Annotated[str, typer.Argument(help="The collection to copy.")],
    file: Annotated[Path, typer.Argument(help="The .snapshot to write.")],
    url: UrlOption = None,
) -> None:
    """Copy a collection to one checksummed file, whether a service holds it or not."""
    from app.cli.snapshot_files import save

    items = save(_settings(), url, collection, _to_write(file, ".snapshot"))
    typer.echo(f"{file}: {items} items of {collection}")


@cli.command()
def restore(
    file: Annotated[Path, typer.Argument(help="A .snapshot.")],
    name: Annotated[
        str | None, typer.Option(help="Of the new collection; by default the one it had.")
    ] = None,
    url: UrlOption = None,
) -> None:
    """Make a collection of a snapshot, whether a service holds the data or not."""
    from app.cli.snapshot_files import load

    made, items = load(_settings(), url, file, name)
    typer.echo(f"{made}: {items} items")


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="Whose it is, for you to know it by.")],
    write: Annotated[bool, typer.Option("--write", help="It may change things too.")] = False,
) -> None:
    """Make an API key and show it, once: only its hash is kept."""
    from app.service.keys import READ, WRITE

    key, secret = _keys().create(name, WRITE if write else READ)
    typer.echo(f"{key.id} {key.scope}, to be sent as `Authorization: Bearer KEY`:", err=True)
    typer.echo(secret)


@keys.command("list")
def list_keys() -> None:
    """List the keys: id, what it may, when it was made, name."""
    from datetime import UTC, datetime

    for key in _keys().list():
        made = datetime.fromtimestamp(key.created, UTC).isoformat(timespec="seconds")
        typer.echo(f"{key.id}  {key.scope:5}  {made}  {key.name}")


@keys.command("revoke")
def revoke_key(key: Annotated[str, typer.Argument(help="Its id, as `keys list` has it.")]) -> None:
    """Take back a key: a service that runs refuses it from now on."""
    _keys().revoke(key)


@cli.command()
def train(
    dataset: DatasetOption,
    method: Annotated[str, typer.Option(help="A method, such as `lsh`.")],
    bits: BitsOption,
    out: Annotated[Path, typer.Option(help="The .safetensors to write.")],
    seed: SeedOption = 0,
    mirror: MirrorOption = None,
) -> None:
    """Fit an encoder on a dataset and write it to a file."""
    from app.cli.benchmark_output import bar
    from app.datasets.formats import load_dataset
    from hashing import make_hasher
    from hashing.progress import followed

    _to_write(out, ".safetensors")
    make_hasher(method, n_bits=bits, random_state=seed).check_parameters()
    loaded = load_dataset(dataset, _settings().data_dir)
    if mirror is not None:
        loaded = loaded.mirrored_as(mirror)
    params = loaded.parameters(method)
    hasher = make_hasher(method, n_bits=bits, random_state=seed, **params)
    with bar(1) as progress, followed(progress):
        progress(0, 1, f"{method} learns from {len(loaded):,} descriptors")
        hasher.fit(loaded.descriptors, loaded.labels)
    hasher.save(out)
    typer.echo(f"{out}: {hasher.fingerprint}")


@cli.command()
def encode(
    encoder: Annotated[Path, typer.Argument(help="An encoder that `bitcell train` wrote.")],
    descriptors: Annotated[Path, typer.Argument(help="An .npy of shape (n, d).")],
    out: Annotated[Path, typer.Option(help="The .npy to write: packed codes, uint8.")],
) -> None:
    """Encode descriptors into packed codes."""
    import numpy as np

    from app.http import npy
    from hashing import load_hasher
    from hashing.atomic_file import atomic_write

    _to_write(out, ".npy")
    hasher = load_hasher(encoder)
    try:
        (matrix,) = npy.read_arrays(descriptors.read_bytes(), npy.DESCRIPTORS)
        codes = hasher.encode(matrix)
    except ValueError as error:
        raise ValueError(f"{descriptors}: {error}") from None
    with atomic_write(out) as file:
        np.save(file, codes)
    typer.echo(f"{out}: {len(codes)} codes of {codes.shape[1]} bytes")


@cli.command()
def benchmark(
    dataset: DatasetOption,
    methods: Annotated[str, typer.Option(help="Comma-separated; `raw` is Euclidean.")],
    bits: Annotated[str, typer.Option(help="Comma-separated code lengths.")] = "12,24,48",
    seed: SeedOption = 0,
    seeds: Annotated[
        str | None, typer.Option(help="Comma-separated, in place of --seed: mean and spread.")
    ] = None,
    protocol: Annotated[
        str, typer.Option(help="`retrieval-59k` or `unseen-classes`.")
    ] = "retrieval-59k",
    queries: Annotated[int, typer.Option(help="Queries of each class.")] = 100,
    labels: Annotated[int, typer.Option(help="Labels of each class in the database.")] = 200,
    mirror: MirrorOption = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the result here.")] = None,
    report: Annotated[
        Path | None, typer.Option(help="Write a page with plots and pictures here, an .html.")
    ] = None,
) -> None:
    """Measure methods at code lengths: precision, recall, times."""
    from app.benchmark.measure import rows
    from app.benchmark.splits import Protocol
    from app.cli.benchmark_output import run_with_progress, show
    from app.datasets.formats import load_dataset
    from hashing.atomic_file import atomic_write

    table = rows(_split(methods), _integers("--bits", bits))
    asked = Protocol(protocol, queries, labels)
    chosen = [seed] if seeds is None else _integers("--seeds", seeds)
    if json_file is not None:
        _to_write(json_file, ".json")
    if report is not None:
        _to_write(report, ".html")
    loaded = load_dataset(dataset, _settings().data_dir, images=report is not None)
    if mirror is not None:
        loaded = loaded.mirrored_as(mirror)
    result = run_with_progress(loaded, table, asked, chosen)
    show(result)
    if json_file is not None:
        with atomic_write(json_file) as file:
            file.write((json.dumps(result, indent=2) + "\n").encode())
    if report is not None:
        from app.benchmark.report.render import render

        with atomic_write(report) as file:
            file.write(render(result, loaded).encode())


def main() -> None:
    """Run the command; what the user can mend is one line on stderr and exit status 2."""
    # Loaded here because every command may meet these, and `bitcell --help` should be quick.
    try:
        cli()
    except (ValueError, OSError) as error:
        typer.secho(f"bitcell: {error}", fg="red", err=True)
        sys.exit(2)


def _settings(**changes: Any) -> Settings:
    from pydantic import ValidationError

    from app.service.settings import PREFIX, Settings, known_variables, unknown_variables

    given = {name: value for name, value in changes.items() if value is not None}
    try:
        settings = Settings(**given)
    except ValidationError as error:
        found = error.errors()[0]
        field = str(found["loc"][0])
        name = f"--{field}" if field in given else PREFIX + field.upper()
        raise ValueError(f"{name}: {found['msg']}; got {found['input']!r}") from None
    if unknown := unknown_variables():
        names = ", ".join(known_variables())
        raise ValueError(f"{', '.join(unknown)}: there is no such setting; there are {names}")
    return settings


def _keys() -> Keys:
    from app.service.keys import Keys

    return Keys(_settings().data_dir)


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _integers(option: str, text: str) -> list[int]:
    try:
        return [int(part) for part in _split(text)]
    except ValueError:
        raise ValueError(f"{option} takes whole numbers, got {text!r}") from None


def _to_write(path: Path, suffix: str) -> Path:
    """The path, checked before the work rather than after it."""
    if path.suffix != suffix:
        raise ValueError(f"expected a file name that ends in {suffix}, got {path}")
    if not path.parent.is_dir():
        raise ValueError(f"there is no folder {path.parent}")
    return path
