"""The rows of a result: means over seeds, their intervals, and differences between methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.benchmark.averages import confidence_interval, mean
from app.benchmark.measure import Figures, Measured
from app.benchmark.rows import Row

Classes = Sequence[NDArray[np.int64]]


def result_rows(
    rows: Sequence[Row],
    measured: Mapping[Row, list[Measured]],
    errors: Mapping[Row, str],
    classes: Classes,
    reference: str | None,
) -> list[dict[str, Any]]:
    """Return the results of a benchmark, one per row.

    Parameters
    ----------
    rows : sequence of Row
    measured : mapping
        The figures of each row without an error, one per seed; fewer, of the first seeds, if the
        benchmark was interrupted.
    errors : mapping
        Why the other rows could not be measured.
    classes : sequence of (q,) int
        The classes of the queries of each seed.
    reference : str, optional
        The method that the others are compared with; without it the best of each code length.
    """
    maps = {row: _maps(measured[row]) for row in rows if row not in errors}
    references = {row: _reference(row, maps, reference) for row in maps}
    return [
        {"method": row.method, "n_bits": row.n_bits}
        | (
            {"error": errors[row]}
            if row in errors
            else _figures(measured[row], classes)
            | {"difference": _difference(row, references[row], measured, classes)}
        )
        for row in rows
    ]


def _maps(measured: Sequence[Measured]) -> list[float]:
    return [mean(one.precisions) for one in measured]


def _figures(measured: list[Measured], classes: Classes) -> dict[str, Any]:
    precisions = [one.precisions for one in measured]
    missing = int(sum(np.count_nonzero(np.isnan(one)) for one in precisions))
    maps = _maps(measured)
    low, high = confidence_interval(precisions, classes[: len(measured)])
    return {
        "map": float(np.mean(maps)),
        "map_spread": float(np.std(maps, ddof=1)) if len(maps) > 1 else None,
        "map_interval": [max(0.0, low), min(1.0, high)],
        "maps": maps,
        "queries": sum(map(len, precisions)) - missing,
        "queries_without_relevant": missing,
        **_means([one.figures for one in measured]),
        "curve": _mean_curve([one.curve for one in measured]),
        "radius_curve": _mean_curve([one.radius_curve for one in measured]),
        "tuned": [one.tuned for one in measured] if any(one.tuned for one in measured) else None,
    }


def _means(figures: list[Figures]) -> Figures:
    """Return the mean of each figure over seeds; one that does not apply is None for every seed."""
    return {
        name: None if value is None else float(np.mean([one[name] or 0.0 for one in figures]))
        for name, value in figures[0].items()
    }


def _mean_curve(curves: list[Any]) -> list[Any] | None:
    return None if curves[0] is None else np.mean(curves, axis=0).round(6).tolist()


def _reference(row: Row, maps: Mapping[Row, list[float]], method: str | None) -> Row | None:
    """Return the row to compare with: of the same code length, or of a method without codes."""
    if method is None:
        rivals = [each for each in maps if each.n_bits is not None and each.n_bits == row.n_bits]
        return max(rivals, key=lambda each: np.mean(maps[each]), default=None)
    chosen = (each for each in maps if each.method == method and each.n_bits in (None, row.n_bits))
    return next(chosen, None)


def _difference(
    row: Row,
    reference: Row | None,
    measured: Mapping[Row, list[Measured]],
    classes: Classes,
) -> dict[str, Any] | None:
    """Return the mAP of a row less that of another, paired by the seeds and queries of both."""
    if reference is None or reference == row:
        return None
    differences = [
        own.precisions - other.precisions
        for own, other in zip(measured[row], measured[reference], strict=False)
    ]
    low, high = confidence_interval(differences, classes[: len(differences)])
    return {
        "reference": reference.method,
        "mean": float(np.mean([mean(each) for each in differences])),
        "interval": [max(-1.0, low), min(1.0, high)],
    }


def interval_note(n_seeds: int) -> str:
    """Return what the intervals of a result cover."""
    if n_seeds == 1:
        return (
            "Intervals rest on one seed. They cover further queries of the same codes, but no "
            "other split, labels or random state: these can change figures by more. Use several "
            "seeds to compare methods."
        )
    return (
        f"Intervals rest on {n_seeds} seeds. They cover the mean over all seeds on this dataset: "
        "other queries, labels and random states. Two or three seeds give wide intervals."
    )


def tuning_note(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """Return which parameters were chosen, if any were."""
    chosen = [
        f"{row['method']}, {row['n_bits']} bits: {'; '.join(map(_in_words, row['tuned']))}"
        for row in rows
        if row.get("tuned")
    ]
    if not chosen:
        return None
    return (
        "Parameters chosen for each seed on a quarter of the labels, without the queries: "
        f"{' | '.join(chosen)}."
    )


def _in_words(params: Mapping[str, Any]) -> str:
    return " ".join(f"{name} {value}" for name, value in params.items()) or "defaults"
