"""What is recommended, checked on items that the recommendation has not seen."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Self

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from app.benchmark.averages import mean
from app.datasets.dataset import BadDataset, Dataset, Given, unlabelled
from app.recommend.data import Data
from app.recommend.goal import Goal
from app.recommend.measure import bounds
from app.recommend.pool import LENGTHS
from app.recommend.render import render
from app.recommend.run import Recommendation, recommend
from hashing import Hasher, InvalidInput
from hashing.methods.rabitq import RaBitQ
from tests.app.recommend.made import clusters, kinds, plain
from tests.average_precision import average_precision, average_precision_euclidean

SEEN, FRESH = clusters(700), clusters(400, seed=1)


STEPS: list[tuple[int, int]] = []
"""The progress of the recommendation `within`."""


@pytest.fixture(scope="module")
def within() -> Recommendation:
    STEPS.clear()  # Fixtures of a module can be set up several times in one process.
    return recommend(SEEN, Goal(within=2), lambda done, total, now: STEPS.append((done, total)))


@pytest.fixture(scope="module")
def recalled() -> Recommendation:
    return recommend(plain(), Goal(recall=0.9, k=5, rerank=40))


def test_the_code_is_within_the_points_on_fresh_items(within: Recommendation) -> None:
    found = within.result
    assert found["reached"]
    assert found["confirmed"]
    Q, X = FRESH.descriptors[:150], FRESH.descriptors[150:]
    labels = FRESH.labels[:150], FRESH.labels[150:]
    hasher = within.hasher
    of_code = average_precision(hasher.encode(Q), labels[0], hasher.encode(X), labels[1])
    raw = average_precision_euclidean(Q, labels[0], X, labels[1])
    assert mean(of_code - raw) >= -0.02
    recommended = found["recommended"]
    assert (hasher.method, hasher.n_bits) == (recommended["method"], recommended["n_bits"])
    assert recommended["collection"] == {
        "ranking": "hamming",
        "metric": None,
        "keep_descriptors": False,
    }


def test_the_answer_begins_with_one_sentence(within: Recommendation) -> None:
    found = within.result["recommended"]
    n_bits, value, gain = found["n_bits"], 100 * found["value"], 100 * found["gain"]
    times = 16 * 4 / found["bytes_per_item"]
    assert within.result["answer"] == (
        f"Use `{found['method']}` with {n_bits} bits: {value:.1f} % mAP, {gain:.1f} points above "
        f"raw, {times:.0f} times smaller."
    )
    assert "the goal is confirmed" in within.result["notes"][0]
    assert "took no part in the choice" in within.result["notes"][0]


def test_no_shorter_code_reaches_the_goal_by_the_table(within: Recommendation) -> None:
    rows = [row for row in within.result["candidates"] if "error" not in row]
    sizes = [row["bytes_per_item"] for row in rows if row["verdict"] == "reaches"]
    assert rows[0]["bytes_per_item"] == min(sizes)
    assert rows[0]["queries"] == within.result["dataset"]["choosing"]
    assert len({row["method"] for row in rows}) > 4
    # Candidates that lost early were measured with fewer queries.
    assert min(row["queries"] for row in rows) < rows[0]["queries"]
    for row in rows:
        assert row["gain_interval"][0] < row["gain"] < row["gain_interval"][1]


def test_the_runner_up_is_of_another_method_and_says_why(within: Recommendation) -> None:
    second = within.result["runner_up"]
    assert second["method"] != within.hasher.method
    assert second["why"].startswith(f"{second['method']}, {second['n_bits']} bits ")
    assert re.search(r"points of mAP \(95 % interval \S+ to \S+\)", second["why"])


def test_the_neighbours_are_found_on_fresh_queries(recalled: Recommendation) -> None:
    found = recalled.result
    assert found["confirmed"], found["answer"]
    X, Q = plain().descriptors, plain(200, seed=5).descriptors
    true = np.argsort(((Q[:, None] - X) ** 2).sum(axis=2), axis=1)[:, :5]
    hasher = recalled.hasher
    if isinstance(hasher, RaBitQ):
        distances = hasher.estimate(Q, hasher.encode(X), hasher.factors(X))
    else:
        different = hasher.encode(Q)[:, None] ^ hasher.encode(X)
        distances = np.bitwise_count(different).sum(axis=2).astype(float)
    first = np.argsort(distances, axis=1, kind="stable")[:, :40]
    recall = np.mean([np.isin(a, b).mean() for a, b in zip(true, first, strict=True)])
    assert recall >= 0.9
    assert "% of the 5 nearest neighbours found, codes " in found["answer"]
    assert found["answer"].endswith(" times smaller than the descriptors, which are kept too.")


def test_the_settings_of_collection_and_queries_follow_from_the_method() -> None:
    estimated = recommend(
        plain(400), Goal(recall=0.9, rerank=60, distance="cosine"), methods=["rabitq"]
    ).result["recommended"]
    assert estimated["collection"] == {
        "ranking": "estimate",
        "metric": "cosine",
        "keep_descriptors": "float32",
    }
    assert estimated["query"] == {"rerank": 60, "rerank_by": "cosine"}
    assert estimated["bytes_per_item"] == estimated["n_bits"] // 8 + 12
    bare = recommend(plain(400), Goal(bytes=20, rerank=0), methods=["rabitq"]).result
    assert bare["recommended"]["collection"]["keep_descriptors"] is False
    assert bare["recommended"]["query"] == {}
    assert bare["recommended"]["n_bits"] == 64


def test_the_best_code_of_a_size_is_no_larger(within: Recommendation) -> None:
    found = recommend(SEEN, Goal(bytes=3)).result
    assert found["reached"]
    rows = [row for row in found["candidates"] if "error" not in row]
    assert max(row["bytes_per_item"] for row in rows) == 3
    full = [row for row in rows if row["queries"] == rows[0]["queries"]]
    assert rows[0]["value"] == max(row["value"] for row in full)
    assert found["runner_up"]["why"].count("worse by the choosing queries") == 1
    with pytest.raises(InvalidInput, match="rabitq needs at least 13"):
        recommend(SEEN, Goal(bytes=3), methods=["rabitq"])


def test_a_shorter_code_of_a_size_is_better_if_quality_falls_with_length() -> None:
    found = recommend(kinds(), Goal(bytes=6), methods=["itq"]).result
    value = {row["n_bits"]: row["value"] for row in found["candidates"]}
    assert max(value, key=value.__getitem__) < 32
    assert found["recommended"]["n_bits"] == max(value, key=value.__getitem__)
    assert found["recommended"]["value"] > max(value[32], value[48]) + 0.05


def test_a_goal_out_of_reach_is_said_plainly() -> None:
    found = recommend(plain(300), Goal(recall=0.99, rerank=0), methods=["sign"], max_bits=16).result
    assert found["answer"].startswith(
        "No candidate reaches the goal, 99 % of the 10 nearest neighbours; the nearest is `sign` "
    )
    assert not found["reached"]
    assert found["recommended"] is None
    assert found["nearest"]["method"] == "sign"
    assert "problem" in render(found)


def test_queries_are_never_seen_in_training(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[NDArray[Any], Any]] = []
    fit = Hasher.fit

    def spy(self: Hasher, X: ArrayLike, y: Any = None, privileged: Any = None) -> Hasher:
        seen.append((np.asarray(X), y))
        return fit(self, X, y, privileged)

    monkeypatch.setattr(Hasher, "fit", spy)
    for dataset, goal in ((SEEN, Goal(within=2)), (plain(400), Goal(recall=0.9))):
        seen.clear()
        recommend(dataset, goal, methods=["itq"], max_bits=16)
        data = Data(dataset, goal, 10_000, 0)
        queries = np.concatenate([data.choosing.X, data.confirming.X])
        assert len(np.unique(queries, axis=0)) == len(queries) == 2 * (len(dataset) // 6)
        assert seen
        for X, y in seen:
            both = np.concatenate([np.unique(X, axis=0), queries])
            assert len(np.unique(both, axis=0)) == len(both)
            assert (y is None) == (goal.within is None)
        if goal.within is not None:
            # Nor are the items that they search.
            both = np.concatenate([data.X, data.database, queries])
            assert len(np.unique(both, axis=0)) == len(both) == len(dataset)


def test_choosing_among_many_does_not_make_a_goal_seem_reached() -> None:
    """Ten candidates that all just miss the goal: by their means one nearly always reaches it."""
    rng = np.random.default_rng(0)
    classes = np.zeros(80, np.int64)
    by_mean = by_bound = 0
    for _ in range(40):
        values = [rng.normal(-0.001, 0.2, 80) for _ in range(10)]
        by_mean += max(each.mean() for each in values) >= 0
        by_bound += max(bounds(each, classes, 0.05 / 10).low for each in values) >= 0
    assert by_mean >= 36
    assert by_bound <= 6  # 2 are expected; more than 6 have a probability of 0.3 %.


def test_a_net_takes_part_only_on_request(within: Recommendation) -> None:
    methods = {row["method"] for row in within.result["candidates"]}
    assert not {name for name in methods if "net" in name or "siamese" in name}


def test_the_same_data_and_seed_give_the_same() -> None:
    first, again = (recommend(plain(200), Goal(recall=0.5), methods=["lsh"]) for _ in range(2))
    assert again.hasher.fingerprint == first.hasher.fingerprint
    assert without_times(again.result) == without_times(first.result)


def without_times(result: dict[str, Any]) -> dict[str, Any]:
    rows = [
        {name: value for name, value in row.items() if "seconds" not in name}
        for row in result["candidates"]
    ]
    return {k: v for k, v in result.items() if k != "seconds"} | {"candidates": rows}


def test_progress_grows_to_its_end(within: Recommendation) -> None:
    assert all(done <= total for done, total in STEPS)
    shares = [done / total for done, total in STEPS]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert len({total for _, total in STEPS[1:]}) == 1


def test_without_time_it_says_what_was_not_tried() -> None:
    found = recommend(SEEN, Goal(within=0), methods=["lsh", "sign"], seconds=1e-9)
    assert found.result["notes"][-1].startswith("Not tried for lack of time: ")


def test_without_time_a_goal_that_was_missed_is_not_out_of_reach() -> None:
    goal = Goal(recall=0.99, rerank=0)
    found = recommend(plain(200), goal, methods=["sign", "lsh"], seconds=1e-9).result
    assert found["answer"].startswith("None of the candidates that were tried reaches the goal, ")


def test_only_the_sample_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    ptp = np.ptp

    def spy(X: NDArray[Any], **of: Any) -> Any:
        sizes.append(len(X))
        return ptp(X, **of)

    monkeypatch.setattr(np, "ptp", spy)
    Data(plain(), Goal(recall=0.8), 120, 0)
    assert sizes == [120]


def test_queries_of_the_datasets_own_are_used() -> None:
    own = plain(240, seed=3).descriptors
    data = plain(500)
    given = replace(data, given=Given(own, None, "cosine"))
    found = recommend(given, Goal(recall=0.8), methods=["sign"]).result
    assert found["dataset"]["database"] == 500
    assert found["dataset"]["choosing"] == 120
    assert found["goal"]["distance"] == "cosine"


def test_a_sample_is_said_to_be_one() -> None:
    found = recommend(plain(600), Goal(recall=0.8), methods=["sign"], n_items=300).result
    assert "Measured on 300 of 600 items." in " ".join(found["notes"])
    assert "recall is lower" in " ".join(found["notes"])


def test_the_page_escapes_names(within: Recommendation) -> None:
    result = within.result | {"dataset": within.result["dataset"] | {"name": "<b>mine</b>"}}
    page = render(result)
    assert "<b>mine" not in page
    assert "&lt;b&gt;mine&lt;/b&gt;" in page
    assert result["answer"].replace("`", "") in page
    assert page.count("<tr>") == 1 + len([r for r in result["candidates"] if "error" not in r])


def changed(**fields: Any) -> Dataset:
    return replace(SEEN, **fields)


class Few:
    """A part of a dataset."""

    def __new__(cls, n: int) -> Self | Dataset:  # type: ignore[misc]
        return Dataset(SEEN.name, SEEN.descriptors[:n], SEEN.labels[:n], SEEN.ids[:n])


@pytest.mark.parametrize(
    ("dataset", "goal", "message"),
    [
        (Few(60), Goal(within=2), "needs at least 100 labelled items, got 60"),
        (Few(60), Goal(recall=0.9), "needs at least 100 items, got 60"),
        (
            changed(descriptors=np.ones_like(SEEN.descriptors)),
            Goal(recall=0.9),
            "needs descriptors that differ: all 700 are equal",
        ),
        (
            changed(labels=np.zeros(700, np.int64)),
            Goal(within=2),
            "needs at least two classes with 4 labelled items each: 1 class has labels",
        ),
        (
            changed(labels=np.full(700, -1)),
            Goal(within=2),
            "needs labels: no item has one; the goal recall needs no labels",
        ),
        (
            changed(labels=np.where(np.arange(700) < 50, SEEN.labels, -1)),
            Goal(bytes=4),
            "needs at least 100 labelled items, got 50",
        ),
        (plain(150), Goal(recall=0.9, k=150), "k must be at most 149"),
    ],
)
def test_bad_data_is_answered_with_what_is_needed(
    dataset: Dataset, goal: Goal, message: str
) -> None:
    with pytest.raises(InvalidInput, match=re.escape(message)):
        recommend(dataset, goal)


def test_goals_of_map_need_one_label_for_each_item() -> None:
    sets = np.eye(4, dtype=bool)[SEEN.labels]
    several = replace(SEEN, labels=np.full(len(SEEN), -1), label_sets=sets)
    with pytest.raises(BadDataset, match="several labels each; a recommendation needs one each"):
        recommend(several, Goal(within=2))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "expected one goal: within"),
        ({"within": 1, "bytes": 2}, "got 2 of them"),
        ({"within": -1}, "within must be from 0 to 100"),
        ({"within": True}, "within must be a number"),
        ({"recall": 1.0}, "less than 1, got 1.0"),
        ({"recall": float("nan")}, "recall must be a number"),
        ({"bytes": 0}, "bytes must be from 1"),
        ({"recall": 0.9, "k": 0}, "k must be from 1"),
        ({"recall": 0.9, "rerank": -1}, "rerank must be from 0"),
        (
            {"recall": 0.5, "k": 50, "rerank": 5},
            "at least k, the neighbours to find, or 0 for none",
        ),
        ({"bytes": 8, "k": 201}, "got rerank 200 and k 201"),
        ({"recall": 0.9, "distance": "dot"}, "must be euclidean or cosine, got 'dot'"),
    ],
)
def test_bad_goals_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(message)):
        Goal(**fields)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": ["md5"]}, "there is no method 'md5'"),
        ({"methods": ["sdh"]}, "sdh learns from labels, which this goal does not use"),
        ({"max_bits": 4}, f"max_bits must be from 8 to {LENGTHS[-1]}"),
        ({"n_items": 10}, "items must be from 100"),
        ({"seconds": -1}, "seconds must be a number above 0, got -1"),
        ({"seconds": float("nan")}, "seconds must be a number above 0, got nan"),
        ({"methods": ["pcah"], "max_bits": 512}, None),
    ],
)
def test_limits_are_checked(options: dict[str, Any], message: str | None) -> None:
    if message is None:  # Lengths that a method cannot give are in the table, with the reason.
        found = recommend(plain(200), Goal(recall=0.99, rerank=0), **options).result
        assert [row["error"] for row in found["candidates"] if "error" in row]
        return
    with pytest.raises(InvalidInput, match=re.escape(message)):
        recommend(plain(200), Goal(recall=0.9), **options)


def test_no_candidate_that_fits_is_an_error() -> None:
    narrow = unlabelled("narrow", np.random.default_rng(0).standard_normal((200, 3)))
    with pytest.raises(InvalidInput, match="no candidate can be measured: "):
        recommend(narrow, Goal(recall=0.9), methods=["sign"])
