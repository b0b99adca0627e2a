"""`bitcell data` and `bitcell gist`: datasets that are fetched, or made from image files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.cli.options import check_output, load_settings

data = typer.Typer(help="Fetch datasets.", no_args_is_help=True)


@data.command()
def cifar10(
    archive: Annotated[
        Path | None,
        typer.Option(help="A downloaded cifar-10-binary.tar.gz to read instead of fetching it."),
    ] = None,
) -> None:
    """Make the dataset `cifar10`: fetch the images and describe them with GIST.

    Features of colour and texture are added, from which nets learn (`privileged`). If it is
    interrupted, the next run resumes.
    """
    from app.datasets.cifar10 import fetch
    from app.service.data_dir import open_private

    data_dir = load_settings().data_dir
    open_private(data_dir)
    path = fetch(data_dir, archive)
    typer.echo(f"{path}: bitcell benchmark --dataset cifar10 --methods raw,lsh")


def gist(
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    out: Annotated[Path, typer.Option(help="The .npz file to write.")],
) -> None:
    """Describe images with GIST and write a dataset.

    Ids are the paths of the files; labels are -1 (none).
    """
    import numpy as np

    from app.cli.progress import progress_bar
    from app.service.images import describe_file, gist
    from hashing.atomic_file import atomic_write

    check_output(out, ".npz")
    descriptors = np.empty((len(images), gist().dimension), np.float32)
    # Not `rich.progress.track`: after an error its bar ends when the generator is collected.
    with progress_bar(len(images)) as update:
        for done, path in enumerate(images):
            update(done, len(images), "describing")
            descriptors[done] = describe_file(path)
    with atomic_write(out) as file:
        np.savez(
            file,
            descriptors=descriptors,
            labels=np.full(len(images), -1),
            ids=np.array([str(path) for path in images]),
            mirror=gist().mirror,
        )
    typer.echo(f"{out}: {len(images)} descriptors of dimension {gist().dimension}")
