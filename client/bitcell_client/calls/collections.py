"""Collections as a whole: create, list, re-encode, copy, delete."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bitcell_client.arguments import as_bool, as_integer, as_object
from bitcell_client.call import Request, answer_as, call, read_nothing, without_none
from bitcell_client.results import (
    Accepted,
    Collection,
    DescriptorType,
    Metric,
    Ranking,
    Snapshot,
    SnapshotFile,
)
from bitcell_client.statistics import Drift, Statistics


class CollectionCalls:
    """Calls about collections."""

    @call("GET", "/v1/collections")
    def collections(self) -> Request[list[Collection]]:
        """Return all collections, by name."""
        return Request(answer_as(list[Collection]))

    @call("GET", "/v1/collections/{name}")
    def collection(self, name: str) -> Request[Collection]:
        """Return one collection."""
        return Request(answer_as(Collection), {"name": name})

    @call("GET", "/v1/collections/{name}/statistics")
    def statistics(self, name: str) -> Request[Statistics]:
        """Return how balanced and correlated the bits are, and how many items share a code."""
        return Request(answer_as(Statistics), {"name": name})

    @call("POST", "/v1/collections/{name}/drift/reference")
    def accept_drift(self, name: str) -> Request[Drift]:
        """Compare new items with all present ones from now on, and forget the alarms.

        Return the new state. The collection needs at least 2,000 items.
        """
        return Request(answer_as(Drift), {"name": name})

    @call("POST", "/v1/collections")
    def create_collection(
        self,
        name: str,
        encoder: str | None = None,
        *,
        n_bits: int | None = None,
        keep_descriptors: bool | DescriptorType = False,
        ranking: Ranking | None = None,
        metric: Metric | None = None,
    ) -> Request[Collection]:
        """Create an empty collection, for the codes of an encoder or for codes of your own.

        Parameters
        ----------
        name : str
        encoder : str, optional
            What encodes the descriptors that items and queries come with.
        n_bits : int, optional
            In place of an encoder: the length, 1 to 4,096, of codes that items and queries come
            with.
        keep_descriptors : bool, "float32" or "float16"
            Whether the service also keeps the descriptors on disk: to rerank by, and to re-encode
            or train from. Needs an encoder. `True` keeps float32. "float16" takes half the room,
            and items whose codes it would change are refused.
        ranking : {"hamming", "estimate"}, optional
            Rank by the Hamming distance of codes, the default, or by estimates of the distance of
            descriptors, which an encoder of method `rabitq` makes.
        metric : {"euclidean", "cosine", "dot"}, optional
            The distance that is estimated: by default the first that the encoder estimates.
        """
        body = {
            "name": name,
            "encoder": encoder,
            "n_bits": as_integer("n_bits", n_bits),
            "keep_descriptors": _as_kept(keep_descriptors),
            "ranking": ranking,
            "metric": metric,
        }
        return Request(answer_as(Collection), json=without_none(body))

    @call("PUT", "/v1/collections/{name}", safe=True)
    def get_or_create_collection(
        self,
        name: str,
        encoder: str | None = None,
        *,
        n_bits: int | None = None,
        keep_descriptors: bool | DescriptorType = False,
        ranking: Ranking | None = None,
        metric: Metric | None = None,
    ) -> Request[Collection]:
        """Create a collection as `create_collection` does, or return the one that exists.

        Raise Conflict if that one has other settings.
        """
        body = {
            "encoder": encoder,
            "n_bits": as_integer("n_bits", n_bits),
            "keep_descriptors": _as_kept(keep_descriptors),
            "ranking": ranking,
            "metric": metric,
        }
        return Request(answer_as(Collection), {"name": name}, json=without_none(body))

    @call("DELETE", "/v1/collections/{name}")
    def drop_collection(self, name: str) -> Request[None]:
        """Delete a collection and its items."""
        return Request(read_nothing, {"name": name})

    @call("POST", "/v1/collections/{name}/reencode")
    def reencode(
        self,
        name: str,
        encoder: str,
        *,
        ranking: Ranking | None = None,
        metric: Metric | None = None,
    ) -> Request[Accepted]:
        """Start a job that encodes a collection's kept descriptors with another encoder.

        `ranking` and `metric` are as in `create_collection`; by default, the collection is ranked
        as before.
        """
        body = {"encoder": encoder, "ranking": ranking, "metric": metric}
        return Request(answer_as(Accepted), {"name": name}, json=without_none(body))

    @call("POST", "/v1/collections/{name}/duplicates")
    def find_duplicates(
        self,
        name: str,
        radius: int,
        *,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - the name in the API
        max_pairs: int | None = None,
    ) -> Request[Accepted]:
        """Start a job that finds all pairs of items within a Hamming distance, and their groups.

        `wait` for it; `duplicate_groups` then returns the groups. They are complete even if there
        are more pairs than `max_pairs`, by default 1,000,000.
        """
        body = {
            "radius": as_integer("radius", radius),
            "filter": as_object("filter", filter),
            "max_pairs": as_integer("max_pairs", max_pairs),
        }
        return Request(answer_as(Accepted), {"name": name}, json=without_none(body))

    @call("POST", "/v1/collections/{name}/snapshots")
    def snapshot(self, name: str, *, keep: int | None = None) -> Request[Snapshot]:
        """Write a collection to a file in `snapshots/` of the service's data directory.

        `keep` is how many snapshots of it to keep: older ones that this call has made are deleted.
        With many millions of items this takes minutes, longer than a client waits by default:
        use a client with a longer `timeout`. The same holds for `restore`.
        """
        query = without_none({"keep": as_integer("keep", keep)})
        return Request(answer_as(Snapshot), {"name": name}, query)

    @call("GET", "/v1/snapshots")
    def snapshots(self) -> Request[list[SnapshotFile]]:
        """Return the snapshot files of the service, newest first."""
        return Request(answer_as(list[SnapshotFile]))

    @call("DELETE", "/v1/snapshots/{snapshot}")
    def delete_snapshot(self, snapshot: str) -> Request[None]:
        """Delete a snapshot file of the service."""
        return Request(read_nothing, {"snapshot": snapshot})

    @call("POST", "/v1/collections/{name}/restore")
    def restore(
        self, name: str, snapshot: str, *, encoder: str | None = None
    ) -> Request[Collection]:
        """Create a collection from a snapshot, a file in `snapshots/` of the data directory.

        If there is no encoder of the name that the snapshot gives, or of the name `encoder`, it is
        created too.
        """
        body = without_none({"snapshot": snapshot, "encoder": encoder})
        return Request(answer_as(Collection), {"name": name}, json=body)


def _as_kept(value: object) -> bool | str:
    """Return whether to keep descriptors, or as which type; the service knows the types."""
    return value if isinstance(value, str) else as_bool("keep_descriptors", value)
