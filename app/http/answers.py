"""Large answers as JSON, put together without parsing the payloads in them.

Payloads are stored as compact JSON. They are copied into an answer as they are: parsing them, only
to write them again, would take several times the time and many times the memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from json.encoder import encode_basestring

from pydantic_core import to_json

from index import Certificate, Found, Item, Neighbour

_SURROGATE = b"\\ud"


def of_item(item: Item) -> bytes:
    """Return one item."""
    text = f'{{"id":{encode_basestring(item.id)},"code":"{item.code.hex()}"'
    if item.label is not None:
        text += f',"label":{item.label}'
    return b"".join([text.encode(), *_payload(item), b"}"])


def fewer_items(limit: int) -> str:
    """Return what to ask for instead of a page that is too large."""
    return f"ask for fewer items than `limit` = {limit}"


def of_items(items: Sequence[Item], n: int) -> bytes:
    """Return a page of items, of n in all."""
    listed = _with_commas(map(of_item, items))
    return b"".join([b'{"items":[', *listed, b'],"of":%d}' % n])


def of_query(found: Sequence[Found], *, codes: bool) -> bytes:
    """Return the neighbours and certificates of queries, with the queries' codes if asked for."""
    answers = (b"[%b]" % b",".join(map(_neighbour, one.neighbours)) for one in found)
    certificates = (_certificate(one.certificate) for one in found)
    parts = [b'{"results":[', *_with_commas(answers), b'],"certificates":[']
    parts += [*_with_commas(certificates), b"]"]
    if codes:
        parts += [b',"codes":', to_json([one.code.hex() for one in found if one.code is not None])]
    return b"".join([*parts, b"}"])


def _neighbour(near: Neighbour) -> bytes:
    text = f'{{"id":{encode_basestring(near.id)},"distance":{near.distance}'
    if near.label is not None:
        text += f',"label":{near.label}'
    rest = "}"
    if near.code is not None:
        rest = f',"code":"{near.code.hex()}"}}'
    if near.score is not None:
        rest = f',"score":{near.score!r}{rest}'
    return b"".join([text.encode(), *_payload(near), rest.encode()])


def _certificate(of: Certificate) -> bytes:
    exact = "true" if of.exact else "false"
    text = f'{{"exact":{exact},"radius":{of.radius},"looked":{of.looked},"tie":{of.tie}'
    if of.within is not None:
        truncated = "true" if of.truncated else "false"
        text += f',"within":{of.within},"truncated":{truncated}'
    if of.ranking is not None:
        text += f',"ranking":"{of.ranking}"'
    if of.error_bound is not None:
        text += f',"error_bound":{of.error_bound!r}'
    if of.confidence is not None:
        text += f',"confidence":{of.confidence!r},"reranked":{of.reranked}'
    return f"{text}}}".encode()


def _payload(of: Item | Neighbour) -> tuple[bytes, ...]:
    text = of.payload_json
    if text is None:
        return ()
    return b',"payload":', _without_lone_surrogates(text) if _SURROGATE in text else text


def _without_lone_surrogates(text: bytes) -> bytes:
    """Replace lone surrogates, which earlier versions stored, by U+FFFD: they are no Unicode."""
    whole = json.dumps(json.loads(text), ensure_ascii=False, separators=(",", ":"))
    return whole.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()


def _with_commas(elements: Iterable[bytes]) -> Iterator[bytes]:
    for place, element in enumerate(elements):
        if place:
            yield b","
        yield element
