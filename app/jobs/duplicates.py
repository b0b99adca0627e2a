"""Finding near-duplicates as a job. Its process loads neither the index nor FastAPI."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.jobs.group_file import pack
from app.jobs.kind import Outcome, Progress, Task
from bitcodes import Codes, to_words
from bitcodes.near_groups import Groups, near_groups

KIND = "duplicates"
MAX_PAIRS = 10_000_000
"""Largest number of pairs that a job can be asked for."""
MAX_OUTPUT = 256 << 20
"""Largest size of the groups in bytes. The service holds them in memory until they are written."""

_CODES, _IDS, _LENGTHS = "codes.bin", "ids.bin", "lengths.bin"
_STEPS = 1000
_SECONDS_BETWEEN_REPORTS = 0.1
# What the result of the job says of the largest groups.
_LARGEST_GROUPS = 50
_IDS_OF_A_GROUP = 12


def write_codes(
    batches: Iterable[tuple[list[str], Codes]], size: int, folder: Path, progress: Progress
) -> None:
    """Write the ids and codes of items for `work`.

    Parameters
    ----------
    batches : iterable of (ids, codes)
    size : int
        Number of items, for `progress`.
    folder : Path
    progress : callable
        Called before each batch; if it raises, the writing ends.
    """
    written = 0
    with ExitStack() as stack:
        names = (_CODES, _IDS, _LENGTHS)
        files = [stack.enter_context((folder / name).open("wb")) for name in names]
        for ids, codes in batches:
            progress(written, max(size, 1), f"copying the codes: {written:,} of {size:,} items")
            encoded = [one.encode() for one in ids]
            lengths = np.array([*map(len, encoded)], np.uint16)
            parts = codes.tobytes(), b"".join(encoded), lengths.tobytes()
            for file, part in zip(files, parts, strict=True):
                file.write(part)
            written += len(ids)


class _Items:
    """The items that `write_codes` wrote."""

    def __init__(self, folder: Path) -> None:
        lengths = np.fromfile(folder / _LENGTHS, np.uint16)
        self._ends = np.cumsum(lengths, dtype=np.int64)
        self._starts = self._ends - lengths
        self._text = (folder / _IDS).read_bytes()
        codes = np.fromfile(folder / _CODES, np.uint8)
        size = len(codes) // len(lengths) if len(lengths) else 8
        self.words = to_words(codes.reshape(len(lengths), size))

    def ids(self, rows: NDArray[np.int64]) -> list[bytes]:
        """Return the ids of rows, in UTF-8."""
        spans = zip(self._starts[rows].tolist(), self._ends[rows].tolist(), strict=True)
        return [self._text[start:end] for start, end in spans]

    def sort(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return rows in the order of their ids."""
        ids = self.ids(rows)
        return rows[np.array(sorted(range(len(ids)), key=ids.__getitem__), np.int64)]


def work(task: Task, progress: Progress) -> Outcome:
    """Find all groups of near-duplicates; return a summary, with the groups as the output."""
    request = task.request
    progress(0, _STEPS, "reading the codes")
    items = _Items(task.folder)
    n = len(items.words)
    last_report = 0.0

    def report(share: float) -> None:
        nonlocal last_report
        if time.monotonic() - last_report > _SECONDS_BETWEEN_REPORTS:
            last_report = time.monotonic()
            progress(int(share * _STEPS), _STEPS, f"comparing {n:,} codes")

    groups = near_groups(items.words, request["radius"], request["max_pairs"], items.sort, report)
    progress(_STEPS, _STEPS, "writing")
    ids = items.ids(groups.rows)
    output = pack(ids, groups)
    if len(output) > MAX_OUTPUT:
        raise ValueError(
            f"the groups take {len(output):,} bytes, and at most {MAX_OUTPUT:,} are kept: take a "
            "smaller radius, or a filter"
        )
    return Outcome(_summary(request, n, ids, groups), output)


def _summary(request: dict[str, Any], n: int, ids: list[bytes], groups: Groups) -> dict[str, Any]:
    ends = np.cumsum(groups.sizes).tolist()
    pair_ends = np.searchsorted(groups.pairs[:, 0], ends).tolist()
    largest, start, first_pair = [], 0, 0
    for end, last_pair in list(zip(ends, pair_ends, strict=True))[:_LARGEST_GROUPS]:
        distances = groups.distances[first_pair:last_pair]
        largest.append(
            {
                "items": end - start,
                "pairs": last_pair - first_pair,
                "farthest": int(distances.max()) if len(distances) else None,
                "ids": [one.decode() for one in ids[start : min(end, start + _IDS_OF_A_GROUP)]],
            }
        )
        start, first_pair = end, last_pair
    return {
        "collection": request["collection"],
        "radius": request["radius"],
        "items": n,
        "groups": len(groups.sizes),
        "grouped": len(ids),
        "pairs": len(groups.pairs),
        "truncated": groups.truncated,
        "largest": largest,
    }
