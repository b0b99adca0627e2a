"""Small pictures inside JSON and HTML."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray

_COLOURS = 64


def thumbnail(image: NDArray[np.uint8], side: int | None = None) -> str:
    """An (h, w, 3) uint8 image as the data URI of a PNG; grey where all its pixels are.

    Parameters
    ----------
    image : (h, w, 3) uint8
    side : int, optional
        For a small file: at most this many pixels each way, and at most `_COLOURS` colours.
    """
    # Not at the top: a service that makes no picture should not carry Pillow.
    from PIL import Image

    picture = Image.fromarray(image)
    if (image == image[..., :1]).all():
        picture = picture.convert("L")
    if side is not None:
        picture.thumbnail((side, side))
        if picture.mode == "RGB":
            picture = picture.quantize(_COLOURS, dither=Image.Dither.NONE)
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
