"""A small version of `bench.recommend`: goals are reached on items that were held out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.recommend.goal import Goal
from app.recommend.pool import WITHOUT_LABELS
from bench.recommend import Draw, clusters, draw_of, draws, run

_ITEMS = 900
_DRAWS = {draw.name: draw for draw in draws(_ITEMS, rounds=2)}
_CLUSTERS = clusters(_ITEMS, seed=0)
_CLOSE = [
    _DRAWS["digits 1"],  # 95 % of the neighbours.
    replace(_DRAWS["text 1"], methods=("rabitq",)),
    draw_of("digits", _DRAWS["digits 0"].seen, _ITEMS, Goal(within=2), 1, WITHOUT_LABELS),
    draw_of("clusters, k 1", _CLUSTERS, _ITEMS, Goal(recall=0.9, k=1, rerank=100), 1),
]


@pytest.mark.parametrize("draw", _CLOSE, ids=lambda draw: draw.name)
def test_goals_are_reached_on_items_that_were_held_out(draw: Draw) -> None:
    found = run(draw, everything=False)
    assert found.claimed, found.answer
    assert found.reached, (found.answer, found.gain)
    assert not {*draw.seen.ids.tolist()} & {*draw.held_out.ids.tolist()}
