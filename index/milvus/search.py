"""The nearest items of codes, with ties in the order of ids, from what Milvus finds.

Milvus returns any of the items at equal distances. A search therefore asks for some more than are
wanted. Where even the last of these is as far away as the last that is wanted, a second call asks
for all items up to this distance; and where they are more than Milvus returns, the smallest ids
among those at this distance are found by narrowing the range of ids.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bitcodes import Codes
from index.callbacks import Checkpoint
from index.errors import Unavailable
from index.milvus.server.columns import LABEL, SERIAL, Columns, chosen, joined, read_columns
from index.milvus.server.connection import TooMuch
from index.milvus.server.physical import REACH, At, Physical, quoted

LIGHT = (LABEL, SERIAL)
"""The fields of every search."""
# What a search asks for beyond what is wanted: as many again, within these limits.
_LEAST_MORE, _MOST_MORE = 64, 256
# Items that a call returns at most, for all of its codes.
_ROWS = 1 << 16
# How often a search is repeated because items were written meanwhile.
TRIES = 10


class Changed(Exception):
    """Items have been written between two calls that belong together: repeat both."""


def too_many_changes() -> Unavailable:
    """Return the error of a read that writes have overtaken again and again."""
    return Unavailable("items are written faster than they can be read: try again later")


class Hits(NamedTuple):
    """The nearest items of a query, by distance and id.

    `tie` is the number of items at the last distance, and `within` that of items within the radius;
    both are None where they are not known.
    """

    columns: Columns
    distances: NDArray[np.int64]
    tie: int | None
    within: int | None = None


class Query(NamedTuple):
    """What is asked for besides codes: `fields` of items that meet an expression.

    The first call sees `at`, and those that follow `again`: they need not wait once more. Items may
    come without the fields that not every search has: then none of them has these.
    """

    depth: int
    radius: int | None
    where: str
    fields: Sequence[str]
    at: At
    again: At
    count_within: bool


def nearest(
    physical: Physical, codes: Codes, n_bits: int, query: Query, checkpoint: Checkpoint
) -> list[Hits]:
    """Return the nearest items of each code; raise Changed where items were written meanwhile."""
    more = min(max(query.depth, _LEAST_MORE), _MOST_MORE)
    limit = min(REACH, query.depth + more)
    reach = None if query.radius is None else min(query.radius, n_bits)
    step = max(1, _ROWS // limit)
    found: list[Hits] = []
    for first in range(0, len(codes), step):
        checkpoint()
        block = codes[first : first + step]
        within = None if reach is None else (0, reach)
        try:
            answer = physical.search(block, limit, query.fields, query.where, query.at, within)
        except TooMuch:
            if query.fields == LIGHT:
                raise
            query = query._replace(fields=LIGHT)
            answer = physical.search(block, limit, query.fields, query.where, query.at, within)
        for code, hits in zip(block, _split(answer, n_bits), strict=True):
            complete = _cut(hits, query.depth, is_all=len(hits.distances) < limit)
            if complete is None:
                checkpoint()
                complete = _ring(physical, code[None], n_bits, query, hits, checkpoint)
            if reach is not None:
                n = _n_within(
                    physical, code[None], query, reach, complete, len(hits.distances), limit
                )
                complete = complete._replace(within=n)
            found.append(complete)
    return found


def _split(answer: Any, n_bits: int) -> Iterator[Hits]:
    """Yield what Milvus found for each code."""
    ids = answer.ids.str_id.data
    columns = read_columns(answer.fields_data, n_bits, ids)
    distances = np.rint(np.array(answer.scores)).astype(np.int64)
    end = 0
    for n in answer.topks:
        start, end = end, end + n
        yield Hits(chosen(columns, range(start, end)), distances[start:end], None)


def _cut(hits: Hits, depth: int, *, is_all: bool) -> Hits | None:
    """Return the nearest; None if there may be more at the distance of the last than were found."""
    distances = hits.distances
    n = min(depth, len(distances))
    if n == 0:
        return hits._replace(tie=0)
    last = distances[n - 1]
    if not is_all and distances[-1] == last:
        return None
    ids = hits.columns.ids
    order = sorted(range(int(np.count_nonzero(distances <= last))), key=ids.__getitem__)
    order.sort(key=distances.__getitem__)
    tie = int(np.count_nonzero(distances == last))
    return Hits(chosen(hits.columns, order[:n]), distances[order[:n]], tie)


def _ring(
    physical: Physical,
    code: Codes,
    n_bits: int,
    query: Query,
    first: Hits,
    checkpoint: Checkpoint,
) -> Hits:
    """Return the nearest of a code whose last distance more items have than were found.

    There may be very many: only the light fields are read.
    """
    query = query._replace(fields=LIGHT)
    depth, last = query.depth, int(first.distances[query.depth - 1])
    (all_near,) = _split(_within(physical, code, query, (0, last)), n_bits)
    if len(all_near.distances) < depth:
        raise Changed
    if len(all_near.distances) < REACH:
        complete = _cut(all_near, depth, is_all=True)
        return complete or all_near
    near = first.distances < last
    nearer = chosen(first.columns, np.flatnonzero(near))
    ring, tie = _smallest_ids(
        physical, code, n_bits, query, last, depth - len(nearer.ids), checkpoint
    )
    if set(ring.ids) & set(nearer.ids):
        raise Changed
    order = sorted(range(len(nearer.ids)), key=nearer.ids.__getitem__)
    order.sort(key=first.distances.__getitem__)
    distances = np.concatenate([first.distances[order], np.full(len(ring.ids), last)])
    return Hits(joined([chosen(nearer, order), ring], n_bits), distances, tie)


def _within(physical: Physical, code: Codes, query: Query, within: tuple[int, int]) -> Any:
    return physical.search(code, REACH, query.fields, query.where, query.again, within)


def _smallest_ids(
    physical: Physical,
    code: Codes,
    n_bits: int,
    query: Query,
    distance: int,
    n: int,
    checkpoint: Checkpoint,
) -> tuple[Columns, int | None]:
    """Return the n items of the smallest ids at a distance, and how many there are if it is known.

    The range of ids is narrowed until Milvus returns all of them.
    """
    parts: list[Columns] = []
    above, below = "", None
    while n > 0:
        checkpoint()
        bounds = [f"id > {quoted(above)}"] * bool(above)
        bounds += [] if below is None else [f"id <= {quoted(below)}"]
        where = " and ".join([*([f"({query.where})"] if query.where else []), *bounds])
        asked = query._replace(where=where)
        (hits,) = _split(_within(physical, code, asked, (distance, distance)), n_bits)
        ids = hits.columns.ids
        order = sorted(range(len(ids)), key=ids.__getitem__)
        if len(ids) >= REACH:
            # The n smallest of all are not larger than the n-th of any of them.
            middle = ids[order[min(n - 1, len(order) // 2)]]
            if middle == below:
                raise Changed
            below = middle
            continue
        parts.append(chosen(hits.columns, order[:n]))
        n -= len(parts[-1].ids)
        if below is None:
            if n > 0:
                raise Changed
            return joined(parts, n_bits), len(ids) if len(parts) == 1 else None
        above, below = below, None
    return joined(parts, n_bits), None


def _n_within(
    physical: Physical,
    code: Codes,
    query: Query,
    reach: int,
    hits: Hits,
    n_first: int,
    limit: int,
) -> int | None:
    """Return how many items are within the radius, as far as a search has to know it."""
    if len(hits.distances) < query.depth:
        return len(hits.distances)
    if not query.count_within:
        return None
    if n_first < limit:
        return n_first
    asked = query._replace(fields=[])
    n = len(_within(physical, code, asked, (0, reach)).scores)
    return n if n < REACH else None
