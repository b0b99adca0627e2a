"""Items of a collection: write, read, delete, and query."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitcell_client.arguments import (
    as_bool,
    as_bytes,
    as_id,
    as_id_array,
    as_ids,
    as_integer,
    as_items,
    as_labels,
    as_list,
    as_matrix,
    as_object,
    as_shaped,
    check_lengths,
)
from bitcell_client.batches import BATCH, split
from bitcell_client.call import (
    NPY,
    Request,
    answer_as,
    as_npy,
    call,
    read_nothing,
    without_none,
)
from bitcell_client.codes import Codes, as_hex, descriptors_or_codes
from bitcell_client.results import Deleted, Item, ItemPage, QueryResult, RerankBy, Upserted

_DEFAULT_K, _MAX_RESULTS = 10, 200_000


class ItemCalls:
    """Calls about items."""

    @call("PUT", "/v1/collections/{name}/items", safe=True)
    def upsert(
        self,
        name: str,
        ids: Iterable[str | int],
        descriptors: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        payloads: Sequence[Mapping[str, Any] | None] | None = None,
        *,
        codes: Codes | None = None,
    ) -> Request[Upserted]:
        """Insert items, or replace those whose id exists: all or none, on disk on return.

        This is one request, no larger than the service accepts; `load` takes any number of items.

        Parameters
        ----------
        name : str
            The collection.
        ids : sequence of str or int
            One per descriptor or code; integers become their decimal digits.
        descriptors : array-like, (n, d), optional
            For a collection with an encoder.
        labels : array-like of int, (n,), optional
            -1 or None for none.
        payloads : sequence of dict or None, optional
            JSON objects; numbers and arrays of numpy become plain ones.
        codes : (n, ceil(n_bits / 8)) uint8, or n strings in hex, optional
            In place of descriptors, for a collection without an encoder.
        """
        what, X = descriptors_or_codes(descriptors, codes)
        if what == "descriptor":
            X = as_matrix(X)
        strings = as_ids(ids)
        integers = None if labels is None else as_labels(labels)
        objects = None if payloads is None else as_list("payloads", payloads)
        check_lengths(X, strings, integers, objects, what)
        read, path = answer_as(Upserted), {"name": name}
        if objects is None:
            arrays = [X, as_id_array(strings), *([] if integers is None else [integers])]
            # A collection with an encoder would take codes for descriptors.
            query = {} if codes is None else {"holds": "codes"}
            headers = {"Content-Type": NPY}
            return Request(read, path, query, content=as_npy(*arrays), headers=headers)
        values = X.tolist() if codes is None else as_hex(X)
        items = [
            {"id": id_, what: value, "payload": as_object(f"the payload of {id_!r}", payload)}
            for id_, value, payload in zip(strings, values, objects, strict=True)
        ]
        if integers is not None:
            for item, label in zip(items, integers.tolist(), strict=True):
                item["label"] = label
        headers = {"Content-Type": "application/json"}
        return Request(read, path, content=as_items(items), headers=headers)

    @call("GET", "/v1/collections/{name}/items")
    def items(self, name: str, limit: int = 100, offset: int = 0) -> Request[ItemPage]:
        """Return a page of items, in an order that is stable while nothing is written."""
        query = {"limit": as_integer("limit", limit), "offset": as_integer("offset", offset)}
        return Request(answer_as(ItemPage), {"name": name}, query)

    @call("GET", "/v1/collections/{name}/items/{item_id}")
    def item(self, name: str, item_id: str | int) -> Request[Item]:
        """Return one item."""
        return Request(answer_as(Item), {"name": name, "item_id": as_id(item_id)})

    @call("DELETE", "/v1/collections/{name}/items/{item_id}")
    def delete_item(self, name: str, item_id: str | int) -> Request[None]:
        """Delete one item."""
        return Request(read_nothing, {"name": name, "item_id": as_id(item_id)})

    @call("POST", "/v1/collections/{name}/items/delete")
    def delete_items(self, name: str, ids: Iterable[str | int]) -> Request[Deleted]:
        """Delete items; ids that do not exist are ignored."""
        body = {"ids": as_ids(ids, ordered=False)}
        return Request(answer_as(Deleted), {"name": name}, json=body)

    @call("POST", "/v1/collections/{name}/query", safe=True)
    def query(
        self,
        name: str,
        descriptors: ArrayLike | None = None,
        *,
        ids: Iterable[str | int] | None = None,
        image: bytes | None = None,
        k: int | None = None,
        radius: int | None = None,
        payloads: bool = True,
        codes: bool | Codes = False,
        return_codes: bool = False,
        offset: int = 0,
        filter: Mapping[str, Any] | None = None,  # noqa: A002
        rerank: int | None = None,
        rerank_by: RerankBy | None = None,
        batch: int = BATCH,
    ) -> Request[QueryResult]:
        """Return the nearest items by Hamming distance, exactly.

        Any number of queries is sent in as many requests as they need. Between those, others may
        write to the collection.

        Parameters
        ----------
        name : str
            The collection.
        descriptors : array-like, (n, d), optional
            The queries; or one of ids, image and codes.
        ids : sequence of str or int, optional
            Items of the collection as queries.
        image : bytes, optional
            An image file as the query, of a collection of GIST descriptors.
        k : int, optional
            Neighbours per query: by default 10, or with `radius` as many as the service allows.
        radius : int, optional
            The greatest Hamming distance of a neighbour.
        payloads : bool
            Whether neighbours come with payloads.
        codes : (n, ceil(n_bits / 8)) uint8, or n strings in hex, optional
            Codes as queries, in any collection of codes of this length. True is the same as
            `return_codes`.
        return_codes : bool
            Whether codes come, of queries and neighbours.
        offset : int
            How many of the nearest to leave out.
        filter : dict, optional
            A condition on labels and payloads, as in `{"label": {"in": [1, 2]}}`. Not with
            `image`.
        rerank : int, optional
            Take this many by Hamming distance and order them by `rerank_by`.
        rerank_by : {"descriptors", "bits"}, optional
            The Euclidean distance to the kept descriptors, which is the default where they are
            kept; or the asymmetric distance of the query's projection to the codes.
        batch : int
            The most queries of one request; fewer if they have many neighbours.

        Returns
        -------
        QueryResult
            `results`: for each query, its neighbours, each with `id`, `distance` and, where there
            are any, `label`, `payload`, `score` and `code`. `certificates`: for each query,
            `exact`, `radius`, `looked`, `tie` and, with a radius, `within` and `truncated`. `codes`
            of the queries, if asked for.
            `to_pandas()` makes a table of it.
        """
        flag, given = (codes, None) if isinstance(codes, bool | np.bool_) else (False, codes)
        if sum(queries is not None for queries in (descriptors, ids, image, given)) != 1:
            raise ValueError("expected one of descriptors, ids, image and codes")
        if image is not None and filter is not None:
            raise ValueError(
                "expected no filter with an image: query by its descriptor instead, from `gist`"
            )
        if rerank_by is not None and rerank is None:
            raise ValueError("rerank_by needs rerank, the number of items to reorder")
        options = without_none(
            {
                "k": as_integer("k", k),
                "radius": as_integer("radius", radius),
                "payloads": as_bool("payloads", payloads),
                "return_codes": as_bool("return_codes", return_codes) or bool(flag),
                "offset": as_integer("offset", offset),
                "rerank": as_integer("rerank", rerank),
                "rerank_by": rerank_by,
            }
        )
        if image is not None:
            # The service looks at the file itself: any image type will do.
            content, headers = as_bytes("image", image), {"Content-Type": "image/png"}
            path = {"name": name}
            return Request(answer_as(QueryResult), path, options, content=content, headers=headers)
        conditions = as_object("filter", filter)
        most = min(as_integer("batch", batch), _most(options))
        if descriptors is not None:
            return _query_by_descriptors(name, as_shaped(descriptors), options, conditions, most)
        body = without_none(options | {"filter": conditions})
        if given is not None:
            return _query_by_names(name, "codes", as_hex(given), body, most)
        return _query_by_names(name, "ids", as_ids(() if ids is None else ids), body, most)


def _query_by_names(
    name: str, what: str, names: list[str], body: dict[str, Any], most: int
) -> Request[QueryResult]:
    """Return the request of a query by ids, or by codes in hex."""

    def request(part: list[str]) -> Request[QueryResult]:
        return Request(answer_as(QueryResult), {"name": name}, json=body | {what: part})

    return split(names, request, _join, most=most)


def _query_by_descriptors(
    name: str,
    X: NDArray[Any],
    options: dict[str, Any],
    conditions: dict[str, Any] | None,
    most: int,
) -> Request[QueryResult]:
    read, path = answer_as(QueryResult), {"name": name}

    def request(part: NDArray[Any]) -> Request[QueryResult]:
        matrix = as_matrix(part)
        if conditions is None:
            headers = {"Content-Type": NPY}
            return Request(read, path, options, content=as_npy(matrix), headers=headers)
        body = options | {"filter": conditions, "descriptors": matrix.tolist()}
        return Request(read, path, json=body)

    return split(X, request, _join, most=most, is_json=conditions is not None)


def _most(options: dict[str, Any]) -> int:
    """Return how many queries the service answers at once by default."""
    page: int = options["offset"] + options.get("k", _DEFAULT_K)
    return int(_MAX_RESULTS // max(1, options.get("rerank", page)))


def _join(answers: list[QueryResult]) -> QueryResult:
    return QueryResult(
        results=[row for answer in answers for row in answer.results],
        certificates=[row for answer in answers for row in answer.certificates],
        codes=None if answers[0].codes is None else [c for a in answers for c in a.codes or ()],
    )
