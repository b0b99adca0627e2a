"""What the client sends is what it was given: anything that it would have to convert is refused."""

from __future__ import annotations

import datetime
import decimal
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from bitcell_client import Client

X = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
IDS = ["a", "b", "c"]
MASK = [False, True, False]
ANSWERS: dict[str, Any] = {
    "collections/c": {
        "name": "c", "encoder": "e", "fingerprint": "f", "n_bits": 8, "items": 0,
        "keep_descriptors": False,
    },
    "items": {"upserted": 3, "changed": 3, "items": 3},
    "query": {"results": [], "certificates": []},
    "delete": {"deleted": 1},
    "items/1": {"id": "1", "code": "ff"},
    "count": {"count": 1},
    "list": {"items": [], "of": 0},
    "encoders": {"id": "j", "url": "/v1/jobs/j"},
    "benchmarks": {"id": "j", "url": "/v1/jobs/j"},
    "explanations": {"id": "j", "url": "/v1/jobs/j"},
    "recommendations": {"id": "j", "url": "/v1/jobs/j"},
    "snapshots": {"snapshot": "s", "items": 3, "removed": []},
    "collections": {
        "name": "c", "encoder": "e", "fingerprint": "f", "n_bits": 8, "items": 0,
        "keep_descriptors": True,
    },
}  # fmt: skip


class Quantity(np.ndarray):
    """Numbers with a unit, as of astropy and pint."""

    @property
    def unit(self) -> str:
        return "cm"


@pytest.fixture
def sent() -> list[httpx2.Request]:
    return []


@pytest.fixture
def client(sent: list[httpx2.Request]) -> Client:
    def answer(request: httpx2.Request) -> httpx2.Response:
        sent.append(request)
        path = request.url.path
        (body,) = (answer for end, answer in ANSWERS.items() if path.endswith(end))
        return httpx2.Response(202, json=body)

    return Client("http://x", transport=httpx2.MockTransport(answer))


def arrays_of(request: httpx2.Request) -> list[Any]:
    """The arrays in a body of npy."""
    file, arrays = io.BytesIO(request.read()), []
    while file.tell() < len(file.getvalue()):
        arrays.append(np.load(file).tolist())
    return arrays


NO_LABELS: list[Any] = [
    ([1.7, 2.2, -0.5], "row 0 is 1.7"),
    ([1, 2, 2**64 - 1], "row 2 is 18446744073709551615"),
    ([0, -2, 1], "row 1 is -2"),
    ([1, True, 2], "row 1 is True"),
    (["1", 2, 3], "row 0 is '1'"),
    ([1, [2], 3], r"row 1 is \[2\]"),
    ([1, float("nan"), 3], "row 1 is nan"),
    ([1, datetime.date(2026, 1, 1), 3], "row 1 is datetime.date"),
    ([1, np.ma.masked, 3], "row 1 is masked"),
    (np.array([1.0, 2.0, np.nan]), r"row 0 is np.float64\(1.0\)"),
    (np.array([1, 2, 2**64 - 1], np.uint64), r"row 2 is np.uint64\(18446744073709551615\)"),
    (np.array([2020, 2021, 2022], "M8[Y]"), "row 0 is np.datetime64"),
    (np.array([1, 2, 3], "m8[s]"), "row 0 is np.timedelta64"),
    (np.array(MASK), "row 0 is np.False_"),
    (np.array([1, 2, "3"], object), "row 2 is '3'"),
    (np.ma.array([1, 2, 3], mask=MASK), "row 1 is masked"),
    (np.array([1, 2, 3]).view(Quantity), "got Quantity with a unit"),
    (np.ones((3, 1), int), r"shape \(n,\), got \(3, 1\)"),
]


