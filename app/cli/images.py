"""`bitcell gist`: a dataset from image files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.cli.options import check_output


def gist(
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    out: Annotated[Path, typer.Option(help="The .npz file to write.")],
) -> None:
    """Describe images with GIST and write a dataset.

    Ids are the paths of the files; labels are -1 (none).
    """
    from app.service.images import describe_files

    describe_files(images, check_output(out, ".npz"))
