"""What may be stored: labels and payloads."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index import Filter, InvalidItems, SearchOptions, Store
from tests.index.conftest import opened

ONE = np.zeros((1, 1), np.uint8)


@pytest.mark.parametrize(
    "label",
    [
        1.7,
        1.0,
        float("nan"),
        True,
        "1",
        b"1",
        -2,
        2**63,
        np.float64(1),
        np.float32(1),
        np.bool_(True),
        np.uint64(2**63),
        np.timedelta64(1, "s"),
        np.datetime64("2026-01-01"),
        datetime.date(2026, 1, 1),
        [1],
        1 + 0j,
    ],
)
def test_what_is_no_integer_is_no_label(label: Any, store: Store) -> None:
    collection = store.create("c", 8)
    columns: list[Any] = [[label], (label,)]
    if not isinstance(label, list):
        columns += [np.array([label]), np.array([label], object)]
    for column in columns:
        with pytest.raises(InvalidItems, match="a label is an integer"):
            collection.upsert(["a"], ONE, column)
    assert len(collection) == 0


@pytest.mark.parametrize(
    "label",
    [0, 7, 2**63 - 1, np.int8(7), np.uint8(255), np.int64(2**63 - 1), np.uint64(2**63 - 1)],
)
def test_every_integer_that_fits_is_a_label(label: Any, store: Store) -> None:
    collection = store.create("c", 8)
    for column in ([label], (label,), np.array([label]), np.array([label], object)):
        collection.upsert(["a"], ONE, column)
        stored = collection.get("a").label
        assert type(stored) is int
        assert stored == int(label)


@pytest.mark.parametrize("label", [None, -1, np.int8(-1)])
def test_none_and_minus_one_are_no_label(label: Any, store: Store) -> None:
    collection = store.create("c", 8)
    collection.upsert(["a"], ONE, [3])
    assert collection.has_labels()
    collection.upsert(["a"], ONE, [label])
    assert collection.get("a").label is None
    assert not collection.has_labels()


LARGE = [2**31, 2**32, 2**53 + 1, 2**63 - 1]


@pytest.mark.parametrize("label", LARGE)
def test_large_labels_are_kept_beside_items_without_one(label: int, tmp_path: Path) -> None:
    """In memory, labels take the smallest type that holds them."""
    with opened(tmp_path / "bitcell.db") as (_, store):
        codes = np.array([[1], [2]], np.uint8)
        store.create("c", 8).upsert(["a", "b"], codes, [None, label])
    with opened(tmp_path / "bitcell.db") as (_, store):
        collection = store.get("c")
        assert [item.label for item in collection.items(0, 9)[0]] == [None, label]
        options = SearchOptions(5, where=Filter({"label": label}))
        found = collection.search(ONE, options)[0].neighbours
        assert [(near.id, near.label) for near in found] == [("b", label)]


@pytest.mark.parametrize("labels", [np.zeros((1, 1), int), np.array(3), np.zeros(2, int), []])
def test_labels_are_one_an_item(labels: Any, store: Store) -> None:
    with pytest.raises(InvalidItems, match="expected 1 labels"):
        store.create("c", 8).upsert(["a"], ONE, labels)


@pytest.mark.parametrize("letter", ["x", "é", "я", "語", "😀", "\n", '"'])
def test_payloads_are_measured_as_utf_8(letter: str, store: Store) -> None:
    """The limit counts the bytes of compact JSON that is not escaped to ASCII."""
    collection = store.create("c", 8)
    empty = len(b'{"t":""}')
    size = len(json.dumps(letter, ensure_ascii=False).encode()) - 2
    n, rest = divmod((1 << 16) - empty, size)
    text = n * letter + rest * "x"
    collection.upsert(["a"], ONE, None, [{"t": text}])
    assert collection.get("a").payload == {"t": text}
    with pytest.raises(InvalidItems, match="at most 65536 bytes; that of item 0 has 65537"):
        collection.upsert(["a"], ONE, None, [{"t": text + "x"}])


@pytest.mark.parametrize("payload", [{"a": "\ud800"}, {"\udfff": 1}, {"a": [{"b": "x\ud83d"}]}])
def test_lone_surrogates_are_refused(payload: Any, store: Store) -> None:
    collection = store.create("c", 8)
    with pytest.raises(InvalidItems, match="item 1 has text that is no Unicode"):
        collection.upsert(["a", "b"], np.repeat(ONE, 2, axis=0), None, [{}, payload])
    assert len(collection) == 0


def nested(levels: int, kind: str) -> Any:
    """Return an object of that many levels: lists, objects, or both in turn."""
    value: Any = {}
    for level in range(levels - 1, 0, -1):
        as_list = level > 1 and (kind == "lists" or (kind == "both" and level % 2))
        value = [value] if as_list else {"a": value}
    return value


@pytest.mark.parametrize("kind", ["lists", "objects", "both"])
def test_a_payload_has_at_most_100_levels(kind: str, store: Store) -> None:
    collection = store.create("c", 8)
    collection.upsert(["a"], ONE, None, [nested(100, kind)])
    assert collection.get("a").payload == nested(100, kind)
    for levels in (101, 500, 5000):
        with pytest.raises(InvalidItems, match=r"at most 100 levels .* that of item 0 has more"):
            collection.upsert(["b"], ONE, None, [nested(levels, kind)])
    # Lists next to each other are one level, however many there are.
    wide = {"a": [[{}] for _ in range(1000)], "text": "[{" * 1000}
    collection.upsert(["b"], ONE, None, [wide])
    assert collection.get("b").payload == wide


@pytest.mark.parametrize("payload", [[1], "x", 1, True, [("a", 1)]])
def test_a_payload_is_an_object(payload: Any, store: Store) -> None:
    collection = store.create("c", 8)
    with pytest.raises(InvalidItems, match="a payload is a JSON object; that of item 0 is"):
        collection.upsert(["a"], ONE, None, [payload])
    assert len(collection) == 0


@pytest.mark.parametrize("n_bits", [0, -1, (1 << 16) + 1, 10**12, 2**64])
def test_a_code_length_that_no_table_can_hold_is_refused(n_bits: int, store: Store) -> None:
    with pytest.raises(InvalidItems, match="n_bits must be from 1 to 65536, got"):
        store.create("c", n_bits)
    assert store.list() == []


def test_escaped_and_plain_payloads_are_filtered_alike(store: Store) -> None:
    """Earlier versions escaped all text that is not ASCII."""
    from bitcodes import to_words

    collection = store.create("c", 8)
    collection.upsert(["new"], ONE, None, [{"ключ": "значение"}])
    escaped = [json.dumps({"ключ": "значение"})]
    collection._state.put(["old"], to_words(ONE), np.array([-1]), escaped, None)
    options = SearchOptions(5, where=Filter({"ключ": "значение"}))
    found = collection.search(ONE, options)[0].neighbours
    assert [(n.id, n.payload) for n in found] == [
        ("new", {"ключ": "значение"}),
        ("old", {"ключ": "значение"}),
    ]