@pytest.mark.parametrize(("labels", "message"), NO_LABELS)
def test_what_is_no_integer_is_no_label(
    labels: Any, message: str, client: Client, sent: list[httpx2.Request]
) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: client.upsert("c", IDS, X, labels),
        lambda: client.upsert("c", IDS, X, labels, [{}] * 3),
        lambda: client.load("c", IDS, X, labels, batch=1),
        lambda: client.create_encoder("e", "sdh", 8, descriptors=X, labels=labels),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=f"^labels must .*{message}"):
            call()
    assert sent == []


@pytest.mark.parametrize("labels", [np.eye(2, dtype=int), [[1, 2], [1]], [(1, 2), 1]])
def test_several_labels_belong_into_the_payload(client: Client, labels: Any) -> None:
    with pytest.raises(ValueError, match="put several labels as a list into the payload"):
        client.load("c", ["a", "b"], np.ones((2, 4)), labels)


@pytest.mark.parametrize(
    "labels",
    [
        [7, -1, 2**63 - 1],
        (7, None, 2**63 - 1),
        [np.int8(7), np.int64(-1), np.uint64(2**63 - 1)],
        np.array([7, -1, 2**63 - 1]),
        np.array([7, None, 2**63 - 1], object),
        np.ma.array([7, -1, 2**63 - 1]),
    ],
)
def test_integers_are_sent_as_labels(
    labels: Any, client: Client, sent: list[httpx2.Request]
) -> None:
    client.upsert("c", IDS, X, labels)
    client.upsert("c", IDS, X, labels, [None] * 3)
    assert arrays_of(sent[0])[2] == [7, -1, 2**63 - 1]
    assert [item["label"] for item in json.loads(sent[1].read())["items"]] == [7, -1, 2**63 - 1]


NO_DESCRIPTORS: list[Any] = [
    (X + 1j, "real numbers, got complex"),
    (X.astype("m8[s]"), "real numbers, got timedelta64"),
    (X.astype("M8[s]"), "real numbers, got datetime64"),
    (X.astype(str), "real numbers, got <U"),
    (X > 0, "real numbers, got bool"),
    ([[1, 2, None, 4]] * 3, "real numbers, got object"),
    (np.ma.array(X, mask=X[1, 2] == X), "complete; a value in row 1 is masked"),
    ([np.ma.array(row, mask=row == X[2, 0]) for row in X], "a value in row 2 is masked"),
    (X.view(Quantity), "got Quantity with a unit"),
]


@pytest.mark.parametrize(("descriptors", "message"), NO_DESCRIPTORS)
def test_what_is_no_real_number_is_in_no_descriptor(
    descriptors: Any, message: str, client: Client, sent: list[httpx2.Request]
) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: client.upsert("c", IDS, descriptors),
        lambda: client.load("c", IDS, descriptors),
        lambda: client.query("c", descriptors),
        lambda: client.encode("e", descriptors),
        lambda: client.create_encoder("e", "itq", 8, descriptors=descriptors),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=f"^descriptors must be .*{message}"):
            call()
    assert sent == []


def test_a_masked_code_is_not_the_value_under_the_mask(
    client: Client, sent: list[httpx2.Request]
) -> None:
    codes = np.ma.array(np.zeros((3, 2), np.uint8), mask=np.arange(6).reshape(3, 2) == 3)
    calls: list[Callable[[], Any]] = [
        lambda: client.upsert("c", IDS, codes=codes),
        lambda: client.query("c", codes=codes),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="codes must be complete; a value in row 1 is masked"):
            call()
    assert sent == []


LISTS: dict[str, Callable[[Client, Any], Any]] = {
    "ids of upsert": lambda client, ids: client.upsert("c", ids, X),
    "ids of load": lambda client, ids: client.load("c", ids, X),
    "ids of query": lambda client, ids: client.query("c", ids=ids),
    "ids of delete_items": lambda client, ids: client.delete_items("c", ids),
    "payloads of upsert": lambda client, payloads: client.upsert("c", IDS, X, payloads=payloads),
    "images of gist": lambda client, images: client.gist(images),
    "methods of start_benchmark": lambda client, methods: client.start_benchmark(methods),
    "laws of start_explanation": lambda client, laws: client.start_explanation(laws=laws),
    "bits of start_benchmark": lambda client, bits: client.start_benchmark(["lsh"], bits),
    "seeds of start_benchmark": lambda client, seeds: client.start_benchmark(["lsh"], seeds=seeds),
    "methods of start_recommendation": lambda client, methods: client.start_recommendation(
        methods=methods
    ),
}


