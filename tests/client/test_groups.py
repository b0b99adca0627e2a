"""Groups of near-duplicates, as the client reads them."""

from __future__ import annotations

import httpx2
import numpy as np
import pytest

from bitcell_client.call import as_npy
from bitcell_client.groups import DuplicateGroup, DuplicateGroups, read_groups

IDS = np.array(["a", "b", "c", "x", "y"])
GROUP = np.array([0, 0, 0, 1, 1])
PAIRS = np.array([[0, 1, 2], [1, 2, 1], [3, 4, 0]])


def test_groups_are_sequences_with_the_ids_of_their_pairs() -> None:
    groups = read_groups(httpx2.Response(200, content=as_npy(IDS, GROUP, PAIRS)))
    first = DuplicateGroup(["a", "b", "c"], [("a", "b", 2), ("b", "c", 1)])
    second = DuplicateGroup(["x", "y"], [("x", "y", 0)])
    assert list(groups) == [first, second]
    assert groups[-1] == second
    assert groups[1:] == [second]
    assert repr(groups) == "<2 groups of 5 items with 3 pairs>"
    with pytest.raises(IndexError):
        groups[2]


def test_without_groups_there_is_nothing() -> None:
    groups = DuplicateGroups(IDS[:0], GROUP[:0], PAIRS[:0])
    assert list(groups) == []


@pytest.mark.parametrize(
    "content",
    [
        b"[]",
        as_npy(IDS, GROUP),
        as_npy(IDS, GROUP[1:], PAIRS),
        as_npy(IDS, GROUP + 1, PAIRS),
        as_npy(IDS, GROUP * 2, PAIRS),
        as_npy(IDS, GROUP, PAIRS + 1),
        as_npy(IDS, GROUP, PAIRS[:, :2]),
        as_npy(IDS, GROUP.astype(float), PAIRS),
        as_npy(IDS, GROUP, PAIRS)[:-1],
        as_npy(IDS, GROUP, PAIRS, PAIRS),
    ],
)
def test_anything_else_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"expected|magic"):
        read_groups(httpx2.Response(200, content=content))
