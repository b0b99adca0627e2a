"""A small version of `bench.recommend`: goals are reached on items that were held out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.datasets.dataset import Dataset
from app.recommend.goal import Goal
from app.recommend.pool import WITHOUT_LABELS
from bench import recommend
from bench.recommend import Draw, clusters, draw_of, draws, run

_ITEMS = 900


@pytest.fixture(scope="module")
def close(digits: Dataset) -> dict[str, Draw]:
    """Draws whose goals the methods come close to."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(recommend, "load_digits", lambda: digits)
        named = {draw.name: draw for draw in draws(_ITEMS, rounds=2)}
    some = clusters(_ITEMS, seed=0)
    return {
        "neighbours of digits": named["digits 1"],  # 95 % of them.
        "text": replace(named["text 1"], methods=("rabitq",)),
        "labels of digits": draw_of(
            "digits", named["digits 0"].seen, _ITEMS, Goal(within=2), 1, WITHOUT_LABELS
        ),
        "clusters": draw_of("clusters, k 1", some, _ITEMS, Goal(recall=0.9, k=1, rerank=100), 1),
    }


@pytest.mark.parametrize("name", ["neighbours of digits", "text", "labels of digits", "clusters"])
def test_goals_are_reached_on_items_that_were_held_out(name: str, close: dict[str, Draw]) -> None:
    draw = close[name]
    found = run(draw, everything=False)
    assert found.claimed, found.answer
    assert found.reached, (found.answer, found.gain)
    assert not {*draw.seen.ids.tolist()} & {*draw.held_out.ids.tolist()}