@pytest.mark.parametrize("values", ["abc", "10", b"abc", bytearray(b"abc"), dict.fromkeys(IDS), 3])
@pytest.mark.parametrize("parameter", LISTS)
def test_one_value_is_not_taken_as_a_list(
    parameter: str, values: Any, client: Client, sent: list[httpx2.Request]
) -> None:
    name = parameter.partition(" ")[0]
    with pytest.raises(ValueError, match=f"^{name} must be a list, got {type(values).__name__} "):
        LISTS[parameter](client, values)
    assert sent == []


def test_a_set_is_a_list_only_where_the_order_does_not_count(
    client: Client, sent: list[httpx2.Request]
) -> None:
    with pytest.raises(ValueError, match="ids must be a list, got set"):
        client.upsert("c", set(IDS), X)
    assert sent == []
    client.delete_items("c", set(IDS))
    assert sorted(json.loads(sent[0].read())["ids"]) == IDS


NO_IDS: list[Any] = [None, float("nan"), 1.0, True, b"a", ("a",), np.float64(1), np.bool_(True)]
NO_IDS += [np.timedelta64(1, "s"), np.datetime64("2026-01-01"), datetime.date(2026, 1, 1)]


@pytest.mark.parametrize("value", NO_IDS)
def test_what_is_no_string_and_no_integer_is_no_id(
    value: Any, client: Client, sent: list[httpx2.Request]
) -> None:
    ids = ["a", value, "c"]
    calls: list[Callable[[], Any]] = [
        lambda: client.upsert("c", ids, X),
        lambda: client.upsert("c", ids, X, payloads=[{}] * 3),
        lambda: client.load("c", np.array(ids, object) if value != ("a",) else ids, X),
        lambda: client.query("c", ids=ids),
        lambda: client.delete_items("c", ids),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"^an id is a string, or an integer.* of row 1 is "):
            call()
    for one in (client.item, client.delete_item):
        with pytest.raises(ValueError, match=r"^an id is a string, or an integer.* this one is "):
            one("c", value)
    assert sent == []


def test_an_id_does_not_lose_its_last_character(client: Client, sent: list[httpx2.Request]) -> None:
    with pytest.raises(ValueError, match=r"must not end with NUL; that of row 1 is 'a\\x00'"):
        client.upsert("c", ["a", "a\0", "c"], X)
    assert sent == []


@pytest.mark.parametrize(
    "ids",
    [["7", "-1", "0"], [7, -1, 0], ["7", -1, np.int8(0)], np.array([7, -1, 0]), range(7, 10)],
)
def test_integers_are_sent_as_ids_in_decimal(
    ids: Any, client: Client, sent: list[httpx2.Request]
) -> None:
    expected = [str(int(item_id)) for item_id in ids]
    client.upsert("c", ids, X)
    client.upsert("c", ids, X, payloads=[{}] * 3)
    client.load("c", ids, X)
    client.query("c", ids=ids)
    client.delete_items("c", ids)
    assert arrays_of(sent[0])[1] == expected
    assert [item["id"] for item in json.loads(sent[1].read())["items"]] == expected
    assert arrays_of(sent[3])[1] == expected
    assert [json.loads(request.read())["ids"] for request in sent[4:]] == [expected] * 2


