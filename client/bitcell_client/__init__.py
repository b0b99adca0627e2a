"""A client of a Bitcell service: numpy in and out, typed, blocking or async.

>>> from bitcell_client import Client
>>> with Client("http://localhost:8000", key=None) as bitcell:  # doctest: +SKIP
...     bitcell.query("demo", ids=["digit-0007"], k=3).results[0]
"""

from bitcell_client._version import __version__
from bitcell_client.async_client import AsyncClient
from bitcell_client.client import Client
from bitcell_client.errors import (
    BitcellError,
    Conflict,
    Forbidden,
    InvalidRequest,
    JobFailed,
    NotFound,
    ServiceError,
    TooLarge,
    TooMany,
    Unauthorized,
    Unavailable,
    Unreachable,
)
from bitcell_client.groups import DuplicateGroup, DuplicateGroups
from bitcell_client.neighbours import (
    Calibration,
    Certificate,
    FalseMatches,
    Neighbour,
    QueryResult,
)
from bitcell_client.results import (
    Accepted,
    Changed,
    Collection,
    Counted,
    Dataset,
    Deleted,
    Encoder,
    Item,
    ItemPage,
    Job,
    Method,
    Progress,
    Snapshot,
    SnapshotFile,
    UploadedDataset,
    Upserted,
)
from bitcell_client.statistics import (
    BitPair,
    BitStatistics,
    BucketSizes,
    BucketStatistics,
    Difference,
    Drift,
    Statistics,
)

__all__ = [
    "Accepted",
    "AsyncClient",
    "BitPair",
    "BitStatistics",
    "BitcellError",
    "BucketSizes",
    "BucketStatistics",
    "Calibration",
    "Certificate",
    "Changed",
    "Client",
    "Collection",
    "Conflict",
    "Counted",
    "Dataset",
    "Deleted",
    "Difference",
    "Drift",
    "DuplicateGroup",
    "DuplicateGroups",
    "Encoder",
    "FalseMatches",
    "Forbidden",
    "InvalidRequest",
    "Item",
    "ItemPage",
    "Job",
    "JobFailed",
    "Method",
    "Neighbour",
    "NotFound",
    "Progress",
    "QueryResult",
    "ServiceError",
    "Snapshot",
    "SnapshotFile",
    "Statistics",
    "TooLarge",
    "TooMany",
    "Unauthorized",
    "Unavailable",
    "Unreachable",
    "UploadedDataset",
    "Upserted",
    "__version__",
]
