"""The result types: how they are read from JSON, and that they are those of the service."""

from __future__ import annotations

import dataclasses
import inspect
import json
import pydoc
import sys
import types
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest

import bitcell_client
from app.main import create_app
from app.service.settings import Settings
from bitcell_client import (
    AsyncClient,
    BitStatistics,
    Certificate,
    Client,
    Item,
    ItemPage,
    Job,
    Neighbour,
    QueryResult,
    Statistics,
    UploadedDataset,
)
from bitcell_client.decode import UnexpectedJson, from_json
from bitcell_client.statistics import BitPair
from tests.client.described import METHODS

JOB = {"id": "j", "kind": "training", "state": "done", "request": {}, "created": 1}


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The OpenAPI document of the service."""
    return create_app(Settings(data_dir=tmp_path_factory.mktemp("openapi"))).openapi()


class Comparison:
    """Compares type hints with JSON schemas, and records the dataclasses that it has met."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.schemas = document["components"]["schemas"]
        self.met: set[type] = set()

    def check(self, hint: Any, schema: dict[str, Any], place: str) -> None:
        """Fail unless exactly the values of the schema have the type of the hint."""
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            self.check(hint, self.schemas[name], f"{place} ({name})")
        elif dataclasses.is_dataclass(hint):
            self.check_fields(hint, schema, place)
        else:
            assert self.plain(hint, schema, place), f"{place}: {hint} is not {schema}"

    def check_fields(self, kind: Any, schema: dict[str, Any], place: str) -> None:
        self.met.add(kind)
        hints, fields = get_type_hints(kind), dataclasses.fields(kind)
        assert sorted(hints) == sorted(schema["properties"]), place
        required = [field.name for field in fields if field.default is dataclasses.MISSING]
        assert sorted(required) == sorted(schema["required"]), place
        for name, hint in hints.items():
            self.check(hint, schema["properties"][name], f"{place}.{name}")

    def plain(self, hint: Any, schema: dict[str, Any], place: str) -> Any:
        origin, arguments = get_origin(hint), get_args(hint)
        if origin in (Union, types.UnionType):
            parts = schema.get("anyOf", [])
            # Both in the same order, but None comes last in a hint, as null in a schema.
            for part, alternative in zip(arguments, parts, strict=True):
                self.check(part, alternative, place)
            return True
        if origin is Literal:
            return schema["type"] == "string" and schema["enum"] == list(arguments)
        if origin is list:
            self.check(arguments[0], schema["items"], f"{place}[]")
            return schema["type"] == "array"
        if origin is tuple:
            for part, element in zip(arguments, schema["prefixItems"], strict=True):
                self.check(part, element, f"{place}[]")
            return schema["type"] == "array"
        if origin is dict and arguments[1] is Any:
            return schema["type"] == "object" and schema["additionalProperties"] is True
        if origin is dict:
            self.check(arguments[1], schema["additionalProperties"], f"{place}{{}}")
            return schema["type"] == "object" and arguments[0] is str
        names = {str: "string", int: "integer", float: "number", bool: "boolean"}
        names[types.NoneType] = "null"
        return schema.get("type") == names.get(hint, "no type of the client")


