"""From rows to results: pages of answers, with ids, labels and payloads of the items."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from bitcodes import Codes
from index.callbacks import Count
from index.memory.batch import NO_LABEL
from index.search.items import Items
from index.types import Answer, Found, Neighbour, SearchOptions

# Neighbours that are described at once, which bounds how far a result exceeds its limit.
_BLOCK = 10_000
# Bytes of an item, or of a certificate, in JSON: names of fields, label, distance and score.
_FIELDS = 64


def as_found(
    items: Items,
    answers: list[Answer],
    scores: list[NDArray[np.float64]] | None,
    codes: Codes,
    options: SearchOptions,
    count: Count,
) -> list[Found]:
    """Return a page of each answer; `codes` are those of the queries."""
    found: list[Found] = []
    for first, last in _blocks(answers, options.page):
        block = answers[first:last]
        rows = np.concatenate([answer.rows[options.page] for answer in block])
        hexadecimal = 2 * codes.shape[1] * options.codes
        count(_FIELDS * len(block) + hexadecimal * (len(block) + len(rows)))
        described = describe(items, rows, count, payloads=options.payloads)
        row_codes = iter(items.codes(rows)) if options.codes else None
        for place, answer in enumerate(block, first):
            distances = answer.distances[options.page].tolist()
            score = [None] * len(distances)
            if scores is not None:
                score = scores[place][options.page].tolist()
            neighbours = [
                Neighbour(
                    item_id,
                    distance,
                    label,
                    payload,
                    s,
                    None if row_codes is None else next(row_codes).tobytes(),
                )
                for distance, s, (item_id, label, payload) in zip(
                    distances, score, described, strict=False
                )
            ]
            code = codes[place].tobytes() if options.codes else None
            found.append(Found(neighbours, answer.certificate, code))
    return found


def _blocks(answers: list[Answer], page: slice) -> Iterator[tuple[int, int]]:
    """Yield the bounds of runs of answers that together have few neighbours on a page."""
    first = n = 0
    for place, answer in enumerate(answers):
        n += len(answer.rows[page])
        if n > _BLOCK or place == len(answers) - 1:
            yield first, place + 1
            first, n = place + 1, 0


def describe(
    items: Items, rows: NDArray[np.int64], count: Count, *, payloads: bool = True
) -> Iterator[tuple[str, int | None, bytes | None]]:
    """Yield id, label and payload of rows; without payloads, none is read."""
    names = items.names(rows)
    count(_FIELDS * len(names) + len("".join(names).encode()))
    labels = (None if label == NO_LABEL else label for label in items.labels(rows).tolist())
    texts = items.payloads(rows, count) if payloads else [None] * len(rows)
    return zip(names, labels, texts, strict=True)
