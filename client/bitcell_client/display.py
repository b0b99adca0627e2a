"""How answers are shown: a short repr, and tables of pandas."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from dataclasses import fields
from types import NoneType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pandas import DataFrame

    from bitcell_client.results import Item, Job, Neighbour

_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxtuple, _SHORT.maxdict = 3, 4, 4, 8
_SHORT.maxstring = _SHORT.maxother = 300


class Result:
    """Base class of answers. Their repr cuts long lists, and leaves out what is None."""

    __slots__ = ()

    def __repr__(self) -> str:
        values = values_of(self).items()
        shown = [f"{name}={_SHORT.repr(value)}" for name, value in values if value is not None]
        return f"{type(self).__name__}({', '.join(shown)})"


def values_of(result: Any) -> dict[str, Any]:
    """Return the fields of an answer, in their order."""
    return {field.name: getattr(result, field.name) for field in fields(result)}


def neighbour_table(results: list[list[Neighbour]]) -> DataFrame:
    """Return a table with a row for each neighbour of each query."""
    rows = [
        {"query": query} | values_of(neighbour)
        for query, neighbours in enumerate(results)
        for neighbour in neighbours
    ]
    return _table(rows, ["query", "id", "distance"])


def item_table(items: list[Item]) -> DataFrame:
    """Return a table with a row for each item."""
    return _table([values_of(item) for item in items], ["id", "code"])


def benchmark_table(job: Job) -> DataFrame:
    """Return the table of a benchmark that is done; ValueError for any other job."""
    if job.kind != "benchmark" or job.result is None:
        raise ValueError(
            f"only a benchmark that is done has a table; this is a {job.kind}, {job.state}"
        )
    return _table(job.result["results"], ["method", "n_bits"])


def _table(rows: list[dict[str, Any]], always: Sequence[str]) -> DataFrame:
    """Return rows as a table of the columns in `always` and those that any row has."""
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError("to_pandas needs pandas: run `pip install pandas`") from error
    used = {name: None for row in rows for name, value in row.items() if value is not None}
    columns: dict[str, Any] = {}
    for name in dict.fromkeys([*always, *used]):
        values = [row.get(name) for row in rows]
        # Pandas would turn integers beside None into floats, which do not hold all labels.
        are_integers = set(map(type, values)) == {int, NoneType}
        columns[name] = pd.array(values, "Int64") if are_integers else values
    return pd.DataFrame(columns)
