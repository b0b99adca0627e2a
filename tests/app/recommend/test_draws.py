"""A small version of `bench.recommend`: goals are reached on items that were held out."""

from __future__ import annotations

from bench.recommend import draws, run

_ITEMS = 900


def test_goals_are_reached_on_items_that_were_held_out() -> None:
    digits, _, clusters, text = draws(_ITEMS, rounds=1)
    for draw in (digits, clusters, text):
        found = run(draw, everything=False)
        assert found.claimed, found.answer
        assert found.reached, (found.answer, found.gain)
        ids = {*draw.seen.ids.tolist()} & {*draw.held_out.ids.tolist()}
        assert not ids
        assert len(draw.seen) + len(draw.held_out) == _ITEMS
