"""When new items are tested, what is remembered, and what the service shows of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.database.embedded import EmbeddedState
from app.http.schemas import StatisticsOut
from app.main import create_app
from app.pools import Pool
from app.service.drift import watch
from app.service.drift.two_samples import Difference, differences
from app.service.drift.watch import LEAST_REFERENCE, REMEMBERED, WINDOW, Drift
from app.service.drift.watched import Watched
from bitcodes import Codes, pack
from index import Collection, Database, Full, InvalidItems, NotFound, Store
from tests.app.asgi_client import TestClient
from tests.app.conftest import NPY, npy, settings_in
from tests.app.service.test_operating_metrics import values

N_BITS = 16
HYPERPLANES = np.random.default_rng(9).normal(0, 1, (8, N_BITS))


def codes(n: int, seed: int, shift: float = 0) -> Codes:
    X = np.random.default_rng(seed).normal(shift, 1, (n, 8))
    return pack(X @ HYPERPLANES)


class Watching:
    """A collection and its drift in a database that can be opened again."""

    def __init__(self, path: Path) -> None:
        self.path, self.n = path, 0
        self.open()

    def open(self) -> None:
        self.database, self.pool = Database(self.path), Pool(1, "drift")
        self.store = Store(self.database)
        self.drift = Drift(EmbeddedState(self.database), self.store, self.pool)

    def close(self) -> None:
        self.pool.close(10)
        self.store.close()
        self.database.close()

    @property
    def collection(self) -> Collection:
        return self.store.get("c")

    def insert(self, n: int, seed: int, shift: float = 0) -> Any:
        self.collection.upsert(range(self.n, self.n + n), codes(n, seed, shift))
        self.n += n
        return self.drift.report(self.collection)

    def patch(self, ids: Sequence[int]) -> Any:
        self.collection.patch(ids, [{"label": 1}] * len(ids))
        return self.drift.report(self.collection)


@pytest.fixture
def watching(tmp_path: Path) -> Iterator[Watching]:
    watching = Watching(tmp_path / "c.db")
    watching.store.create("c", N_BITS)
    yield watching
    watching.close()


def test_new_items_are_tested_in_windows(watching: Watching) -> None:
    assert watching.insert(LEAST_REFERENCE - 1, 0) is None
    first = watching.insert(1, 1)
    assert (first["reference"], first["windows"], first["tests"]) == (LEAST_REFERENCE, 0, [])
    assert watching.insert(WINDOW - 1, 2)["waiting"] == WINDOW - 1
    second = watching.insert(1, 3)
    assert (second["windows"], second["waiting"], second["alarm"]) == (1, 0, False)
    assert [one["what"] for one in second["tests"]] == ["balance", "correlation", "nearest"]
    third = watching.insert(WINDOW, 4, shift=0.3)
    assert (third["windows"], third["alarms"], third["alarm"]) == (2, 1, True)
    balance = third["tests"][0]
    assert balance["alarm"]
    assert balance["p_value"] == 1 / 1000
    (bit,) = balance["bits"]
    shares = [
        np.unpackbits(codes(n, seed, shift), axis=1)[:, bit].mean()
        for n, seed, shift in ((LEAST_REFERENCE - 1, 0, 0), (WINDOW, 4, 0.3))
    ]
    assert (balance["before"], balance["after"]) == pytest.approx(shares, abs=0.01)
    assert watching.drift.alarms() == {"c": 1}
    # The alarm is shown until ten windows have followed.
    for seed in range(REMEMBERED - 1):
        last = watching.insert(WINDOW, 10 + seed)
        assert last["alarm"]
    assert last["tests"] == third["tests"]
    assert not watching.insert(WINDOW, 30)["alarm"]
    assert watching.drift.alarms() == {"c": 0}


def test_a_restart_changes_nothing(watching: Watching) -> None:
    watching.insert(LEAST_REFERENCE, 0)
    before = watching.insert(WINDOW, 1, shift=0.3)
    watching.close()
    watching.open()
    assert watching.drift.alarms() == {"c": 1}
    assert watching.drift.report(watching.collection) == before
    assert watching.insert(WINDOW, 2)["tested"] == 2


def test_a_full_disk_does_not_hide_the_result(
    watching: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    watching.insert(LEAST_REFERENCE, 0)

    def full() -> None:
        raise Full("the disk is full")

    new = range(LEAST_REFERENCE, LEAST_REFERENCE + WINDOW)
    watching.collection.upsert(new, codes(WINDOW, 1, shift=0.3))
    with monkeypatch.context() as patched:
        patched.setattr(watching.database, "transaction", full)
        shown = watching.drift.report(watching.collection)
    assert shown is not None
    assert shown["alarm"]
    # What is not on disk is tested again by the next process.
    watching.close()
    watching.open()
    report = watching.drift.report(watching.collection)
    assert report is not None
    assert (report["tested"], report["alarm"]) == (1, True)


def test_a_data_directory_without_references_gets_one(watching: Watching) -> None:
    watching.collection.upsert(range(3000), codes(3000, 0))
    with watching.database.transaction() as connection:
        connection.execute("DROP TABLE drift")  # As in a directory of an earlier version.
    watching.close()
    watching.open()
    report = watching.drift.report(watching.collection)
    assert report is not None
    assert (report["reference"], report["waiting"]) == (2048, 0)


def test_a_reference_of_deleted_items_is_taken_again(watching: Watching) -> None:
    watching.insert(LEAST_REFERENCE, 0)
    watching.insert(3 * WINDOW, 1)
    watching.collection.delete(range(900))
    assert watching.insert(WINDOW, 2)["tested"] == 2
    watching.collection.delete(range(900, 1001))
    again = watching.insert(WINDOW, 3)
    # It holds the items that would have been the third window.
    assert (again["tested"], again["windows"], again["reference"]) == (2, 2, 2048)
    assert watching.insert(WINDOW, 4)["tested"] == 3


def test_patched_items_are_not_new(watching: Watching) -> None:
    watching.insert(LEAST_REFERENCE, 0)
    watching.insert(WINDOW, 1)
    # Of one kind, which would raise an alarm if they were new.
    alike = np.flatnonzero(watching.collection.codes(range(watching.n))[:, 0] & 1).tolist()
    assert len(alike) > WINDOW
    after = watching.patch(alike)
    assert (after["tested"], after["alarms"], after["waiting"]) == (1, 0, 0)
    # In turns with new items, of which some are patched before they are tested.
    assert watching.insert(WINDOW - 100, 2)["waiting"] == WINDOW - 100
    watching.patch(range(500, 600))
    waiting = watching.patch(range(watching.n - 300, watching.n))
    assert (waiting["tested"], waiting["waiting"]) == (1, WINDOW - 100)
    watching.close()
    watching.open()
    assert watching.patch(alike)["waiting"] == WINDOW - 100
    watching.close()
    watching.open()
    assert watching.insert(99, 3)["tested"] == 1
    assert watching.insert(1, 3)["tested"] == 2
    assert watching.drift.report(watching.collection) == watching.insert(0, 0)


def test_patches_of_all_items_change_nothing(watching: Watching) -> None:
    watching.insert(LEAST_REFERENCE, 0)
    before = watching.insert(WINDOW, 1, shift=0.3)
    for _ in range(2):
        for first in range(0, watching.n, 500):
            watching.patch(range(first, first + 500))
        assert watching.drift.report(watching.collection) == before
        watching.close()
        watching.open()
    rows = watching.database.read("SELECT count(*) FROM drift_patches")
    assert rows == [(0,)]  # Followed patches are deleted.
    # The reference has the codes that it had: other items differ from them as before.
    after = watching.insert(WINDOW, 1, shift=0.3)
    assert (after["alarms"], after["reference"]) == (2, LEAST_REFERENCE)
    assert after["tests"][0]["before"] == before["tests"][0]["before"]


@pytest.mark.parametrize("is_restarted", [False, True])
def test_the_reference_follows_its_items(watching: Watching, is_restarted: bool) -> None:
    watching.insert(LEAST_REFERENCE, 0)
    rng = np.random.default_rng(0)
    for n in rng.integers(1, 300, 20):
        ids = rng.choice(watching.n, n, replace=False).tolist()
        watching.patch(ids)
        watching.insert(int(n) // 10, int(n))
    if is_restarted:
        watching.close()
        watching.open()
    watching.patch(range(1500))  # More than a window, so that all patches are followed.
    ((text,),) = watching.database.read("SELECT watched FROM drift")
    watched = Watched.from_json(text)
    moment = watching.collection.moment()
    # Labels do not tell items apart: their codes and ids do.
    items, _ = watching.collection.items(0, watching.n)
    names = {int(s): int(item.id) for s, item in zip(moment.serials, items, strict=True)}
    assert sorted(names[s] for s in watched.reference) == list(range(LEAST_REFERENCE))
    new = moment.serials[watched.are_new(moment.serials)].tolist()
    assert sorted(names[s] for s in new) == list(range(LEAST_REFERENCE, watching.n))


def test_a_patch_that_fails_is_not_followed(watching: Watching) -> None:
    watching.insert(LEAST_REFERENCE, 0)
    with pytest.raises(NotFound):
        watching.patch([0, 9999])
    assert watching.database.read("SELECT * FROM drift_patches") == []
    assert watching.patch([0])["waiting"] == 0


def test_followed_patches_that_are_not_deleted_do_not_count_again(
    watching: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    watching.insert(LEAST_REFERENCE, 0)
    watching.patch(range(100))

    def full(collection: Collection, before: int) -> None:
        raise Full("the disk is full")

    count = "SELECT count(*) FROM drift_patches"
    with monkeypatch.context() as patched:
        patched.setattr(Collection, "forget_patches", full)
        report = watching.insert(WINDOW, 1)
        assert (report["tested"], report["waiting"]) == (1, 0)
    assert watching.database.read(count) == [(1,)]
    watching.close()
    watching.open()
    assert watching.drift.report(watching.collection) == report
    assert watching.patch(range(50))["waiting"] == 0
    report = watching.insert(WINDOW, 2)
    assert (report["tested"], report["waiting"]) == (2, 0)
    assert watching.database.read(count) == [(0,)]


def test_a_patch_during_a_test_is_followed_later(
    watching: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    watching.insert(LEAST_REFERENCE, 0)

    def meanwhile(*given: Any, **options: Any) -> list[Difference]:
        watching.collection.patch(range(LEAST_REFERENCE), [{"label": 1}] * LEAST_REFERENCE)
        return differences(*given, **options)

    with monkeypatch.context() as patched:
        patched.setattr(watch, "differences", meanwhile)
        first = watching.insert(WINDOW, 1)
    assert (first["tested"], first["waiting"]) == (1, 0)
    second = watching.insert(WINDOW, 2, shift=0.3)
    assert (second["tested"], second["reference"], second["alarm"]) == (2, LEAST_REFERENCE, True)


def test_items_that_are_written_again_and_again_are_few(watching: Watching) -> None:
    watching.insert(LEAST_REFERENCE, 0)
    for seed in range(30):
        watching.collection.upsert(range(100), codes(100, seed))
    report = watching.drift.report(watching.collection)
    assert report is not None
    assert (report["windows"], report["waiting"]) == (0, 3000)


def test_a_dropped_collection_leaves_nothing(watching: Watching) -> None:
    watching.insert(LEAST_REFERENCE, 0)
    watching.store.drop("c")
    watching.store.settle()
    assert watching.database.read("SELECT * FROM drift") == []
    assert watching.drift.alarms() == {}
    assert not watching.drift._watched
    assert watching.drift.report(watching.store.create("c", N_BITS)) is None


def test_rows_of_collections_that_are_being_deleted_are_not_read(watching: Watching) -> None:
    watching.insert(LEAST_REFERENCE, 0)
    with watching.database.transaction() as connection:
        # As after a crash, before the deletion in the background has reached the last table.
        connection.execute("UPDATE collections SET name = '/' || name")
    watching.close()
    watching.database = Database(watching.path)
    watching.store, watching.pool = Store(watching.database), Pool(1, "drift")
    with watching.database.exclusive():  # Keeps the deletion back.
        watching.drift = Drift(EmbeddedState(watching.database), watching.store, watching.pool)
    assert not watching.drift._watched


def test_estimated_codes_are_watched_too(watching: Watching) -> None:
    collection = watching.store.create("e", N_BITS, metric="dot", encoder="e", fingerprint="f")
    plain = watching.store.create("plain", N_BITS)
    for first, n in ((0, LEAST_REFERENCE), (LEAST_REFERENCE, WINDOW)):
        ids, made = range(first, first + n), codes(n, first)
        factors = np.abs(np.random.default_rng(first).normal(0, 1, (n, 3))).astype(np.float32)
        collection.upsert(ids, made, factors=factors)
        plain.upsert(ids, made)
        report = watching.drift.report(collection)
        # Factors are not codes: the distances are those of the same codes without factors.
        assert report is not None
        assert report == watching.drift.report(plain)
    assert report is not None
    nearest = report["tests"][2]
    assert 0 < nearest["before"] <= N_BITS
    assert 0 < nearest["after"] <= N_BITS


def test_statistics_and_metrics_show_drift(tmp_path: Path) -> None:
    with TestClient(create_app(settings_in(tmp_path))) as client:
        client.post("/v1/collections", json={"name": "c", "n_bits": N_BITS})
        statistics = "/v1/collections/c/statistics"
        assert client.get(statistics).json()["drift"] is None
        assert ("bitcell_drift_alarms", "c") not in values(client)
        for first, n, shift in ((0, LEAST_REFERENCE, 0.0), (LEAST_REFERENCE, WINDOW, 0.4)):
            ids = np.arange(first, first + n)
            body = npy(codes(n, first, shift), ids)
            assert client.put("/v1/collections/c/items", content=body, headers=NPY).is_success
            # Takes the reference before more is written, and tests what was written since.
            assert client.get(statistics).json()["drift"] is not None
        found = StatisticsOut.model_validate_json(client.get(statistics).content).drift
        assert found is not None
        assert found.alarm
        assert values(client)["bitcell_drift_alarms", "c"] == 1
        accepted = client.post("/v1/collections/c/drift/reference")
        assert accepted.json() == client.get(statistics).json()["drift"]
        assert values(client)["bitcell_drift_alarms", "c"] == 0
        # Patched items are not waiting, over either route.
        items = "/v1/collections/c/items"
        assert client.patch(f"{items}/0", json={"label": 1}).is_success
        changes = {"items": [{"id": "0", "label": 2}, {"id": "2500", "label": 3}]}
        assert client.patch(items, json=changes).is_success
        assert client.get(statistics).json()["drift"]["waiting"] == 0
        app: Any = client.app
        drift = app.state.service.collections._drift
        assert drift._watched
        client.delete("/v1/collections/c")
        assert not drift._watched


def test_present_items_become_the_reference(watching: Watching) -> None:
    watching.insert(LEAST_REFERENCE, 0)
    assert watching.insert(2 * WINDOW, 1, shift=0.5)["alarm"]
    watching.drift.accept(watching.collection)
    accepted = watching.drift.report(watching.collection)
    assert accepted is not None
    assert (accepted["alarm"], accepted["windows"], accepted["waiting"]) == (False, 0, 0)
    assert (accepted["tested"], accepted["reference"]) == (1, 2048)
    # Half of the items are of each kind, and so is the reference.
    (watched,) = watching.drift._watched.values()
    assert 900 < np.sum(np.array(watched.reference) < LEAST_REFERENCE) < 1150
    # It is kept; a patch changes no reference; half of each kind is no drift, but one of them is.
    watching.close()
    watching.open()
    assert watching.drift.report(watching.collection) == accepted
    assert watching.patch(range(1500, 2500))["waiting"] == 0
    watching.insert(WINDOW // 2, 2)
    assert not watching.insert(WINDOW // 2, 3, shift=0.5)["alarm"]
    assert watching.insert(WINDOW, 4)["alarm"]


def test_a_reference_that_cannot_be_taken_changes_nothing(
    watching: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    watching.insert(LEAST_REFERENCE - 1, 0)
    with pytest.raises(InvalidItems, match="at least 2,000 items; collection 'c' has 1,999"):
        watching.drift.accept(watching.collection)
    watching.patch(range(100))
    assert watching.database.read("SELECT * FROM drift_patches") == []
    watching.insert(1, 1)
    before = watching.insert(WINDOW, 2, shift=0.5)

    def full() -> None:
        raise Full("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(watching.database, "transaction", full)
        with pytest.raises(Full):
            watching.drift.accept(watching.collection)
    assert watching.drift.report(watching.collection) == before
