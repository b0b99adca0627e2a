"""Large answers as JSON, put together without parsing the payloads in them.

Payloads are stored as compact JSON. They are copied into an answer as they are: parsing them, only
to write them again, would take several times the time and many times the memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from json.encoder import encode_basestring

from pydantic_core import to_json

from app.service.measured.calibrations import NO_MEANING, Meaning
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


def of_query(found: Sequence[Found], meaning: Meaning = NO_MEANING, *, codes: bool) -> bytes:
    """Return the neighbours and certificates of queries, with the queries' codes if asked for.

    `meaning` adds angles to neighbours, and what they and the radius rest on to certificates.
    """
    angles, of_all = _angles(meaning), _meaning(meaning)
    answers = (
        b"[%b]" % b",".join([_neighbour(near, angles) for near in one.neighbours]) for one in found
    )
    certificates = (_certificate(one.certificate, of_all) for one in found)
    parts = [b'{"results":[', *_with_commas(answers), b'],"certificates":[']
    parts += [*_with_commas(certificates), b"]"]
    if codes:
        parts += [b',"codes":', to_json([one.code.hex() for one in found if one.code is not None])]
    return b"".join([*parts, b"}"])


def _angles(meaning: Meaning) -> list[str] | None:
    """Return the fields of each distance."""
    if meaning.angles is None:
        return None
    of = meaning.angles.calibration
    ends = zip(of.value.tolist(), of.low.tolist(), of.high.tolist(), strict=True)
    return [
        f',"angle":{value:.6f},"angle_low":{low:.6f},"angle_high":{high:.6f}'
        for value, low, high in ends
    ]


def _meaning(meaning: Meaning) -> str:
    """Return what every certificate says."""
    text = ""
    if meaning.angles is not None:
        law, of = meaning.angles
        text = f',"calibration":{{"law":"{law}","level":{of.level},"pairs":{of.n_pairs}}}'
    if meaning.matches is not None:
        unrelated, found = meaning.matches
        text += (
            f',"false_matches":{{"radius":{found.radius},"rate":{found.rate!r},'
            f'"bound":{found.bound!r},"pairs":{found.n_pairs},"unrelated":"{unrelated}"}}'
        )
    return text


def _neighbour(near: Neighbour, angles: list[str] | None) -> bytes:
    text = f'{{"id":{encode_basestring(near.id)},"distance":{near.distance}'
    if near.label is not None:
        text += f',"label":{near.label}'
    rest = "}"
    if near.code is not None:
        rest = f',"code":"{near.code.hex()}"}}'
    if near.score is not None:
        rest = f',"score":{near.score!r}{rest}'
    if angles is not None:
        rest = f"{angles[near.distance]}{rest}"
    return b"".join([text.encode(), *_payload(near), rest.encode()])


def _certificate(of: Certificate, more: str) -> bytes:
    exact = "true" if of.exact else "false"
    looked, tie = ("null" if each is None else each for each in (of.looked, of.tie))
    text = f'{{"exact":{exact},"radius":{of.radius},"looked":{looked},"tie":{tie}'
    if of.within is not None:
        truncated = "true" if of.truncated else "false"
        text += f',"within":{of.within},"truncated":{truncated}'
    if of.ranking is not None:
        text += f',"ranking":"{of.ranking}"'
    if of.error_bound is not None:
        text += f',"error_bound":{of.error_bound!r}'
    if of.confidence is not None:
        text += f',"confidence":{of.confidence!r},"reranked":{of.reranked}'
    return f"{text}{more}}}".encode()


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
