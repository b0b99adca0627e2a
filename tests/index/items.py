"""300 items with labels and payloads of every kind, and a collection that keeps descriptors."""

from __future__ import annotations

from typing import Any

import numpy as np

from index import Collection, Store

_rng = np.random.default_rng(0)
CODES = _rng.integers(0, 256, (300, 2), np.uint8)
IDS = [f"{i:03x}" for i in _rng.permutation(300)]
VALUES: list[Any] = [None, True, False, 0, 1, 1.0, 2.5, -3, "", "1", "true", "é", [1], {"b": 1}]


def _payload(i: int) -> dict[str, Any]:
    tags = [VALUES[place] for place in _rng.integers(0, len(VALUES), i % 4)]
    return {
        "a": VALUES[i % 14],
        "n": {"a b": i % 5, "tags": [i % 3, i % 2], 'x."y': i % 3},
        "i": i,
        "tags": i if i % 9 == 0 else tags,
        "x.y": VALUES[i % 12],
        "id": i % 4,
        "label": VALUES[i % 5],
        "and": 1,
    }


PAYLOADS: list[Any] = [None if i % 7 == 0 else _payload(i) for i in range(300)]
LABELS = [None if i % 11 == 0 else i % 6 for i in range(300)]
ITEMS = {i: (label, payload) for i, label, payload in zip(IDS, LABELS, PAYLOADS, strict=True)}


def make_keeping(store: Store) -> tuple[Collection, np.ndarray]:
    """Make a collection `k` whose codes are the signs of its descriptors, (300, 16)."""
    X = np.random.default_rng(1).normal(size=(300, 16)).astype(np.float16)
    collection = store.create("k", 16, encoder="old", keep_descriptors=True)
    collection.upsert(IDS, np.packbits(X > 0, axis=1), LABELS, PAYLOADS, X)
    return collection, X
