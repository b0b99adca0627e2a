"""The embedded backend has all that the service uses of an index."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

from index import Collection, Store, backend
from index.memory.moment import Moment


def as_backend(store: Store) -> backend.Store:
    """Return the store as what the service uses; mypy checks that it is one."""
    return store


def members(protocol: Any) -> list[str]:
    names = [name for name in vars(protocol) if not name.startswith("_")]
    return [*names, "__len__"] if hasattr(protocol, "__len__") else names


def check_methods(protocol: Any, of: type, made: Any) -> None:
    """Fail unless an object of a class has the members of a protocol, with the same arguments."""
    assert len(members(protocol)) >= 5
    for name in members(protocol):
        assert hasattr(made, name), name
        method = getattr(protocol, name)
        if not inspect.isfunction(method):
            continue
        wanted = inspect.signature(method).parameters
        found = inspect.signature(getattr(of, name)).parameters
        assert list(found) == list(wanted), name
        for each in wanted:
            assert found[each].kind == wanted[each].kind, (name, each)
            has_default = found[each].default is not inspect.Parameter.empty
            assert has_default == (wanted[each].default is not inspect.Parameter.empty), name


@pytest.mark.parametrize(
    ("protocol", "embedded"),
    [(backend.Collection, Collection), (backend.Store, Store), (backend.Moment, Moment)],
)
def test_methods_take_the_same_arguments(protocol: Any, embedded: Any, store: Store) -> None:
    made: Any = store
    if embedded is not Store:
        made = store.create("c", 8)
        made = made.moment() if embedded is Moment else made
    check_methods(protocol, embedded, made)


def test_what_is_exported_can_be_put_again(store: Store) -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 256, (10, 2), np.uint8)
    factors = rng.random((10, 3)).astype(np.float32)
    old = store.create("old", 16, keep_descriptors="float16", metric="dot")
    payloads = [None, {"é": [1, None]}] * 5
    X = rng.normal(size=(10, 3))
    old.upsert(range(10), codes, [*range(9), None], payloads, X, factors=factors)
    old.delete(["3"])
    copied: backend.Collection
    with as_backend(store).making(
        "new", 16, encoder="", fingerprint="", descriptor_type="float16", metric="dot"
    ) as copied:
        sizes = []
        for batch in old.item_batches(4):
            sizes.append(len(batch.ids))
            copied.put(batch)
        assert [one.name for one in store.list()] == ["old"]
    assert sizes == [4, 4, 1]
    new = store.get("new")

    def all_of(collection: Collection) -> dict[str, Any]:
        (batch,) = collection.item_batches(100)
        columns: Any = batch
        return {
            item_id: (code.tolist(), label, payload, x.tolist(), row.tolist())
            for item_id, code, label, payload, x, row in zip(*columns, strict=True)
        }

    assert all_of(new) == all_of(old)
    assert [new.get("1"), new.get("9")] == [old.get("1"), old.get("9")]


def test_patches_are_recorded_where_they_are_followed(store: Store) -> None:
    collection = store.create("c", 8)
    collection.upsert(["abc", "d", "e"], np.zeros((3, 1), np.uint8))
    collection.patch(["d"], [{"label": 1}])
    assert collection.patches(0) == []
    collection.follow_patches()
    collection.patch(["e", "abc"], [{"label": 1}] * 2)
    collection.patch_one("d", {"label": 2})
    found = [(patch.first, patch.old.tolist()) for patch in collection.patches(0)]
    # The items had the serial numbers 0 to 2, and the first patch gave "d" number 3.
    assert found == [(4, [2, 0]), (6, [3])]
    assert [patch.first for patch in collection.patches(5)] == [6]
    collection.forget_patches(6)
    assert [patch.first for patch in collection.patches(0)] == [6]
    assert store.create("other", 8).patches(0) == []