def test_an_integer_names_an_item(client: Client, sent: list[httpx2.Request]) -> None:
    item_ids: list[Any] = [1, np.int64(1), "1"]
    for item_id in item_ids:
        client.delete_item("c", item_id)
        client.item("c", item_id)
        client.change_item("c", item_id, {"label": np.int64(3)})
    assert {request.url.path for request in sent} == {"/v1/collections/c/items/1"}
    assert json.loads(sent[-1].read()) == {"label": 3}
    changes: Any = {1: {"label": 2}, "b": {"payload": {"n": np.float32(0.5)}}}
    client.change_items("c", changes)
    expected = [{"label": 2, "id": "1"}, {"payload": {"n": 0.5}, "id": "b"}]
    assert json.loads(sent[-1].read()) == {"items": expected}


NUMPY = {"a": np.int64(3), "b": np.float32(1.5), "c": np.bool_(True), "d": np.arange(2), "e": "x"}
PLAIN = {"a": 3, "b": 1.5, "c": True, "d": [0, 1], "e": "x"}


def test_scalars_and_arrays_of_numpy_are_sent_as_plain_ones(
    client: Client, sent: list[httpx2.Request]
) -> None:
    y: Any = np.arange(3)
    client.upsert("c", IDS, X, payloads=[NUMPY | {"deep": [NUMPY]}, None, {}])
    client.query("c", ids=IDS, filter={"label": y[1], "a": {"in": y}}, k=y[2], radius=y[2])
    client.query("c", X, k=y[2], offset=y[1], payloads=y[0] > 0, codes=y[1] > 0)
    client.create_encoder("e", "lsh", y[2], {"random_state": y[1]}, dimension=y[1])
    client.start_benchmark(np.array(["lsh"]), y + 8, seeds=y[:1], queries_per_class=y[2])
    client.load("c", IDS, X, batch=y[2])
    bodies = [json.loads(sent[i].read()) for i in (0, 1, 3, 4)]
    assert bodies[0]["items"][0]["payload"] == PLAIN | {"deep": [PLAIN]}
    assert bodies[1]["filter"] == {"label": 1, "a": {"in": [0, 1, 2]}}
    assert (bodies[1]["k"], bodies[1]["radius"]) == (2, 2)
    assert dict(sent[2].url.params) == {
        "k": "2", "offset": "1", "payloads": "false", "return_codes": "true"
    }  # fmt: skip
    client.count_items("c", {"label": y[1]})
    client.list_items("c", {"label": y[1]}, limit=y[2], offset=y[1])
    client.delete_items("c", filter={"label": {"in": y}})
    assert json.loads(sent[-3].read()) == {"filter": {"label": 1}}
    assert json.loads(sent[-2].read()) == {"filter": {"label": 1}, "limit": 2, "offset": 1}
    assert json.loads(sent[-1].read()) == {"filter": {"label": {"in": [0, 1, 2]}}}
    assert (bodies[2]["n_bits"], bodies[2]["dimension"]) == (2, 1)
    assert bodies[2]["params"] == {"random_state": 1}
    assert bodies[3] == {"methods": ["lsh"], "bits": [8, 9, 10], "seeds": [0]} | {
        "queries_per_class": 2
    }


INTEGERS: dict[str, Callable[[Client, Any], Any]] = {
    "k": lambda client, k: client.query("c", X, k=k),
    "radius": lambda client, radius: client.query("c", ids=IDS, radius=radius),
    "offset": lambda client, offset: client.items("c", offset=offset),
    "n_bits": lambda client, n_bits: client.create_encoder("e", "lsh", n_bits, dimension=3),
    "batch": lambda client, batch: client.load("c", IDS, X, batch=batch),
    "batch ": lambda client, batch: client.query("c", X, batch=batch),
    "batch  ": lambda client, batch: client.encode("e", X, batch=batch),
    "limit": lambda client, limit: client.jobs(limit),
    "keep": lambda client, keep: client.snapshot("c", keep=keep),
    "n_bits ": lambda client, n_bits: client.get_or_create_collection("c", n_bits=n_bits),
}


