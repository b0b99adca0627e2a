"""Items of a collection: write, read, change and delete."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from numpy.typing import ArrayLike

from bitcell_client.arguments import (
    Codes,
    as_given_object,
    as_hex,
    as_id,
    as_id_array,
    as_ids,
    as_integer,
    as_labels,
    as_list,
    as_matrix,
    as_object,
    check_lengths,
    descriptors_or_codes,
)
from bitcell_client.call import (
    NPY,
    Request,
    answer_as,
    as_npy,
    call,
    read_nothing,
    without_none,
)
from bitcell_client.json_body import as_items
from bitcell_client.results import (
    Changed,
    Counted,
    Deleted,
    Item,
    ItemPage,
    Upserted,
)


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
        fingerprint: str | None = None,
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
        fingerprint : str, optional
            Of the encoder that made the codes, which a collection with that encoder then takes.
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
            holds = None if codes is None else "codes"
            query = without_none({"holds": holds, "fingerprint": fingerprint})
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
        query = without_none({"fingerprint": fingerprint})
        return Request(read, path, query, content=as_items(items), headers=headers)

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
    def delete_items(
        self,
        name: str,
        ids: Iterable[str | int] | None = None,
        *,
        filter: Mapping[str, Any] | None = None,  # noqa: A002
    ) -> Request[Deleted]:
        """Delete the items with some ids, of which unknown ones are ignored, or all that match.

        With a filter, those that match at one moment are deleted together.
        """
        if (ids is None) == (filter is None):
            raise ValueError("expected either ids or filter")
        body = without_none(
            {
                "ids": None if ids is None else as_ids(ids, ordered=False),
                "filter": as_object("filter", filter),
            }
        )
        return Request(answer_as(Deleted), {"name": name}, json=body)

    @call("POST", "/v1/collections/{name}/items/count", safe=True)
    def count_items(self, name: str, filter: Mapping[str, Any]) -> Request[Counted]:  # noqa: A002
        """Return how many items match a filter."""
        body = {"filter": as_given_object("filter", filter)}
        return Request(answer_as(Counted), {"name": name}, json=body)

    @call("POST", "/v1/collections/{name}/items/list", safe=True)
    def list_items(
        self,
        name: str,
        filter: Mapping[str, Any],  # noqa: A002
        limit: int = 100,
        offset: int = 0,
    ) -> Request[ItemPage]:
        """Return a page of the items that match a filter, in the order of `items`."""
        body = {
            "filter": as_given_object("filter", filter),
            "limit": as_integer("limit", limit),
            "offset": as_integer("offset", offset),
        }
        return Request(answer_as(ItemPage), {"name": name}, json=body)

    @call("PATCH", "/v1/collections/{name}/items/{item_id}")
    def change_item(
        self, name: str, item_id: str | int, change: Mapping[str, Any]
    ) -> Request[Item]:
        """Change the label or the payload of an item, and return it as it is then.

        Parameters
        ----------
        name : str
            The collection.
        item_id : str or int
        change : dict
            A JSON merge patch (RFC 7396) with `label`, `payload` or both, as in
            `{"payload": {"price": 4}}`: what it does not name stays as it is, None removes it.
        """
        path = {"name": name, "item_id": as_id(item_id)}
        return Request(answer_as(Item), path, json=as_given_object("change", change))

    @call("PATCH", "/v1/collections/{name}/items")
    def change_items(self, name: str, changes: Mapping[str, Mapping[str, Any]]) -> Request[Changed]:
        """Change several items, each as `change_item` does: all or none, on disk on return.

        Parameters
        ----------
        name : str
            The collection.
        changes : dict
            The change of each item by its id.
        """
        items = [
            as_given_object(f"the change of {item_id!r}", change) | {"id": as_id(item_id)}
            for item_id, change in as_given_object("changes", changes).items()
        ]
        headers = {"Content-Type": "application/json"}
        content = as_items(items)
        return Request(answer_as(Changed), {"name": name}, content=content, headers=headers)
