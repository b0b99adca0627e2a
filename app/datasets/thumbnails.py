"""Small pictures as data URIs, for JSON and HTML."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray

_COLOURS = 64


def thumbnail(image: NDArray[np.uint8], side: int | None = None) -> str:
    """Return an image as the data URI of a PNG, in grey if all its pixels are grey.

    Parameters
    ----------
    image : (h, w, 3) uint8
    side : int, optional
        Shrink the image to at most this many pixels in each direction and to 64 colours. By
        default it is neither shrunk nor quantised.
    """
    # Not at the top: a service that makes no pictures does not need Pillow in memory.
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