@pytest.mark.parametrize("value", [2.0, "2", True, np.float64(2), np.timedelta64(2, "s"), [2]])
@pytest.mark.parametrize("name", INTEGERS)
def test_what_is_no_integer_is_no_number_of_things(
    name: str, value: Any, client: Client, sent: list[httpx2.Request]
) -> None:
    with pytest.raises(ValueError, match=f"^{name.strip()} must be an integer, got "):
        INTEGERS[name](client, value)
    assert sent == []


NUMBERS: dict[str, Callable[[Client, Any], Any]] = {
    # By descriptors the options are in the URL, where every value is text; by ids in the body.
    "max_score": lambda client, value: client.query("c", X, max_score=value),
    "max_score ": lambda client, value: client.query("c", ids=IDS, max_score=value),
    "confidence": lambda client, value: client.query("c", X, confidence=value),
    "false_match_rate": lambda client, value: client.query("c", X, false_match_rate=value),
    "within": lambda client, value: client.start_recommendation(dataset="d", within=value),
    "recall": lambda client, value: client.start_recommendation(dataset="d", recall=value),
    "seconds": lambda client, value: client.start_recommendation(dataset="d", seconds=value),
}


@pytest.mark.parametrize(
    "value",
    ["0.5", True, np.bool_(True), 1j, decimal.Decimal("0.5"), [0.5], np.array([0.5]),
     np.timedelta64(1, "s"), float("nan"), np.float32("inf"), np.ma.masked],
)  # fmt: skip
@pytest.mark.parametrize("name", NUMBERS)
def test_what_is_no_finite_number_is_no_option(
    name: str, value: Any, client: Client, sent: list[httpx2.Request]
) -> None:
    with pytest.raises(ValueError, match=f"^{name.strip()} must be a finite number, got "):
        NUMBERS[name](client, value)
    assert sent == []


def test_numbers_of_numpy_are_sent_alike_in_the_url_and_in_the_body(
    client: Client, sent: list[httpx2.Request]
) -> None:
    values: list[Any] = [0.25, np.float32(0.25), np.float64(0.25), np.float16(0.25)]
    for value in values:
        client.query("c", X, confidence=value)
        client.query("c", ids=IDS, confidence=value)
        assert sent[-2].url.params["confidence"] == "0.25"
        assert json.loads(sent[-1].read())["confidence"] == 0.25


@pytest.mark.parametrize("value", [5, None, b"lsh", ["lsh"]])
def test_a_name_is_a_string(value: Any, client: Client, sent: list[httpx2.Request]) -> None:
    calls: dict[str, Callable[[], Any]] = {
        "name": lambda: client.create_encoder(value, "lsh", 8, descriptors=X),
        "method": lambda: client.create_encoder("e", value, 8, descriptors=X),
        "name ": lambda: client.create_encoder(value, "lsh", 8, dimension=4),
    }
    for name, call in calls.items():
        with pytest.raises(ValueError, match=f"^{name.strip()} must be a string, got "):
            call()
    assert sent == []


def test_an_empty_name_is_not_that_of_the_file(
    client: Client, sent: list[httpx2.Request], tmp_path: Path
) -> None:
    file = tmp_path / "a.npy"
    np.save(file, X)
    for upload in (client.upload_dataset, client.upload_snapshot):
        with pytest.raises(ValueError, match="'' cannot stand for"):
            upload(file, "")
    assert sent == []


@pytest.mark.parametrize("kept", [True, False, "float16", "float32", np.bool_(True)])
def test_descriptors_are_kept_as_a_type_or_not(
    kept: Any, client: Client, sent: list[httpx2.Request]
) -> None:
    client.create_collection("c", "e", keep_descriptors=kept)
    client.get_or_create_collection("c", "e", keep_descriptors=kept)
    assert [json.loads(request.read())["keep_descriptors"] for request in sent] == [kept, kept]


