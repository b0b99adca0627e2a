"""Queries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitcell_client.arguments import (
    Codes,
    as_bool,
    as_bytes,
    as_hex,
    as_ids,
    as_integer,
    as_matrix,
    as_number,
    as_object,
    as_shaped,
)
from bitcell_client.batches import BATCH, split
from bitcell_client.call import (
    NPY,
    Request,
    answer_as,
    as_npy,
    call,
    without_none,
)
from bitcell_client.neighbours import QueryResult
from bitcell_client.results import RerankBy

_DEFAULT_K, _MAX_RESULTS = 10, 200_000


class QueryCalls:
    """Calls about queries."""

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
        false_match_rate: float | None = None,
        calibrated: bool = False,
        max_score: float | None = None,
        payloads: bool = True,
        codes: bool | Codes = False,
        return_codes: bool = False,
        offset: int = 0,
        filter: Mapping[str, Any] | None = None,  # noqa: A002
        rerank: int | None = None,
        rerank_by: RerankBy | None = None,
        confidence: float | None = None,
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
        false_match_rate : float, optional
            In place of `radius`: the greatest radius at which at most this share of unrelated pairs
            of items match. The certificates state it in `false_matches`.
        calibrated : bool
            Whether neighbours come with the `angle` that their distance means, and its interval.
        max_score : float, optional
            The greatest estimated distance of a neighbour, in a collection that ranks by estimates.
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
        rerank_by : {"descriptors", "cosine", "bits"}, optional
            The Euclidean distance to the kept descriptors, which is the default where they are
            kept; or one minus the cosine with them; or the asymmetric distance of the query's
            projection to the codes.
        confidence : float, optional
            In a collection that keeps descriptors: compare as many items by them as it takes to
            find each true neighbour with this probability, from 0.5 up to, not including, 1.
            Where items are ranked by the Hamming distance, how many is measured on the items.
        batch : int
            The most queries of one request; fewer if they have many neighbours.

        Returns
        -------
        QueryResult
            `results`: for each query, its neighbours, each with `id`, `distance` and, where there
            are any, `label`, `payload`, `score`, `code`, and `angle` with `angle_low` and
            `angle_high`. `certificates`: for each query,
            `exact`, `radius`, `looked`, `tie` and, with a radius, `within` and `truncated`; with
            estimates, `ranking` and `error_bound`, or `confidence` and `reranked`; `calibration`
            and `false_matches`, if asked for. `codes` of the queries, if asked for.
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
                "false_match_rate": as_number("false_match_rate", false_match_rate),
                # Sent only if it is set, so that earlier services answer all other queries.
                "calibrated": as_bool("calibrated", calibrated) or None,
                "max_score": as_number("max_score", max_score),
                "payloads": as_bool("payloads", payloads),
                "return_codes": as_bool("return_codes", return_codes) or bool(flag),
                "offset": as_integer("offset", offset),
                "rerank": as_integer("rerank", rerank),
                "rerank_by": rerank_by,
                "confidence": as_number("confidence", confidence),
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
