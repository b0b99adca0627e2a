"""From rows of a view to results: ids, labels and payloads of the items."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitcodes import Codes
from index.memory.batch import NO_LABEL
from index.memory.view import View
from index.storage.record import Record
from index.types import Answer, Found, Neighbour


def as_found(
    view: View,
    answers: list[Answer],
    scores: list[NDArray[np.float64]] | None,
    page: slice,
    record: Record | None,
) -> list[Found]:
    """Return a page of each answer, with payloads if there is a record to read them from."""
    rows = [answer.rows[page] for answer in answers]
    items = describe(view, np.concatenate([np.empty(0, np.int64), *rows]), record)
    found = []
    for place, (answer, part) in enumerate(zip(answers, rows, strict=True)):
        distances = answer.distances[page].tolist()
        score = [None] * len(part) if scores is None else scores[place][page].tolist()
        neighbours = [
            Neighbour(item_id, distance, label, payload, s)
            for distance, s, (item_id, label, payload) in zip(distances, score, items, strict=False)
        ]
        found.append(Found(neighbours, answer.certificate))
    return found


def with_codes(
    view: View, answers: list[Answer], page: slice, queries: Codes, found: list[Found]
) -> list[Found]:
    """Return the same results with the packed codes of the queries and of their neighbours."""
    coded = []
    for answer, query, one in zip(answers, queries, found, strict=True):
        neighbours = [
            replace(neighbour, code=code.tobytes())
            for neighbour, code in zip(one.neighbours, view.codes(answer.rows[page]), strict=True)
        ]
        coded.append(Found(neighbours, one.certificate, query.tobytes()))
    return coded


def describe(
    view: View, rows: NDArray[np.int64], record: Record | None
) -> Iterator[tuple[str, int | None, dict[str, Any] | None]]:
    """Yield id, label and payload of rows; without a record to read them from, no payloads."""
    labels = (None if label == NO_LABEL else label for label in view.labels(rows).tolist())
    payloads: Iterator[dict[str, Any] | None] = iter([None] * len(rows))
    if record is not None:
        serials = view.serials(rows).tolist()
        texts = record.payloads(set(serials))
        payloads = (json.loads(texts[s]) if s in texts else None for s in serials)
    return zip(view.names(rows), labels, payloads, strict=True)
