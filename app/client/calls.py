"""Every call of the service, described once: what is sent and how the answer is read.

`Client` makes a call and returns its answer; `AsyncClient` returns an awaitable of it.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

import httpx2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, TypeAdapter

from app.http import schemas

if TYPE_CHECKING:
    from app.client.connection import AsyncClient, Client

NPY = {"Content-Type": "application/x-npy"}
T = TypeVar("T")
P = ParamSpec("P")
Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Sent(Generic[T]):
    """What one call sends, and how its answer is read."""

    read: Callable[[httpx2.Response], T]
    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, Any] = field(default_factory=dict)
    json: Any = None
    content: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


class Call(Generic[P, T]):
    """A call, as a method of both clients.

    `safe` calls may be sent again when it is not known whether the first time went through.
    """

    def __init__(
        self,
        method: str,
        path: str,
        safe: bool,
        describe: Callable[Concatenate[Calls, P], Sent[T]],
    ) -> None:
        self.method, self.path, self.safe = method, path, safe
        self.describe = describe
        self.__doc__ = describe.__doc__

    @overload
    def __get__(self, client: Client, kind: Any = None) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: AsyncClient, kind: Any = None) -> Callable[P, Awaitable[T]]: ...
    @overload
    def __get__(self, client: None, kind: Any = None) -> Call[P, T]: ...
    def __get__(self, client: Any, kind: Any = None) -> Any:
        if client is None:
            return self

        @wraps(self.describe)
        def call(*args: P.args, **kwargs: P.kwargs) -> Any:
            return client._do(self, self.describe(client, *args, **kwargs))

        return call


def _call(
    method: str, path: str, *, safe: bool | None = None
) -> Callable[[Callable[Concatenate[Calls, P], Sent[T]]], Call[P, T]]:
    safe = method == "GET" if safe is None else safe
    return lambda describe: Call(method, path, safe, describe)


class Calls:
    """The calls, as methods of both clients. Errors are those of `app.client.errors`."""

    # Health.

    @_call("GET", "/healthz")
    def health(self) -> Sent[dict[str, str]]:
        """Whether the process lives: `{"status": "ok"}`."""
        return Sent(_as(dict[str, str]))

    @_call("GET", "/readyz")
    def ready(self) -> Sent[dict[str, str | int]]:
        """Whether it can serve; `Unavailable` where it is about to stop."""
        return Sent(_as(dict[str, str | int]))

    @_call("GET", "/metrics")
    def metrics(self) -> Sent[str]:
        """Figures in the text format of Prometheus."""
        return Sent(lambda response: response.text)

    # Encoders.

    @_call("GET", "/v1/encoders")
    def encoders(self) -> Sent[list[schemas.EncoderOut]]:
        """All encoders, by name."""
        return Sent(_as(list[schemas.EncoderOut]))

    @_call("GET", "/v1/encoders/{name}")
    def encoder(self, name: str) -> Sent[schemas.EncoderOut]:
        """One encoder."""
        return Sent(_as(schemas.EncoderOut), {"name": name})

    @_call("POST", "/v1/encoders")
    def create_encoder(
        self,
        name: str,
        method: str,
        n_bits: int,
        params: Mapping[str, Any] | None = None,
        *,
        descriptors: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        dataset: str | None = None,
        collection: str | None = None,
        dimension: int | None = None,
    ) -> Sent[schemas.EncoderOut | schemas.Accepted]:
        """Make an encoder: there at once for a data-free method, else a job to `wait` for.

        It learns from one of `descriptors` (n, d) with `labels` (n,), -1 for none; a `dataset` of
        the service; a `collection` that keeps its descriptors. A data-free method is content with
        a `dimension`.
        """
        training = {
            "descriptors": None if descriptors is None else np.asarray(descriptors).tolist(),
            "labels": None if labels is None else np.asarray(labels).tolist(),
            "dataset": dataset,
            "collection": collection,
        }
        new = {"name": name, "method": method, "n_bits": n_bits, "params": dict(params or {})}
        new["dimension"] = dimension
        return Sent(_encoder_or_job, json=_given(new | {"training": _given(training) or None}))

    @_call("PUT", "/v1/encoders/{name}")
    def upload_encoder(self, name: str, file: bytes) -> Sent[schemas.EncoderOut]:
        """Keep an encoder made elsewhere: the bytes of the file that `Hasher.save` wrote."""
        kind = {"Content-Type": "application/octet-stream"}
        return Sent(_as(schemas.EncoderOut), {"name": name}, content=file, headers=kind)

    @_call("DELETE", "/v1/encoders/{name}")
    def drop_encoder(self, name: str) -> Sent[None]:
        """Drop an encoder that no collection uses."""
        return Sent(_nothing, {"name": name})

    @_call("POST", "/v1/encoders/{name}/encode", safe=True)
    def encode(self, name: str, descriptors: ArrayLike) -> Sent[NDArray[np.uint8]]:
        """Packed codes, uint8 (n, ceil(n_bits / 8)), of descriptors (n, d)."""
        return Sent(_matrix, {"name": name}, content=_npy(_floats(descriptors)), headers=NPY)

    @_call("GET", "/v1/methods")
    def methods(self) -> Sent[list[schemas.MethodOut]]:
        """The methods there are, and what each needs to be trained."""
        return Sent(_as(list[schemas.MethodOut]))

    @_call("POST", "/v1/gist", safe=True)
    def gist(self, images: Sequence[bytes]) -> Sent[NDArray[np.float32]]:
        """GIST descriptors, float32 (n, 384), of image files given as their bytes."""
        files = [base64.b64encode(image).decode() for image in images]
        return Sent(_matrix, json={"images": files}, headers={"Accept": NPY["Content-Type"]})

    # Collections.

    @_call("GET", "/v1/collections")
    def collections(self) -> Sent[list[schemas.CollectionOut]]:
        """All collections, by name."""
        return Sent(_as(list[schemas.CollectionOut]))

    @_call("GET", "/v1/collections/{name}")
    def collection(self, name: str) -> Sent[schemas.CollectionOut]:
        """One collection."""
        return Sent(_as(schemas.CollectionOut), {"name": name})

    @_call("GET", "/v1/collections/{name}/statistics")
    def statistics(self, name: str) -> Sent[schemas.StatisticsOut]:
        """How balanced and how correlated its bits are, and how many items share a code."""
        return Sent(_as(schemas.StatisticsOut), {"name": name})

    @_call("POST", "/v1/collections")
    def create_collection(
        self, name: str, encoder: str, *, keep_descriptors: bool = False
    ) -> Sent[schemas.CollectionOut]:
        """Make an empty collection for the codes of an encoder."""
        new = {"name": name, "encoder": encoder, "keep_descriptors": keep_descriptors}
        return Sent(_as(schemas.CollectionOut), json=new)

    @_call("DELETE", "/v1/collections/{name}")
    def drop_collection(self, name: str) -> Sent[None]:
        """Drop a collection and its items."""
        return Sent(_nothing, {"name": name})

    @_call("POST", "/v1/collections/{name}/reencode")
    def reencode(self, name: str, encoder: str) -> Sent[schemas.Accepted]:
        """Encode a collection anew from the descriptors it keeps: a job to `wait` for."""
        return Sent(_as(schemas.Accepted), {"name": name}, json={"encoder": encoder})

    @_call("POST", "/v1/collections/{name}/snapshots")
    def snapshot(self, name: str) -> Sent[schemas.SnapshotOut]:
        """Write a collection to a file in `snapshots/` of the data directory.

        With many millions of items it takes minutes: longer than a client waits by default, so
        make one with a `timeout` to match; for `restore` likewise.
        """
        return Sent(_as(schemas.SnapshotOut), {"name": name})

    @_call("POST", "/v1/collections/{name}/restore")
    def restore(self, name: str, snapshot: str) -> Sent[schemas.CollectionOut]:
        """Make a new collection of a snapshot."""
        return Sent(_as(schemas.CollectionOut), {"name": name}, json={"snapshot": snapshot})

    # Items.

    @_call("PUT", "/v1/collections/{name}/items", safe=True)
    def upsert(
        self,
        name: str,
        ids: Sequence[str],
        descriptors: ArrayLike,
        labels: ArrayLike | None = None,
        payloads: Sequence[Mapping[str, Any] | None] | None = None,
    ) -> Sent[schemas.Upserted]:
        """Insert items, or replace those whose id is there: all or none, on disk when it returns.

        `descriptors` (n, d), `labels` (n,) integers, -1 for none. It is one request, and as large
        as the service takes one; `load` takes any number.
        """
        X = _floats(descriptors)
        marks = None if labels is None else np.asarray(labels, np.int64)
        if {len(X), *(len(one) for one in (ids, marks, payloads) if one is not None)} != {len(ids)}:
            raise ValueError(f"expected ids, labels and payloads one a descriptor: {len(X)}")
        read, path = _as(schemas.Upserted), {"name": name}
        if payloads is None:
            arrays = [X, np.array(ids, str), *([] if marks is None else [marks])]
            return Sent(read, path, content=_npy(*arrays), headers=NPY)
        items = [
            {"id": id_, "descriptor": x, "payload": None if payload is None else dict(payload)}
            for id_, x, payload in zip(ids, X.tolist(), payloads, strict=True)
        ]
        for item, label in zip(items, [] if marks is None else marks.tolist(), strict=False):
            item["label"] = label
        return Sent(read, path, json={"items": items})

    @_call("GET", "/v1/collections/{name}/items")
    def items(self, name: str, limit: int = 100, offset: int = 0) -> Sent[schemas.ItemsOut]:
        """Items from a place on, in an order that holds while nothing is written."""
        asked = {"limit": limit, "offset": offset}
        return Sent(_as(schemas.ItemsOut), {"name": name}, asked)

    @_call("GET", "/v1/collections/{name}/items/{item_id}")
    def item(self, name: str, item_id: str) -> Sent[schemas.ItemOut]:
        """One item."""
        return Sent(_as(schemas.ItemOut), {"name": name, "item_id": item_id})

    @_call("DELETE", "/v1/collections/{name}/items/{item_id}")
    def delete_item(self, name: str, item_id: str) -> Sent[None]:
        """Take out one item."""
        return Sent(_nothing, {"name": name, "item_id": item_id})

    @_call("POST", "/v1/collections/{name}/items/delete")
    def delete_items(self, name: str, ids: Sequence[str]) -> Sent[schemas.Deleted]:
        """Take out items; ids that are not there are no error."""
        return Sent(_as(schemas.Deleted), {"name": name}, json={"ids": list(ids)})

    @_call("POST", "/v1/collections/{name}/query", safe=True)
    def query(
        self,
        name: str,
        descriptors: ArrayLike | None = None,
        *,
        ids: Sequence[str] | None = None,
        image: bytes | None = None,
        k: int | None = None,
        radius: int | None = None,
        payloads: bool = True,
        codes: bool = False,
        offset: int = 0,
        filter: Mapping[str, Any] | None = None,  # noqa: A002
        rerank: int | None = None,
        rerank_by: schemas.RerankBy | None = None,
    ) -> Sent[schemas.QueryOut]:
        """The nearest items by Hamming distance, exact, of descriptors (n, d), items or an image.

        `k` is 10, or with a `radius` as many as are allowed; `filter` as the README has it;
        `rerank` takes so many and orders them anew. The answer has, of each query in turn,
        `results` and a certificate.
        """
        given = {"k": k, "radius": radius, "payloads": payloads, "codes": codes, "offset": offset}
        asked = _given(given | {"rerank": rerank, "rerank_by": rerank_by})
        if sum(one is not None for one in (descriptors, ids, image)) != 1:
            raise ValueError("expected one of descriptors, ids and image")
        read, path = _as(schemas.QueryOut), {"name": name}
        if image is not None and filter is not None:
            raise ValueError("an image goes without a filter: ask with its descriptor, of `gist`")
        if image is not None:
            # Of which kind it is, the file itself says.
            return Sent(read, path, asked, content=image, headers={"Content-Type": "image/png"})
        if descriptors is not None and filter is None:
            return Sent(read, path, asked, content=_npy(_floats(descriptors)), headers=NPY)
        matrix = None if descriptors is None else _floats(descriptors).tolist()
        of = {"descriptors": matrix, "ids": None if ids is None else list(ids)}
        return Sent(read, path, json=_given(asked | of | {"filter": filter}))

    # Jobs.

    @_call("GET", "/v1/jobs")
    def jobs(self, limit: int = 100) -> Sent[list[schemas.JobOut]]:
        """The newest jobs, the newest first, without their results."""
        return Sent(_as(list[schemas.JobOut]), query={"limit": limit})

    @_call("GET", "/v1/jobs/{job}")
    def job(self, job: str) -> Sent[schemas.JobOut]:
        """State, progress and, when it has ended, result or error."""
        return Sent(_as(schemas.JobOut), {"job": job})

    @_call("DELETE", "/v1/jobs/{job}")
    def remove_job(self, job: str) -> Sent[None]:
        """Cancel a job that waits or runs; forget one that has ended."""
        return Sent(_nothing, {"job": job})

    # Benchmarks.

    @_call("GET", "/v1/datasets")
    def datasets(self) -> Sent[list[str]]:
        """The datasets that benchmarks and trainings can name."""
        return Sent(_as(list[str]))

    @_call("POST", "/v1/benchmarks")
    def start_benchmark(
        self,
        methods: Sequence[str],
        bits: Sequence[int] | None = None,
        *,
        dataset: str | None = None,
        collection: str | None = None,
        protocol: str | None = None,
        seeds: Sequence[int] | None = None,
        queries_per_class: int | None = None,
        labels_per_class: int | None = None,
    ) -> Sent[schemas.Accepted]:
        """Measure methods on a dataset of the service, or on what a collection keeps: a job."""
        new = {
            "methods": list(methods),
            "bits": None if bits is None else list(bits),
            "dataset": dataset,
            "collection": collection,
            "protocol": protocol,
            "seeds": None if seeds is None else list(seeds),
            "queries_per_class": queries_per_class,
            "labels_per_class": labels_per_class,
        }
        return Sent(_as(schemas.Accepted), json=_given(new))

    @_call("GET", "/v1/benchmarks")
    def benchmarks(self) -> Sent[list[schemas.JobOut]]:
        """All benchmarks, the newest first, without their results."""
        return Sent(_as(list[schemas.JobOut]))

    @_call("GET", "/v1/benchmarks/{benchmark}")
    def benchmark(self, benchmark: str) -> Sent[schemas.JobOut]:
        """State and progress, and when it is done the table."""
        return Sent(_as(schemas.JobOut), {"benchmark": benchmark})

    @_call("GET", "/v1/benchmarks/{benchmark}/report")
    def report(self, benchmark: str) -> Sent[str]:
        """One HTML page with the table and plots."""
        return Sent(lambda response: response.text, {"benchmark": benchmark})


def _as(kind: type[T]) -> Callable[[httpx2.Response], T]:
    return lambda response: TypeAdapter(kind).validate_json(response.content)


def _encoder_or_job(response: httpx2.Response) -> schemas.EncoderOut | schemas.Accepted:
    kind = schemas.Accepted if response.status_code == 202 else schemas.EncoderOut
    return kind.model_validate_json(response.content)


def _matrix(response: httpx2.Response) -> NDArray[Any]:
    matrix: NDArray[Any] = np.load(io.BytesIO(response.content), allow_pickle=False)
    return matrix


def _nothing(response: httpx2.Response) -> None:
    return None


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _floats(descriptors: ArrayLike) -> NDArray[Any]:
    X = np.asarray(descriptors)
    X = X if X.dtype == np.float32 else X.astype(np.float64)
    if X.ndim != 2:
        raise ValueError(f"descriptors must have shape (n, d), got {X.shape}")
    return X


def _npy(*arrays: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    for array in arrays:
        np.save(file, array, allow_pickle=False)
    return file.getvalue()