def answers(operation: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The content of the successful answers of an operation, by status."""
    return {
        status: response.get("content", {})
        for status, response in operation["responses"].items()
        if status.startswith("2")
    }


def test_results_have_the_fields_of_the_service(document: dict[str, Any]) -> None:
    comparison = Comparison(document)
    for name, call in METHODS.items():
        operation = document["paths"][call.path][call.method.lower()]
        (result,) = get_args(get_type_hints(call.describe)["return"])
        content = answers(operation)
        media_types = {kind for media in content.values() for kind in media}
        if result is types.NoneType:
            assert content == {"204": {}}, name
        elif result is str:
            assert media_types in ({"text/plain"}, {"text/html"}), name
        elif result is bytes:
            assert media_types == {"application/octet-stream"}, name
        elif name == "create_encoder":
            created, accepted = get_args(result)
            comparison.check(created, content["201"]["application/json"]["schema"], name)
            comparison.check(accepted, content["202"]["application/json"]["schema"], name)
        elif name not in ("encode", "gist", "duplicate_groups"):  # Those answer with arrays.
            for media in content.values():
                assert set(media) == {"application/json"}
                comparison.check(result, media["application/json"]["schema"], name)
    # Uploads are streamed, and no `Call`.
    stored = document["paths"]["/v1/datasets/{dataset}"]["put"]["responses"]["201"]
    schema = stored["content"]["application/json"]["schema"]
    comparison.check(UploadedDataset, schema, "upload_dataset")
    exported = {value for value in vars(bitcell_client).values() if dataclasses.is_dataclass(value)}
    assert comparison.met == exported


@pytest.mark.parametrize(
    "change",
    [
        lambda fields: fields.update(more={"type": "string"}),
        lambda fields: fields.pop("label"),
        lambda fields: fields.update(label={"type": "integer"}),
        lambda fields: fields.update(code={"type": "integer"}),
    ],
)
def test_the_comparison_finds_a_difference(document: dict[str, Any], change: Any) -> None:
    changed = json.loads(json.dumps(document))
    change(changed["components"]["schemas"]["ItemOut"]["properties"])
    with pytest.raises((AssertionError, ValueError)):
        Comparison(changed).check(Item, {"$ref": "#/components/schemas/ItemOut"}, "item")


def test_unknown_fields_are_ignored_and_optional_ones_are_none() -> None:
    neighbour = from_json(Neighbour, '{"id": "a", "distance": 3, "new": [1], "score": 2}')
    assert neighbour == Neighbour(id="a", distance=3, score=2.0)
    assert type(neighbour.score) is float
    assert neighbour.payload is None
    pair = from_json(BitPair, '{"bits": [0, 5], "correlation": 0.5}')
    assert pair == BitPair(bits=(0, 5), correlation=0.5)
    with pytest.raises(dataclasses.FrozenInstanceError):
        pair.correlation = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (Item, [], r"^expected an object, got \[\]$"),
        (Item, {"id": "a"}, "^expected a field 'code' of Item; it is missing$"),
        (Item, {"id": 5, "code": ""}, "^id: expected a string, got 5$"),
        (Item, {"id": "a", "code": None}, "^code: expected a string, got None$"),
        (Item, {"id": "a", "code": "", "label": 1.5}, "^label: expected an integer, got 1.5$"),
        (Item, {"id": "a", "code": "", "label": True}, "^label: expected an integer, got True$"),
        (list[Item], [{"id": "a", "code": ""}, 7], r"^\[1\]: expected an object, got 7$"),
        (list[Item], {}, "^expected an array, got {}$"),
        (Job, JOB | {"state": "lost"}, "^state: expected one of 'queued', .*, got 'lost'$"),
        (Job, JOB | {"created": "now"}, "^created: expected a number, got 'now'$"),
        (Job, JOB | {"created": 10**400}, "^created: expected a number that a float can hold"),
        (Job, JOB | {"progress": {"done": 1}}, "^progress: expected a field 'of' of Progress"),
        (Certificate, {"exact": 1, "radius": 0, "looked": 0, "tie": 0}, "^exact: expected true"),
        (BitPair, {"bits": [1], "correlation": 0}, "^bits: expected an array of 2 elements"),
        (BitPair, {"bits": [1, ""], "correlation": 0}, r"^bits\[1\]: expected an integer, got ''"),
        (dict[str, str], {"status": 5}, "^status: expected a string, got 5$"),
        (dict[str, str | int], {"n": 0.5}, "^n: expected a string, got 0.5; or expected an int"),
        (
            Statistics,
            {"items": 1, "n_bits": 8, "buckets": None, "bits": {"looked": None}},
            "^bits: expected a field 'ones' of BitStatistics",
        ),
    ],
)
def test_an_unexpected_value_is_named_with_its_place(kind: Any, value: Any, message: str) -> None:
    with pytest.raises(UnexpectedJson, match=message):
        from_json(kind, json.dumps(value))


def test_help_shows_the_signature_of_a_call() -> None:
    shown = pydoc.plain(pydoc.render_doc(Client.query))
    assert "query(self, name: 'str', descriptors: 'ArrayLike | None' = None, *, ids:" in shown
    assert "-> 'QueryResult'" in shown
    assert "Return the nearest items by Hamming distance" in shown
    for kind in (QueryResult, Neighbour, Certificate):
        assert all(f"`{field.name}`" in shown for field in dataclasses.fields(kind)), kind
    assert str(inspect.signature(AsyncClient.query)).endswith("-> 'Awaitable[QueryResult]'")
    with Client() as client:
        assert str(inspect.signature(client.drop_encoder)) == "(name: 'str') -> 'None'"
    for name in METHODS:
        for client_class in (Client, AsyncClient):
            assert "Request" not in str(inspect.signature(getattr(client_class, name))), name
    assert "create_encoder(self, name: 'str'" in pydoc.plain(pydoc.render_doc(Client))


def test_a_repr_is_short() -> None:
    near = Neighbour(id="a", distance=3)
    assert repr(near) == "Neighbour(id='a', distance=3)"
    certificate = Certificate(exact=True, radius=8, looked=9, tie=1)
    answer = QueryResult(results=[[near] * 10] * 30, certificates=[certificate] * 30)
    assert repr(answer) == "QueryResult(30 queries, 300 neighbours)"
    page = ItemPage(items=[Item(id="a", code="ff")] * 100, of=2900)
    assert repr(page) == "ItemPage(100 items of 2900)"
    bits = BitStatistics(
        looked=9,
        ones=[0.5] * 64,
        constant=0,
        mean_correlation=0.1,
        most_correlated=[],
        heat_map=[[0.5] * 64] * 64,
    )
    assert len(repr(bits)) < 300
    result = {"results": [{"map": 0.5} | dict.fromkeys(map(str, range(100)), 0.1)] * 50}
    job = Job(id="j", kind="benchmark", state="done", request={}, result=result, created=1.0)
    assert len(repr(job)) < 600
    assert "error" not in repr(job)


class Pandas(types.ModuleType):
    """The part of pandas that is used, which the tests do not need to have."""

    def __init__(self) -> None:
        super().__init__("pandas")
        self.DataFrame = dict
        self.array = lambda values, dtype: (dtype, values)


LARGE = 2**60 + 1
"""A label that no float holds."""


def test_results_become_tables_of_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", Pandas())
    first = [Neighbour(id="a", distance=0, label=LARGE, payload={"x": 1})]
    first += [Neighbour(id="b", distance=1)]
    answer = QueryResult(results=[first, [], [Neighbour(id="c", distance=2)]], certificates=[])
    table: Any = answer.to_pandas()
    assert table == {
        "query": [0, 0, 2],
        "id": ["a", "b", "c"],
        "distance": [0, 1, 2],
        "label": ("Int64", [LARGE, None, None]),
        "payload": [{"x": 1}, None, None],
    }
    table = QueryResult(results=[[]], certificates=[]).to_pandas()
    assert table == {"query": [], "id": [], "distance": []}
    table = ItemPage(items=[Item(id="a", code="ff", label=2)], of=3).to_pandas()
    assert table == {"id": ["a"], "code": ["ff"], "label": [2]}
    rows = [{"method": "raw", "n_bits": None, "map": 0.5}, {"method": "lsh", "n_bits": 8}]
    job = from_json(Job, json.dumps(JOB | {"kind": "benchmark", "result": {"results": rows}}))
    table = job.to_pandas()
    assert table == {
        "method": ["raw", "lsh"],
        "n_bits": ("Int64", [None, 8]),
        "map": [0.5, None],
    }
    with pytest.raises(
        ValueError, match=r"only a benchmark that is done .*; this is a training, d"
    ):
        from_json(Job, json.dumps(JOB)).to_pandas()


def test_pandas_is_not_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="to_pandas needs pandas: run `pip install pandas`"):
        ItemPage(items=[], of=0).to_pandas()


def test_every_module_is_short() -> None:
    package = Path(bitcell_client.__file__).parent
    lengths = {file: len(file.read_text().splitlines()) for file in package.rglob("*.py")}
    assert max(lengths.values()) < 300, lengths
