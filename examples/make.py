"""Write seven.json: a query for the demo with a digit that is not in it.

The digit is the demo's digit-0007, blurred by half a pixel and described with GIST.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from app.datasets.digits import read_digits
from hashing.gist import Gist


def query() -> dict[str, object]:
    """Return the body of the query."""
    images, _ = read_digits()
    image = images[7].astype(float)
    blurred = (image + np.roll(image, 1, axis=0)) / 2
    descriptor = Gist().transform(blurred[None])[0]
    return {
        "descriptors": [[round(float(value), 4) for value in descriptor]],
        "k": 5,
        "payloads": False,
    }


if __name__ == "__main__":
    path = Path(__file__).with_name("seven.json")
    path.write_text(json.dumps(query()) + "\n")
