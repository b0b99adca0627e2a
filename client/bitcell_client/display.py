"""How answers are shown: a short repr, and tables of pandas."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from dataclasses import fields
from types import NoneType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pandas import DataFrame


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


class Items(Result):
    """A page of items."""

    __slots__ = ()
    items: list[Any]
    of: int

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.items)} items of {self.of})"

    def to_pandas(self) -> DataFrame:
        """Return a table with a row for each item."""
        return _table([values_of(item) for item in self.items], ["id", "code"])


class Neighbours(Result):
    """The neighbours of queries."""

    __slots__ = ()
    results: list[list[Any]]

    def __repr__(self) -> str:
        n = sum(map(len, self.results))
        return f"{type(self).__name__}({len(self.results)} queries, {n} neighbours)"

    def to_pandas(self) -> DataFrame:
        """Return a table with a row for each neighbour; `query` is the row of its query."""
        rows = [
            {"query": query} | values_of(neighbour)
            for query, neighbours in enumerate(self.results)
            for neighbour in neighbours
        ]
        return _table(rows, ["query", "id", "distance"])


class Benchmark(Result):
    """A job, which may be a benchmark."""

    __slots__ = ()
    kind: str
    state: Any
    result: dict[str, Any] | None

    def to_pandas(self) -> DataFrame:
        """Return the table of a benchmark that is done; ValueError for any other job."""
        if self.kind != "benchmark" or self.result is None:
            raise ValueError(
                f"only a benchmark that is done has a table; this is a {self.kind}, {self.state}"
            )
        return _table(self.result["results"], ["method", "n_bits"])


def values_of(result: Any) -> dict[str, Any]:
    """Return the fields of an answer, in their order."""
    return {field.name: getattr(result, field.name) for field in fields(result)}


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
        # Pandas would turn a column of integers and None into floats, which do not hold all labels.
        are_integers = set(map(type, values)) == {int, NoneType}
        columns[name] = pd.array(values, "Int64") if are_integers else values
    return pd.DataFrame(columns)
