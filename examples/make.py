"""Make seven.json: a query of the demo for a digit that is not in it.

It is the demo's digit-0007 smudged by half a pixel, described with GIST.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from app.datasets.digits import read_digits
from hashing.gist import Gist


def query() -> dict[str, object]:
    """The body of the query."""
    image = read_digits()[0][7].astype(float)
    smudged = (image + np.roll(image, 1, axis=0)) / 2
    descriptor = Gist().transform(smudged[None])[0]
    return {
        "descriptors": [[round(float(value), 4) for value in descriptor]],
        "k": 5,
        "payloads": False,
    }


if __name__ == "__main__":
    path = Path(__file__).with_name("seven.json")
    path.write_text(json.dumps(query()) + "\n")
