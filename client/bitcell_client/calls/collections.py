"""Collections as a whole: create, list, re-encode, copy, delete."""

from __future__ import annotations

from bitcell_client.call import Request, answer_as, call, read_nothing, without_none
from bitcell_client.results import Accepted, Collection, Snapshot, Statistics


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

    @call("POST", "/v1/collections")
    def create_collection(
        self,
        name: str,
        encoder: str | None = None,
        *,
        n_bits: int | None = None,
        keep_descriptors: bool = False,
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
        keep_descriptors : bool
            Whether the service also keeps the descriptors, as float16 on disk: to rerank by, and
            to re-encode or train from. Needs an encoder.
        """
        body = {
            "name": name,
            "encoder": encoder,
            "n_bits": n_bits,
            "keep_descriptors": keep_descriptors,
        }
        return Request(answer_as(Collection), json=without_none(body))

    @call("DELETE", "/v1/collections/{name}")
    def drop_collection(self, name: str) -> Request[None]:
        """Delete a collection and its items."""
        return Request(read_nothing, {"name": name})

    @call("POST", "/v1/collections/{name}/reencode")
    def reencode(self, name: str, encoder: str) -> Request[Accepted]:
        """Start a job that encodes a collection's kept descriptors with another encoder."""
        return Request(answer_as(Accepted), {"name": name}, json={"encoder": encoder})

    @call("POST", "/v1/collections/{name}/snapshots")
    def snapshot(self, name: str) -> Request[Snapshot]:
        """Write a collection to a file in `snapshots/` of the service's data directory.

        With many millions of items this takes minutes, longer than a client waits by default:
        use a client with a longer `timeout`. The same holds for `restore`.
        """
        return Request(answer_as(Snapshot), {"name": name})

    @call("POST", "/v1/collections/{name}/restore")
    def restore(self, name: str, snapshot: str) -> Request[Collection]:
        """Create a collection from a snapshot, a file in `snapshots/` of the data directory."""
        return Request(answer_as(Collection), {"name": name}, json={"snapshot": snapshot})
