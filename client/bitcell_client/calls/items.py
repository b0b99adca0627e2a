"""Items of a collection: write, read, delete, and query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import ArrayLike

from bitcell_client.call import (
    NPY,
    Request,
    answer_as,
    as_integers,
    as_matrix,
    as_npy,
    as_strings,
    call,
    check_lengths,
    read_nothing,
    without_none,
)
from bitcell_client.codes import Codes, as_hex, as_packed
from bitcell_client.results import Deleted, Item, ItemPage, QueryResult, RerankBy, Upserted


class ItemCalls:
    """Calls about items."""

    @call("PUT", "/v1/collections/{name}/items", safe=True)
    def upsert(
        self,
        name: str,
        ids: Sequence[str],
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
        ids : sequence of str
            One per descriptor or code.
        descriptors : array-like, (n, d), optional
            For a collection with an encoder.
        labels : array-like of int, (n,), optional
            -1 for none.
        payloads : sequence of dict or None, optional
            JSON objects.
        codes : (n, ceil(n_bits / 8)) uint8, or n strings in hex, optional
            In place of descriptors, for a collection without an encoder.
        """
        if codes is not None and descriptors is None:
            what, X = "code", as_packed(codes)
        elif descriptors is not None and codes is None:
            what, X = "descriptor", as_matrix(descriptors)
        else:
            raise ValueError("expected either descriptors or codes")
        integers = None if labels is None else as_integers(labels)
        check_lengths(X, ids, integers, payloads, what)
        read, path = answer_as(Upserted), {"name": name}
        if payloads is None:
            arrays = [X, as_strings(ids), *([] if integers is None else [integers])]
            # A collection with an encoder would take codes for descriptors.
            query = {} if codes is None else {"holds": "codes"}
            headers = {"Content-Type": NPY}
            return Request(read, path, query, content=as_npy(*arrays), headers=headers)
        values = X.tolist() if codes is None else as_hex(X)
        items = [
            {"id": id_, what: value, "payload": None if payload is None else dict(payload)}
            for id_, value, payload in zip(ids, values, payloads, strict=True)
        ]
        if integers is not None:
            for item, label in zip(items, integers.tolist(), strict=True):
                item["label"] = label
        return Request(read, path, json={"items": items})

    @call("GET", "/v1/collections/{name}/items")
    def items(self, name: str, limit: int = 100, offset: int = 0) -> Request[ItemPage]:
        """Return a page of items, in an order that is stable while nothing is written."""
        query = {"limit": limit, "offset": offset}
        return Request(answer_as(ItemPage), {"name": name}, query)

    @call("GET", "/v1/collections/{name}/items/{item_id}")
    def item(self, name: str, item_id: str) -> Request[Item]:
        """Return one item."""
        return Request(answer_as(Item), {"name": name, "item_id": item_id})

    @call("DELETE", "/v1/collections/{name}/items/{item_id}")
    def delete_item(self, name: str, item_id: str) -> Request[None]:
        """Delete one item."""
        return Request(read_nothing, {"name": name, "item_id": item_id})

    @call("POST", "/v1/collections/{name}/items/delete")
    def delete_items(self, name: str, ids: Sequence[str]) -> Request[Deleted]:
        """Delete items; ids that do not exist are ignored."""
        return Request(answer_as(Deleted), {"name": name}, json={"ids": list(ids)})

    @call("POST", "/v1/collections/{name}/query", safe=True)
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
        codes: bool | Codes = False,
        return_codes: bool = False,
        offset: int = 0,
        filter: Mapping[str, Any] | None = None,  # noqa: A002
        rerank: int | None = None,
        rerank_by: RerankBy | None = None,
    ) -> Request[QueryResult]:
        """Return the nearest items by Hamming distance, exactly.

        Parameters
        ----------
        name : str
            The collection.
        descriptors : array-like, (n, d), optional
            The queries; or one of ids, image and codes.
        ids : sequence of str, optional
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
        """
        given = None if isinstance(codes, bool) else codes
        if sum(queries is not None for queries in (descriptors, ids, image, given)) != 1:
            raise ValueError("expected one of descriptors, ids, image and codes")
        if image is not None and filter is not None:
            raise ValueError(
                "expected no filter with an image: query by its descriptor instead, from `gist`"
            )
        options = without_none(
            {
                "k": k,
                "radius": radius,
                "payloads": payloads,
                "return_codes": return_codes or codes is True,
                "offset": offset,
                "rerank": rerank,
                "rerank_by": rerank_by,
            }
        )
        read, path = answer_as(QueryResult), {"name": name}
        if image is not None:
            # The service looks at the file itself: any image type will do.
            headers = {"Content-Type": "image/png"}
            return Request(read, path, options, content=image, headers=headers)
        X = None if descriptors is None else as_matrix(descriptors)
        if X is not None and filter is None:
            headers = {"Content-Type": NPY}
            return Request(read, path, options, content=as_npy(X), headers=headers)
        queries = {
            "descriptors": None if X is None else X.tolist(),
            "ids": None if ids is None else list(ids),
            "codes": None if given is None else as_hex(given),
        }
        return Request(read, path, json=without_none(options | queries | {"filter": filter}))
