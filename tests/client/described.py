"""The calls that the client describes, for tests that go through all of them."""

from __future__ import annotations

from typing import Any

from bitcell_client import Client
from bitcell_client.call import Call
from bitcell_client.files import DATASET, SNAPSHOT
from bitcell_client.following import EVENTS

METHODS: dict[str, Call[Any, Any]] = {
    name: value
    for base in Client.__mro__
    for name, value in vars(base).items()
    if isinstance(value, Call)
}
"""The calls, by the name of the method."""

_STREAMED = {("GET", EVENTS), ("GET", SNAPSHOT), ("PUT", SNAPSHOT), ("PUT", DATASET)}
CALLS = sorted({(call.method, call.path) for call in METHODS.values()} | _STREAMED)
"""The operations of the service that the client has; what is streamed is not a `Call`."""
