"""Every call of the service, as methods of both clients.

`Client` returns the answer of a call, `AsyncClient` an awaitable of it. Errors are those of
`bitcell_client.errors`.
"""

from bitcell_client.calls.collections import CollectionCalls
from bitcell_client.calls.encoders import EncoderCalls
from bitcell_client.calls.health import HealthCalls
from bitcell_client.calls.items import ItemCalls
from bitcell_client.calls.jobs import JobCalls
from bitcell_client.calls.queries import QueryCalls
from bitcell_client.calls.recommendations import RecommendationCalls


class Calls(
    CollectionCalls,
    ItemCalls,
    QueryCalls,
    EncoderCalls,
    JobCalls,
    RecommendationCalls,
    HealthCalls,
):
    """All calls."""


__all__ = ["Calls"]
