"""A client of the service: numpy in and out, without the service's own dependencies.

>>> from app.client import Client
>>> with Client("http://localhost:8000", key=None) as bitcell:  # doctest: +SKIP
...     bitcell.query("demo", ids=["digit-0007"], k=3).results[0]
"""

from app.client.connection import AsyncClient, Client
from app.client.errors import (
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

__all__ = [
    "AsyncClient",
    "BitcellError",
    "Client",
    "Conflict",
    "Forbidden",
    "InvalidRequest",
    "JobFailed",
    "NotFound",
    "ServiceError",
    "TooLarge",
    "TooMany",
    "Unauthorized",
    "Unavailable",
    "Unreachable",
]
