"""Image files to GIST descriptors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import track

from hashing.files import replacing
from hashing.gist import Gist

MAX_PIXELS = 100_000_000


def describe_files(paths: list[Path], out: Path) -> None:
    """Write an `.npz` dataset of the GIST descriptors of image files: labels are -1, ids the paths.

    Raises
    ------
    ValueError
        A file that is no image, or one of more than 100 million pixels; nothing is written.
    """
    gist = Gist()
    console = Console(stderr=True)
    descriptors = [
        gist.transform(_read(path)[None])[0]
        for path in track(paths, "describing", console=console, transient=True)
    ]
    with replacing(out) as file:
        np.savez(
            file,
            descriptors=np.array(descriptors),
            labels=np.full(len(paths), -1),
            ids=np.array([str(path) for path in paths]),
            mirror=gist.mirror,
        )
    Console().print(f"{out}: {len(paths)} descriptors of dimension {gist.dimension}")


def _read(path: Path) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(
                    f"{path} has {image.width} x {image.height} pixels, more than {MAX_PIXELS:,}"
                )
            return np.asarray(image.convert("RGB"))
    except (OSError, Image.DecompressionBombError, SyntaxError) as error:
        raise ValueError(f"{path} cannot be read as an image: {error}") from None
