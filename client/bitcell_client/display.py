"""How answers are shown: a short repr, and tables of pandas."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from dataclasses import fields
from types import NoneType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

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


def table(rows: list[dict[str, Any]], always: Sequence[str]) -> pd.DataFrame:
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
