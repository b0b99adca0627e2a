"""A parsed filter as a tree of conditions, which each backend compiles to what it evaluates.

A tree is immutable and holds plain values only: no items, columns or masks.
"""

from __future__ import annotations

from dataclasses import dataclass

from index.filters.fields import Field
from index.filters.values import Test


@dataclass(frozen=True, slots=True)
class And:
    """All of some conditions."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """One of some conditions or more."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """What does not meet a condition."""

    part: Node


@dataclass(frozen=True, slots=True)
class OnId:
    """The id is one of these."""

    ids: frozenset[str]


@dataclass(frozen=True, slots=True)
class OnLabel:
    """The label, an integer, meets a test. An item without a label meets none."""

    test: Test


@dataclass(frozen=True, slots=True)
class OnField:
    """A field of the payload meets a test. A missing field meets none."""

    field: Field
    test: Test


Node = And | Or | Not | OnId | OnLabel | OnField
