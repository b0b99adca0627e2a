"""Figures from the literature, to compare with measured ones."""

from __future__ import annotations

from typing import Any

from app.benchmark.rows import RAW
from app.benchmark.splits import RETRIEVAL

SOURCE = (
    "A. M. Bronstein, “Deep Neural Networks: A Universal Classification Strategy?”, 2016: "
    "all 60,000 items of CIFAR-10, GIST descriptors of dimension 384"
)

# mAP in %, by method and code length; `raw` has no code length.
CIFAR10: dict[str, dict[int | None, float]] = {
    RAW: {None: 19.16},
    "diffhash": {12: 14.72, 24: 13.35, 48: 12.85},
    "ssh": {12: 15.42, 24: 16.75, 48: 17.06},
    "agh": {12: 15.46, 24: 15.29, 48: 15.15},
    "ksh": {12: 25.79, 24: 29.01, 48: 30.84},
    "siamese-1": {12: 31.48, 24: 35.41, 48: 36.79},
    "siamese-2": {12: 45.42, 24: 49.88, 48: 50.46},
}


def published(result: dict[str, Any]) -> dict[str, dict[int | None, float]]:
    """Return the published mAP in %, by method and code length, comparable with a result.

    Empty unless the result is for GIST of CIFAR-10 under its usual protocol: the figures cannot
    be compared with others.
    """
    dataset = result["dataset"]
    comparable = (
        dataset["name"].startswith("cifar10")
        and (dataset["classes"], dataset["dimension"]) == (10, 384)
        and result["protocol"]["name"] == RETRIEVAL
    )
    return CIFAR10 if comparable else {}
