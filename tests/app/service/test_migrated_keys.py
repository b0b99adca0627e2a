"""API keys of a data directory that are copied to a shared database, here one of SQLite."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from app.database.shared import SharedState
from app.database.tables import metadata
from app.service.keys import READ, Keys
from app.service.migration.places import copy_keys
from app.service.state.keys import SharedKeys


@pytest.fixture
def target(tmp_path: Path) -> Iterator[SharedKeys]:
    engine = create_engine(f"sqlite:///{tmp_path / 'target.db'}")
    metadata.create_all(engine)
    yield SharedKeys(SharedState(engine), required_here=False)
    engine.dispose()


def required(target: SharedKeys) -> bool:
    """Return whether another replica would find that keys are required."""
    return SharedKeys(target._state, required_here=False).required


@pytest.fixture
def secret(tmp_path: Path) -> str:
    """The secret of the only key of the source."""
    with closing(Keys(tmp_path)) as source:
        return source.create("camera", READ)[1]


def test_a_copied_key_that_was_revoked_stays_revoked(
    tmp_path: Path, target: SharedKeys, secret: str
) -> None:
    assert copy_keys(tmp_path, target, wanted=True) == "keys: 1 copied"
    found = target.find(secret)
    assert found is not None
    assert found.name == "camera"
    target.revoke(found.id)
    said = copy_keys(tmp_path, target, wanted=True)
    assert said.startswith("keys: not copied, because keys were copied or created there before")
    assert target.find(secret) is None
    assert required(target)


def test_keys_stay_required_where_they_are_not_copied(
    tmp_path: Path, target: SharedKeys, secret: str
) -> None:
    said = copy_keys(tmp_path, target, wanted=False)
    assert said.startswith("keys: required from now on, and not copied: copy them with --keys")
    assert required(target)
    assert not target.any()
    # None has been created there, so that they can still be copied.
    assert copy_keys(tmp_path, target, wanted=False) == said
    assert copy_keys(tmp_path, target, wanted=True) == "keys: 1 copied"
    assert target.find(secret) is not None


def test_no_key_is_copied_where_one_was_created(
    tmp_path: Path, target: SharedKeys, secret: str
) -> None:
    copy_keys(tmp_path, target, wanted=False)
    target.create("first", READ)
    assert copy_keys(tmp_path, target, wanted=True).startswith("keys: not copied")
    assert target.find(secret) is None
    assert required(target)


@pytest.mark.parametrize("wanted", [False, True])
def test_no_keys_are_required_where_none_were(
    wanted: bool, tmp_path: Path, target: SharedKeys
) -> None:
    assert copy_keys(tmp_path, target, wanted=wanted) == "keys: none to copy"
    assert not required(target)