@pytest.mark.parametrize("kept", [1, None, ["float16"]])
def test_what_is_no_type_does_not_keep_descriptors(
    kept: Any, client: Client, sent: list[httpx2.Request]
) -> None:
    for create in (client.create_collection, client.get_or_create_collection):
        with pytest.raises(ValueError, match=r"^keep_descriptors must be True or False, got "):
            create("c", "e", keep_descriptors=kept)
    assert sent == []


def test_parameters_in_the_url_are_plain_values_too(
    client: Client, sent: list[httpx2.Request]
) -> None:
    params = {"random_state": np.int64(3), "center": np.bool_(True), "scale": np.float32(0.5)}
    client.create_encoder("e", "lsh", 8, params, descriptors=X)
    sent_params = json.loads(sent[-1].url.params["params"])
    assert sent_params == {"random_state": 3, "center": True, "scale": 0.5}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (float("nan"), "Out of range float"),
        (np.float32("inf"), "Out of range float"),
        (np.array([1, np.nan]), "Out of range float"),
        (datetime.date(2026, 1, 1), "got date datetime.date"),
        (np.datetime64("2026-01-01"), "got datetime64 np.datetime64"),
        (np.timedelta64(1, "s"), "got timedelta64 np.timedelta64"),
        (1j, "got complex 1j"),
        (np.ma.array([1, 2], mask=[False, True]), "in row 1 is masked"),
        (np.ma.masked, "it is masked"),
        (b"a", "got bytes b'a'"),
        ({1, 2}, "got set {1, 2}"),
    ],
)
def test_what_json_does_not_have_is_refused_in_words(
    value: Any, message: str, client: Client, sent: list[httpx2.Request]
) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: client.upsert("c", IDS, X, payloads=[{}, {"a": [value]}, {}]),
        lambda: client.query("c", X, filter={"a": value}),
        lambda: client.create_encoder("e", "lsh", 8, {"a": value}, dimension=3),
        lambda: client.create_encoder("e", "lsh", 8, {"a": value}, descriptors=X),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=f"^expected values that JSON can hold.*{message}"):
            call()
    assert sent == []


@pytest.mark.parametrize("value", ["ab", [("a", 1)], 3])
def test_one_value_is_not_taken_as_an_object(
    value: Any, client: Client, sent: list[httpx2.Request]
) -> None:
    calls: dict[str, Callable[[], Any]] = {
        "the payload of 'b'": lambda: client.upsert("c", IDS, X, payloads=[{}, value, {}]),
        "filter": lambda: client.query("c", X, filter=value),
        "change": lambda: client.change_item("c", "a", value),
        "changes": lambda: client.change_items("c", value),
        "params": lambda: client.create_encoder("e", "lsh", 8, value, dimension=3),
    }
    for name, call in calls.items():
        with pytest.raises(ValueError, match=f"^{name} must be a dict, got {type(value).__name__}"):
            call()
    assert sent == []


def test_none_is_not_taken_as_an_empty_object(client: Client, sent: list[httpx2.Request]) -> None:
    none: Any = None
    calls: dict[str, Callable[[], Any]] = {
        "filter": lambda: client.count_items("c", none),
        "filter ": lambda: client.list_items("c", none),
        "change": lambda: client.change_item("c", "a", none),
        "changes": lambda: client.change_items("c", none),
        "the change of 'a'": lambda: client.change_items("c", {"a": none}),
    }
    for name, call in calls.items():
        with pytest.raises(ValueError, match=f"^{name.strip()} must be a dict, got NoneType"):
            call()
    assert sent == []


def test_a_path_is_not_taken_as_the_bytes_of_a_file(
    client: Client, sent: list[httpx2.Request]
) -> None:
    calls: dict[str, Callable[[Any], Any]] = {
        "image": lambda file: client.query("c", image=file),
        "file": lambda file: client.upload_encoder("e", file),
        r"images\[0\]": lambda file: client.gist([file]),
    }
    for name, call in calls.items():
        with pytest.raises(ValueError, match=f"^{name} must be the bytes of a file, got str 'a.p"):
            call("a.png")
    assert sent == []
