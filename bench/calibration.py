"""Coverage of calibrated angles, and false matches of the radius for a rate, on held-out queries.

    python -m bench.calibration descriptors.npz lsh ksh net-2

The file has the arrays `descriptors` and `labels`. A third of the rows trains the encoders, most of
the others are the items of a collection, and the rest are queries that neither has seen.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.database.embedded import EmbeddedState
from app.service.encoder_store import EncoderStore
from app.service.measured.calibrations import Asked, Calibrations
from bitcodes import hamming
from hashing import Hasher, make_hasher
from hashing.theory.samples import angles_between, unit
from index import Collection, Database, Store

N_BITS, RATE = 64, 1e-3
PARAMETERS: dict[str, dict[str, Any]] = {
    "ksh": {"n_anchors": 300},
    "net-2": {"teacher_steps": 300, "steps": 300},
}
LABELS_PER_CLASS = 100
_NEAREST = 10
_BLOCK = 100


def fitted(
    method: str, X: NDArray[np.float32], y: NDArray[np.int64], n_bits: int = N_BITS
) -> Hasher:
    """Return a hasher that has learned from rows of which some have labels."""
    labels = np.full(len(y), -1)
    for label in np.unique(y):
        labels[np.flatnonzero(y == label)[:LABELS_PER_CLASS]] = label
    hasher = make_hasher(method, n_bits=n_bits, **PARAMETERS.get(method, {}))
    if method == "ksh":  # It learns from labelled rows only.
        X, labels = X[labels >= 0], labels[labels >= 0]
    return hasher.fit(X, labels)


def measure(
    hasher: Hasher,
    items: NDArray[np.float32],
    labels: NDArray[np.int64],
    queries: NDArray[np.float32],
    query_labels: NDArray[np.int64],
    rate: float = RATE,
    keep: bool = True,
) -> dict[str, float]:
    """Return the coverage over random pairs and over nearest neighbours, and the false matches.

    Parameters
    ----------
    hasher : Hasher
    items, labels
        The collection.
    queries, query_labels
        They form the pairs with the items that are measured.
    rate : float
        Of false matches.
    keep : bool
        Whether the collection keeps descriptors.
    """
    with TemporaryDirectory() as folder:
        database = Database(Path(folder) / "c.db")
        store, encoders = Store(database), EncoderStore(EmbeddedState(database))
        try:
            encoders.add("e", hasher)
            collection = store.create(
                "c",
                hasher.n_bits,
                encoder="e",
                fingerprint=hasher.fingerprint,
                keep_descriptors=keep,
            )
            _fill(collection, hasher, items, labels)
            asked = Asked(calibrated=True, false_match_rate=rate)
            meaning = Calibrations(encoders).meaning(collection, asked, lambda: None)
        finally:
            store.close()
            database.close()
    angles, matches = meaning
    assert angles is not None
    assert matches is not None
    low, high, radius = angles.calibration.low, angles.calibration.high, matches.found.radius
    mean = items.mean(axis=0, dtype=np.float64)
    U, V = unit(items - mean), unit(queries - mean)
    codes, rng = hasher.encode(items), np.random.default_rng(1)
    inside: list[NDArray[np.bool_]] = []
    inside_nearest: list[NDArray[np.bool_]] = []
    false = unrelated = 0
    for start in range(0, len(queries), _BLOCK):
        part = slice(start, start + _BLOCK)
        distances = hamming(hasher.encode(queries[part]), codes).astype(np.int64)
        differ = query_labels[part, None] != labels[None]
        false += int((differ & (distances <= radius)).sum())
        unrelated += int(differ.sum())
        n = len(distances)
        nearest = np.argsort(distances, axis=1, kind="stable")[:, :_NEAREST]
        for chosen, into in (
            (rng.integers(len(items), size=(n, 100)), inside),
            (nearest, inside_nearest),
        ):
            row = np.repeat(np.arange(n), chosen.shape[1])
            d = distances[row, chosen.ravel()]
            angle = angles_between(V[part][row], U[chosen.ravel()])
            into.append((low[d] <= angle) & (angle <= high[d]))
    return {
        "covered": float(np.concatenate(inside).mean()),
        "covered_of_nearest": float(np.concatenate(inside_nearest).mean()),
        "false_matches": false / unrelated,
        "bound": matches.found.bound,
        "radius": radius,
        "pairs_of_angles": angles.calibration.n_pairs,
        "pairs_of_radius": matches.found.n_pairs,
    }


def _fill(
    collection: Collection, hasher: Hasher, X: NDArray[np.float32], y: NDArray[np.int64]
) -> None:
    for start in range(0, len(X), 10_000):
        part = slice(start, start + 10_000)
        ids = range(start, start + len(X[part]))
        kept = X[part] if collection.keep_descriptors else None
        collection.upsert(ids, hasher.encode(X[part]), y[part], descriptors=kept)


def main(file: str, *methods: str) -> None:
    """Print the figures of some methods on a file of descriptors."""
    with np.load(file) as arrays:
        X, y = arrays["descriptors"].astype(np.float32), arrays["labels"].astype(np.int64)
    order = np.random.default_rng(0).permutation(len(X))
    learn, rest = order[: len(X) // 3], order[len(X) // 3 :]
    queries, items = rest[:2000], rest[2000:]
    for method in methods:
        hasher = fitted(method, X[learn], y[learn])
        for keep in (True, False) if method == "lsh" else (True,):
            found = measure(hasher, X[items], y[items], X[queries], y[queries], keep=keep)
            figures = ", ".join(f"{name} {value:.4g}" for name, value in found.items())
            print(f"{method}{'' if keep else ', by the law'}: {figures}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
