"""What is known of a collection in Milvus without asking Milvus."""

from __future__ import annotations

from index.milvus.catalog import Catalog, Row
from index.milvus.writes import Writes
from index.storage.catalog import DescriptorType, Metric


class About:
    """The properties of a collection: its row in the database."""

    def __init__(self, row: Row, catalog: Catalog, writes: Writes) -> None:
        self._row, self._catalog, self.writes = row, catalog, writes

    @property
    def key(self) -> int:
        """The key in the table of collections, which no other collection ever gets."""
        return self._row.key

    @property
    def name(self) -> str:
        """The name."""
        return self._row.name or self._row.making or ""

    @property
    def n_bits(self) -> int:
        """Code length."""
        return self._row.n_bits

    @property
    def encoder(self) -> str:
        """Name of the encoder that makes the codes; empty if they are given."""
        return self._row.encoder

    @property
    def fingerprint(self) -> str:
        """Fingerprint of that encoder."""
        return self._row.fingerprint

    @property
    def keep_descriptors(self) -> bool:
        """Whether descriptors are kept."""
        return self._row.descriptor_type is not None

    @property
    def descriptor_type(self) -> DescriptorType | None:
        """How descriptors are kept; None if they are not."""
        return self._row.descriptor_type

    @property
    def dimension(self) -> int | None:
        """The dimension of the descriptors that are kept; None before the first."""
        if self._row.dimension is None and self.keep_descriptors:
            self._row = self._catalog.read(self.key) or self._row
        return self._row.dimension

    @property
    def metric(self) -> Metric | None:
        """None: codes are ranked by the Hamming distance."""
        return None

    @property
    def written(self) -> int:
        """Number of items that were ever written, as far as Milvus has confirmed it."""
        return self.writes.row().written

    @property
    def version(self) -> int:
        """Another number after each write that searches see."""
        return self.writes.row().version
