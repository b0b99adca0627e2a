"""What Milvus does for `Physical`, in memory: tests decide what happens between its calls."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from index.milvus.server.columns import Columns, chosen, joined, read_columns
from index.milvus.server.physical import At, Physical
from index.milvus.upkeep import Upkeep

_METHODS = ("exists", "create", "drop", "is_exact", "flush", "upsert", "delete", "query", "count")


class InMemory:
    """Collections by their names in Milvus, each with its items by id.

    Attributes
    ----------
    before : dict of str to list of callables
        Called once each, the first first, before the next calls of a method of `Physical`.
    """

    def __init__(self) -> None:
        self.collections: dict[str, dict[str, Columns]] = {}
        self.before: dict[str, list[Callable[[], object]]] = {}
        self._flushed: dict[str, dict[str, Columns]] = {}
        self._time = 0

    def take_the_place(self, patched: pytest.MonkeyPatch) -> None:
        """Let `Physical` call this, and nothing happen in the background."""
        for name in _METHODS:
            patched.setattr(Physical, name, self._method(name))
        patched.setattr(Upkeep, "wake", lambda upkeep: None)

    def _method(self, name: str) -> Callable[..., Any]:
        work = getattr(self, f"_{name}")

        def method(physical: Physical, *of: Any, **more: Any) -> Any:
            if hooks := self.before.get(name):
                hooks.pop(0)()
            return work(physical, *of, **more)

        return method

    def lose(self) -> None:
        """Lose what is not flushed, as a crash may."""
        self.collections = {name: dict(self._flushed.get(name, {})) for name in self.collections}

    def _exists(self, physical: Physical) -> bool:
        return physical.name in self.collections

    def _create(self, physical: Physical, *, keeps_descriptors: bool) -> None:
        self.collections[physical.name] = {}

    def _drop(self, physical: Physical) -> None:
        self.collections.pop(physical.name, None)

    def _is_exact(self, physical: Physical) -> bool:
        return True

    def _flush(self, physical: Physical, timeout: float) -> None:
        self._flushed[physical.name] = dict(self.collections[physical.name])

    def _upsert(self, physical: Physical, request: Any) -> int:
        columns = read_columns(request.fields_data, physical._n_bits)
        items = self.collections[physical.name]
        for place, item_id in enumerate(columns.ids):
            items[item_id] = chosen(columns, [place])
        return self._now()

    def _delete(self, physical: Physical, ids: Sequence[str]) -> int:
        for item_id in ids:
            self.collections[physical.name].pop(item_id, None)
        return self._now()

    def _now(self) -> int:
        self._time += 1
        return self._time

    def _query(
        self,
        physical: Physical,
        where: str,
        fields: Sequence[str],
        at: At,
        limit: int | None = None,
    ) -> Columns:
        return joined([*self._matching(physical, where)][:limit], physical._n_bits)

    def _count(self, physical: Physical, where: str, at: At) -> int:
        return sum(1 for _ in self._matching(physical, where))

    def _matching(self, physical: Physical, where: str) -> Iterator[Columns]:
        conditions = [each.strip("()").split(" ", 2) for each in where.split(" and ") if each]
        for item in self.collections[physical.name].values():
            if all(_meets(item, *condition) for condition in conditions):
                yield item


def _meets(item: Columns, field: str, operator: str, text: str) -> bool:
    columns: dict[str, Any] = {"id": item.ids, "serial": item.serials, "label": item.labels}
    value = columns[field][0]
    other = json.loads(text)
    if operator == "in":
        return value in other
    return bool({">=": np.greater_equal, "<": np.less}[operator](value, other))
