"""From rows of a view to what is given out: ids, labels and payloads of the items."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitcodes import Codes
from index.memory.view import View
from index.storage.record import Record
from index.types import Answer, Found, Neighbour


def found(
    view: View,
    answers: list[Answer],
    scores: list[NDArray[np.float64]] | None,
    page: slice,
    record: Record | None,
) -> list[Found]:
    """A page of each answer, with payloads where there is a record to read them from."""
    rows = [answer.rows[page] for answer in answers]
    described = describe(view, np.concatenate([np.empty(0, np.int64), *rows]), record)
    given = []
    for place, (answer, part) in enumerate(zip(answers, rows, strict=True)):
        apart = answer.distances[page].tolist()
        score = [None] * len(part) if scores is None else scores[place][page].tolist()
        near = [
            Neighbour(item_id, d, label, payload, s)
            for d, s, (item_id, label, payload) in zip(apart, score, described, strict=False)
        ]
        given.append(Found(near, answer.certificate))
    return given


def with_codes(
    view: View, answers: list[Answer], page: slice, queries: Codes, given: list[Found]
) -> list[Found]:
    """The same with the packed codes of the queries and of what was found."""
    coded = []
    for answer, query, one in zip(answers, queries, given, strict=True):
        codes = view.codes(answer.rows[page])
        near = [
            replace(neighbour, code=code.tobytes())
            for neighbour, code in zip(one.neighbours, codes, strict=True)
        ]
        coded.append(Found(near, one.certificate, query.tobytes()))
    return coded


def describe(
    view: View, rows: NDArray[np.int64], record: Record | None
) -> Iterator[tuple[str, int | None, dict[str, Any] | None]]:
    """Id, label and payload of rows; no payloads without a record to read them from."""
    labels = (None if label == -1 else label for label in view.labels(rows).tolist())
    payloads: Iterator[dict[str, Any] | None] = iter([None] * len(rows))
    if record is not None:
        serials = view.serials(rows).tolist()
        texts = record.payloads(set(serials))
        payloads = (json.loads(texts[s]) if s in texts else None for s in serials)
    return zip(view.names(rows), labels, payloads, strict=True)
