"""One collection in Milvus: its fields, its index, and the calls that read and write it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from time import monotonic, sleep
from typing import Any, Literal, NamedTuple

from pymilvus.grpc_gen import common_pb2, milvus_pb2, schema_pb2

from bitcodes import Codes, code_size
from index.errors import Unavailable
from index.milvus.server.columns import (
    CODE,
    DESCRIPTOR,
    ID,
    LABEL,
    MAX_ID,
    MAX_TEXT,
    PAYLOAD,
    SERIAL,
    Columns,
    Types,
    read_columns,
)
from index.milvus.server.connection import Connection

REACH = 16_384
"""Most items that a search returns for a query, and that a query returns in the order of ids."""

Consistency = Literal["strong", "session", "bounded"]
CONSISTENCIES: tuple[Consistency, ...] = ("strong", "session", "bounded")
# Seconds between questions whether Milvus has done what it does in the background.
_POLL = 0.02
# Of a collection that is loaded: Milvus 2.3 takes some seconds even where it is empty.
_LOAD_TIMEOUT = 60.0


class At(NamedTuple):
    """What a reader sees: what level of Milvus, and up to when all writes."""

    level: int
    stamp: int


def at(consistency: Consistency, stamp: int) -> At:
    """Return what a reader sees, after a write that has the time `stamp` in Milvus."""
    if consistency == "session":
        return At(common_pb2.Session, max(stamp, 1))
    # Milvus finds out itself what the others may miss.
    return At(common_pb2.Strong if consistency == "strong" else common_pb2.Bounded, 0)


class Physical:
    """A collection in Milvus by its name there."""

    def __init__(self, connection: Connection, name: str, n_bits: int) -> None:
        self._connection, self.name, self._n_bits = connection, name, n_bits
        self._is_exact = False

    def exists(self) -> bool:
        """Return whether Milvus has it."""
        found = self._connection.call("ShowCollections", milvus_pb2.ShowCollectionsRequest())
        return self.name in found.collection_names

    def create(self, *, keeps_descriptors: bool) -> None:
        """Make it, with an index that compares all codes, and load it."""
        call, name = self._connection.call, self.name
        call("CreateCollection", self._schema(keeps_descriptors=keeps_descriptors))
        call(
            "CreateIndex",
            milvus_pb2.CreateIndexRequest(
                collection_name=name,
                field_name=CODE,
                index_name=CODE,
                extra_params=_pairs(index_type="BIN_FLAT", metric_type="HAMMING", params="{}"),
            ),
        )
        call("LoadCollection", milvus_pb2.LoadCollectionRequest(collection_name=name))
        end = monotonic() + _LOAD_TIMEOUT
        while True:
            request = milvus_pb2.GetLoadStateRequest(collection_name=name)
            if call("GetLoadState", request).state == common_pb2.LoadStateLoaded:
                return
            if monotonic() > end:
                raise Unavailable(f"Milvus has not loaded {name} within {_LOAD_TIMEOUT:g} s")
            sleep(_POLL)

    def _schema(self, *, keeps_descriptors: bool) -> Any:
        fields = [
            _field(ID, Types.VarChar, is_primary_key=True, max_length=MAX_ID),
            _field(CODE, Types.BinaryVector, dim=8 * code_size(self._n_bits)),
            _field(LABEL, Types.Int64),
            _field(SERIAL, Types.Int64),
            _field(PAYLOAD, Types.JSON),
        ]
        if keeps_descriptors:
            fields.append(_field(DESCRIPTOR, Types.VarChar, max_length=MAX_TEXT))
        schema = schema_pb2.CollectionSchema(name=self.name, fields=fields)
        return milvus_pb2.CreateCollectionRequest(
            collection_name=self.name,
            schema=schema.SerializeToString(),
            # A write of two shards would be seen in parts.
            shards_num=1,
            consistency_level=common_pb2.Strong,
        )

    def drop(self) -> None:
        """Delete it; do nothing if there is none."""
        request = milvus_pb2.DropCollectionRequest(collection_name=self.name)
        self._connection.call("DropCollection", request)

    def is_exact(self) -> bool:
        """Return whether Milvus reports an index that compares all codes."""
        if not self._is_exact:
            request = milvus_pb2.DescribeIndexRequest(collection_name=self.name, field_name=CODE)
            found = self._connection.call("DescribeIndex", request).index_descriptions
            params = [{pair.key: pair.value for pair in each.params} for each in found]
            self._is_exact = bool(params) and all(
                each.get("index_type") == "BIN_FLAT" and each.get("metric_type") == "HAMMING"
                for each in params
            )
        return self._is_exact

    def flush(self, timeout: float) -> None:
        """Return once all that was written before is on the disks of Milvus."""
        request = milvus_pb2.FlushRequest(collection_names=[self.name])
        flushed = self._connection.call("Flush", request)
        state = milvus_pb2.GetFlushStateRequest(
            segmentIDs=flushed.coll_segIDs[self.name].data,
            flush_ts=flushed.coll_flush_ts[self.name],
            collection_name=self.name,
        )
        end = monotonic() + timeout
        while not self._connection.call("GetFlushState", state).flushed:
            if monotonic() > end:
                raise Unavailable(f"Milvus has not flushed {self.name} within {timeout:g} s")
            sleep(_POLL)

    def upsert(self, request: Any) -> int:
        """Insert or replace items; return Milvus's time of the write."""
        request.collection_name = self.name
        return int(self._connection.call("Upsert", request).timestamp)

    def delete(self, ids: Sequence[str]) -> int:
        """Delete items by their ids; return Milvus's time of the write."""
        request = milvus_pb2.DeleteRequest(collection_name=self.name, expr=among(ids))
        stamp = int(self._connection.call("Delete", request).timestamp)
        if stamp == 0:  # As Milvus 2.3 says it: a later time serves as well.
            later = self._connection.call("AllocTimestamp", milvus_pb2.AllocTimestampRequest())
            stamp = int(later.timestamp)
        return stamp

    def query(
        self,
        where: str,
        fields: Sequence[str],
        at: At,
        limit: int | None = None,
    ) -> Columns:
        """Return fields of the items that meet an expression.

        With a limit they are the first in the order of ids. Others come in any order.
        """
        answer = self._query(where, fields, at, {} if limit is None else {"limit": limit})
        return read_columns(answer.fields_data, self._n_bits)

    def count(self, where: str, at: At) -> int:
        """Return how many items meet an expression; all for an empty one."""
        (field,) = self._query(where, ["count(*)"], at, {}).fields_data
        return int(field.scalars.long_data.data[0])

    def _query(self, where: str, fields: Sequence[str], at: At, params: Any) -> Any:
        return self._connection.call(
            "Query",
            milvus_pb2.QueryRequest(
                collection_name=self.name,
                expr=where,
                output_fields=fields,
                consistency_level=at.level,
                guarantee_timestamp=at.stamp,
                query_params=_pairs(**params),
            ),
        )

    def search(
        self,
        codes: Codes,
        limit: int,
        fields: Sequence[str],
        where: str,
        at: At,
        within: tuple[int, int] | None = None,
    ) -> Any:
        """Return what Milvus finds: `limit` items for each code, in any order of equal distances.

        `within` are the smallest distance that may be found, and the largest.
        """
        # The largest one is exclusive in Milvus, and the smallest is not.
        params = {} if within is None else {"range_filter": within[0], "radius": within[1] + 1}
        group = common_pb2.PlaceholderGroup(
            placeholders=[
                common_pb2.PlaceholderValue(
                    tag="$0",
                    type=common_pb2.PlaceholderType.BinaryVector,
                    values=[code.tobytes() for code in codes],
                )
            ]
        )
        return self._connection.call(
            "Search",
            milvus_pb2.SearchRequest(
                collection_name=self.name,
                dsl=where,
                dsl_type=common_pb2.DslType.BoolExprV1,
                placeholder_group=group.SerializeToString(),
                nq=len(codes),
                output_fields=fields,
                consistency_level=at.level,
                guarantee_timestamp=at.stamp,
                search_params=_pairs(
                    anns_field=CODE,
                    topk=limit,
                    metric_type="HAMMING",
                    params=json.dumps(params),
                    round_decimal=-1,
                ),
            ),
        ).results


def among(ids: Sequence[str]) -> str:
    """Return the expression of some ids, of which each is a string that nothing in it can end."""
    # No item has the empty id.
    return f"id in [{', '.join(map(quoted, ids or ['']))}]"


def quoted(text: str) -> str:
    """Return text as an expression of Milvus."""
    return json.dumps(text, ensure_ascii=False)


def _field(name: str, of: int, *, is_primary_key: bool = False, **params: Any) -> Any:
    return schema_pb2.FieldSchema(
        name=name, data_type=of, is_primary_key=is_primary_key, type_params=_pairs(**params)
    )


def _pairs(**values: Any) -> list[Any]:
    return [common_pb2.KeyValuePair(key=key, value=str(value)) for key, value in values.items()]
