"""Recommendations, which are jobs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from bitcell_client.arguments import AnyJob, as_integer, as_list, as_number, job_id
from bitcell_client.call import Request, answer_as, call, read_text, without_none
from bitcell_client.results import Accepted, Collection, Job


class RecommendationCalls:
    """Calls about recommendations."""

    @call("POST", "/v1/recommendations")
    def start_recommendation(
        self,
        *,
        dataset: str | None = None,
        collection: str | None = None,
        within: float | None = None,
        recall: float | None = None,
        bytes: int | None = None,  # noqa: A002  The name of the field.
        k: int | None = None,
        rerank: int | None = None,
        distance: Literal["euclidean", "cosine"] | None = None,
        methods: Iterable[str] | None = None,
        max_bits: int | None = None,
        seconds: float | None = None,
        items: int | None = None,
        seed: int | None = None,
    ) -> Request[Accepted]:
        """Start a job that finds the smallest code that reaches a goal, or the best one of a size.

        Give a dataset or a collection, and one goal: `within` points of the descriptors' mAP,
        `recall` of the true neighbours, or `bytes` per item. What is None is left to the service's
        default.
        """
        body = {
            "dataset": dataset,
            "collection": collection,
            "within": as_number("within", within),
            "recall": as_number("recall", recall),
            "bytes": as_integer("bytes", bytes),
            "k": as_integer("k", k),
            "rerank": as_integer("rerank", rerank),
            "distance": distance,
            "methods": None if methods is None else as_list("methods", methods),
            "max_bits": as_integer("max_bits", max_bits),
            "seconds": as_number("seconds", seconds),
            "items": as_integer("items", items),
            "seed": as_integer("seed", seed),
        }
        return Request(answer_as(Accepted), json=without_none(body))

    @call("GET", "/v1/recommendations")
    def recommendations(self) -> Request[list[Job]]:
        """Return all recommendations, newest first, without their results."""
        return Request(answer_as(list[Job]))

    @call("GET", "/v1/recommendations/{recommendation}")
    def recommendation(self, recommendation: AnyJob) -> Request[Job]:
        """Return a recommendation: its state and progress; its answer when it is done."""
        return Request(answer_as(Job), {"recommendation": job_id(recommendation)})

    @call("GET", "/v1/recommendations/{recommendation}/report")
    def recommendation_report(self, recommendation: AnyJob) -> Request[str]:
        """Return the report: one HTML page with the answer, the table and the curves."""
        return Request(read_text, {"recommendation": job_id(recommendation)})

    @call("POST", "/v1/recommendations/{recommendation}/make")
    def make_recommended(self, recommendation: AnyJob, name: str) -> Request[Collection]:
        """Create the recommended encoder, and an empty collection for it, under a new name."""
        return Request(
            answer_as(Collection), {"recommendation": job_id(recommendation)}, json={"name": name}
        )
