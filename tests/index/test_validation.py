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


@pytest.mark.parametrize("labels", [[1, np.ma.masked], np.ma.array([1, 2], mask=[False, True])])
def test_a_masked_label_is_not_the_value_under_the_mask(labels: Any, store: Store) -> None:
    collection = store.create("c", 8)
    with pytest.raises(InvalidItems, match="that of item 1 is masked"):
        collection.upsert(["a", "b"], np.repeat(ONE, 2, axis=0), labels)
    collection.upsert(["a", "b"], np.repeat(ONE, 2, axis=0), np.ma.array([1, 2]))
    assert [item.label for item in collection.items(0, 9)[0]] == [1, 2]


@pytest.mark.parametrize("item_id", [7, np.int8(7), np.uint64(7), np.str_("7")])
def test_integers_are_ids_in_decimal(item_id: Any, store: Store) -> None:
    collection = store.create("c", 8, keep_descriptors=True)
    collection.upsert([item_id], ONE, descriptors=np.ones((1, 2)))
    (item,) = collection.items(0, 9)[0]
    assert (type(item.id), item.id) == (str, "7")
    assert collection.get(item_id) == collection.get("7") == item
    assert len(collection.codes([item_id])) == len(collection.descriptors([item_id])) == 1
    collection.patch([item_id], [{"label": 3}])
    assert collection.patch_one(item_id, {"payload": {"n": 1}}).label == 3
    assert collection.delete([item_id]) == 1
    with pytest.raises(InvalidItems, match="distinct; '7' occurs twice"):
        collection.upsert([item_id, "7"], np.repeat(ONE, 2, axis=0), descriptors=np.ones((2, 2)))


@pytest.mark.parametrize(
    "item_id",
    [
        None,
        float("nan"),
        1.0,
        True,
        b"a",
        ("a",),
        np.timedelta64(1, "s"),
        datetime.date(2026, 1, 1),
    ],
)
def test_what_is_no_string_and_no_integer_is_no_id(item_id: Any, store: Store) -> None:
    collection = store.create("c", 8)
    collection.upsert(["a"], ONE)
    calls: list[Any] = [
        lambda: collection.upsert(["b", item_id], np.repeat(ONE, 2, axis=0)),
        lambda: collection.codes(["a", item_id]),
        lambda: collection.delete(["a", item_id]),
    ]
    for call in calls:
        with pytest.raises(InvalidItems, match=r"an id is a string, or an .* that of item 1 is"):
            call()
    with pytest.raises(InvalidItems, match="an id is a string, or an integer"):
        collection.get(item_id)
    assert len(collection) == 1


@pytest.mark.parametrize("ids", ["a", b"a", {"a": 1}])
def test_one_string_is_not_taken_as_a_list_of_ids(ids: Any, store: Store) -> None:
    collection = store.create("c", 8)
    collection.upsert(["a"], ONE)
    calls: list[Any] = [
        lambda: collection.upsert(ids, ONE),
        lambda: collection.codes(ids),
        lambda: collection.delete(ids),
    ]
    for call in calls:
        with pytest.raises(InvalidItems, match=f"a list of ids, got {type(ids).__name__} "):
            call()
    assert len(collection) == 1


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


@pytest.mark.parametrize("labels", [np.zeros((1, 2), int), [[1, 2]], [np.array([1, 2])]])
def test_several_labels_belong_into_the_payload(labels: Any, store: Store) -> None:
    with pytest.raises(InvalidItems, match="put several labels of an item as a list into"):
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


def test_a_masked_code_is_not_the_value_under_the_mask(store: Store) -> None:
    collection = store.create("c", 8)
    with pytest.raises(InvalidItems, match="codes must be complete, got masked values"):
        collection.upsert(["a"], np.ma.array(ONE, mask=True))
    assert len(collection) == 0


@pytest.mark.parametrize("n_bits", [8.0, "8", True, None, np.timedelta64(8, "s")])
def test_a_code_length_is_an_integer(n_bits: Any, store: Store) -> None:
    with pytest.raises(InvalidItems, match="n_bits must be an integer, got"):
        store.create("c", n_bits)
    length: Any = np.int64(8)
    assert store.create("c", length).n_bits == 8


@pytest.mark.parametrize(
    ("descriptors", "message"),
    [
        (np.ma.array([[1.0, 2.0]], mask=[[False, True]]), "complete, got masked values"),
        (np.array([[1 + 2j, 3]]), "real numbers, got complex128"),
        (np.array([[1, 2]], "m8[s]"), "real numbers, got timedelta64"),
        (np.array([["1", "2"]]), "real numbers, got <U1"),
        (np.array([[True, False]]), "real numbers, got bool"),
    ],
)
def test_numpy_drops_no_part_of_a_kept_descriptor(
    descriptors: Any, message: str, store: Store
) -> None:
    collection = store.create("c", 8, keep_descriptors=True)
    with pytest.raises(InvalidItems, match=f"^descriptors must be {message}"):
        collection.upsert(["a"], ONE, descriptors=descriptors)
    assert len(collection) == 0


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"codes": [[0], [1], [16]]}, "lowest 4 bits .* those of code 1 are not"),
        ({"descriptors": [[1.0, 2.0], [3.0, 66_000.0], [np.nan, 0.0]]}, "that of item 1 is not"),
    ],
)
def test_an_error_of_an_array_names_the_first_wrong_row(
    change: dict[str, Any], message: str, store: Store
) -> None:
    collection = store.create("c", 4, keep_descriptors="float16")
    batch: dict[str, Any] = {"codes": np.zeros((3, 1)), "descriptors": np.ones((3, 2))} | change
    codes = np.array(batch["codes"], np.uint8)
    with pytest.raises(InvalidItems, match=message) as caught:
        collection.upsert(["a", "b", "c"], codes, descriptors=batch["descriptors"])
    assert caught.value.row == 1
