"""`bitcell data` and `bitcell gist`: datasets that are fetched, or made from image files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.options import check_output, load_settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

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

    data_dir = load_settings().files_dir
    open_private(data_dir)
    path = fetch(data_dir, archive)
    typer.echo(f"{path}: bitcell benchmark --dataset cifar10 --methods raw,lsh")


def gist(
    images: Annotated[
        list[Path],
        typer.Argument(help="Image files, and folders to search for them.", show_default=False),
    ],
    out: Annotated[Path, typer.Option(help="The .npz file to write.")],
    background: Annotated[
        str, typer.Option(help="The colour behind transparent images: a name or `#rrggbb`.")
    ] = "white",
) -> None:
    """Describe images with GIST and write a dataset.

    Ids are the paths of the files; labels are -1 (none).

    Files that cannot be described are listed and left out: exit status 1.
    """
    import numpy as np

    from app.datasets.image_files import find, item_id
    from app.service.images import gist, suffixes
    from hashing.atomic_file import atomic_write
    from hashing.gist.pixels import opaque_colour

    check_output(out, ".npz")
    try:
        opaque_colour(background)
    except ValueError as error:
        raise ValueError(f"--background: {error}") from None
    failed: list[str] = []

    def unreadable(error: OSError) -> None:
        folder = item_id(Path(error.filename))
        failed.append(f"the folder {folder} cannot be read: {error.strerror}")

    files, others = find(images, suffixes(), unreadable)
    if not files and not failed:
        raise ValueError(f"there are no image files in {', '.join(map(item_id, images))}")
    ids, descriptors, failures = _describe_all(files, background)
    for failure in failed + failures:
        typer.secho(f"bitcell: {failure}", fg="red", err=True)
    if others:
        typer.echo(f"other files in the folders, left out by their names: {others:,}", err=True)
    if not ids:
        raise typer.Exit(2)
    with atomic_write(out) as file:
        np.savez(
            file,
            descriptors=descriptors,
            labels=np.full(len(ids), -1),
            ids=np.array(ids),
            mirror=gist().mirror,
        )
    typer.echo(f"{out}: {len(ids)} descriptors of dimension {gist().dimension}")
    if failed or failures:
        raise typer.Exit(1)


def _describe_all(
    files: list[Path], background: str
) -> tuple[list[str], NDArray[np.float32], list[str]]:
    """Return the ids and descriptors of files, and a message for each that has none."""
    import numpy as np

    from app.cli.progress import progress_bar
    from app.datasets.image_files import LONGEST_ID, item_id
    from app.service.images import describe_file, gist

    descriptors = np.empty((len(files), gist().dimension), np.float32)
    ids: dict[str, None] = {}  # a set that keeps its order
    failures = []
    # Not `rich.progress.track`: after an error its bar ends when the generator is collected.
    with progress_bar(len(files)) as update:
        for done, path in enumerate(files):
            update(done, len(files), "describing")
            name = item_id(path)
            if name in ids:  # Two paths with one id are of the same file.
                continue
            if len(name) > LONGEST_ID:
                failures.append(f"{name} is too long for an id, of at most {LONGEST_ID} characters")
                continue
            try:
                descriptors[len(ids)] = describe_file(path, background)
                ids[name] = None
            except ValueError as error:
                failures.append(f"{name} cannot be read as an image: {error}")
    return list(ids), descriptors[: len(ids)], failures
