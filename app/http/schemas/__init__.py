"""Request and response bodies, for pydantic and for the OpenAPI document."""

from app.http.schemas.collections import (
    CollectionOut,
    NewCollection,
    Reencode,
    Restore,
    SnapshotOut,
)
from app.http.schemas.encoders import (
    CodesOut,
    DescriptorsOut,
    EncoderOut,
    Images,
    MethodOut,
    NewEncoder,
    ToEncode,
    Training,
)
from app.http.schemas.fields import Body
from app.http.schemas.items import Deleted, Ids, ItemOut, ItemsOut, NewItem, NewItems, Upserted
from app.http.schemas.jobs import Accepted, JobOut, NewBenchmark, ProgressOut
from app.http.schemas.problems import Problem
from app.http.schemas.queries import (
    CertificateOut,
    Holds,
    NeighbourOut,
    Query,
    QueryInUrl,
    QueryOut,
    RerankBy,
)
from app.http.schemas.statistics import BitsOut, BucketsOut, PairOut, SizesOut, StatisticsOut

__all__ = [
    "Accepted",
    "BitsOut",
    "Body",
    "BucketsOut",
    "CertificateOut",
    "CodesOut",
    "CollectionOut",
    "Deleted",
    "DescriptorsOut",
    "EncoderOut",
    "Holds",
    "Ids",
    "Images",
    "ItemOut",
    "ItemsOut",
    "JobOut",
    "MethodOut",
    "NeighbourOut",
    "NewBenchmark",
    "NewCollection",
    "NewEncoder",
    "NewItem",
    "NewItems",
    "PairOut",
    "Problem",
    "ProgressOut",
    "Query",
    "QueryInUrl",
    "QueryOut",
    "Reencode",
    "RerankBy",
    "Restore",
    "SizesOut",
    "SnapshotOut",
    "StatisticsOut",
    "ToEncode",
    "Training",
    "Upserted",
]
